package storetest

import (
	"github.com/google/go-cmp/cmp"
)

// beats: one a region, the last one written; nothing else shows them.
func (s *suite) beats() {
	s.wantBeats(map[string]int64{})
	s.must("beat", s.s.Beat(s.Context(), "eu-west-1", 1_700_000_000_000))
	s.must("beat", s.s.Beat(s.Context(), "us-east-1", 1_700_000_000_001))
	s.must("beat", s.s.Beat(s.Context(), "eu-west-1", 1_700_000_000_002))
	s.wantBeats(map[string]int64{"eu-west-1": 1_700_000_000_002, "us-east-1": 1_700_000_000_001})
	if s.s.Beat(s.Context(), "", 1) == nil {
		s.Error("a heartbeat of no region was taken")
	}
	for _, list := range []lister{
		s.s.Swept, s.listExpired(1 << 60), s.listDegraded("eu-west-1"), s.listSubject("eu-west-1"),
	} {
		s.wantList(list)
	}
	s.wantCounts(10, 0, nil)
	// Nor do they show nor stop what is written beside them.
	s.put(record(key(1)), degradedRecord(key(2), "eu-west-1"))
	s.wantState(ref(1), 0, record(key(1)))
	s.wantCounts(10, 1, map[string]int{"eu-west-1": 1})
	s.wantBeats(map[string]int64{"eu-west-1": 1_700_000_000_002, "us-east-1": 1_700_000_000_001})
}

func (s *suite) wantBeats(want map[string]int64) {
	s.Helper()
	got, err := s.s.Beats(s.Context())
	s.must("beats", err)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("heartbeats %s", diff)
	}
}
