package storetest

import (
	"context"
	"errors"
	"slices"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/store"
)

// listScan is the keys of a whole scan, segment by segment. A cursor that
// leads to another segment begins with its number.
func (s *suite) listScan(segments int, below uint64) lister {
	return func(ctx context.Context, p store.Page) ([]store.Key, string, error) {
		segment, after := 0, p.After
		if after != "" {
			segment, after = int(after[0]-'a'), after[1:]
		}
		rows, next, err := s.s.Scan(ctx, store.Part{Segment: segment, Segments: segments, Below: below}, store.Page{After: after, Limit: p.Limit})
		var keys []store.Key
		for _, r := range rows {
			keys = append(keys, r.Key)
		}
		switch {
		case next != "":
			next = string(rune('a'+segment)) + next
		case segment+1 < segments:
			next = string(rune('a' + segment + 1))
		}
		return keys, next, err
	}
}

// scan: what is listed, and what is told of it.
func (s *suite) scan() {
	epoch := func(k store.Key, e uint64) *store.Record {
		return with(k, func(r *store.Record) { r.RingEpoch = e })
	}
	odd := with(key(1), func(r *store.Record) {
		r.RingEpoch, r.Expires, r.Missing = 3, 1_900_000_000_000, []string{"eu-west-1", "us-east-1"}
	})
	s.wantList(s.listScan(1, 0))
	s.put(odd, epoch(key(2), 4), epoch(generation(2, 1), 5), record(key(3)))
	s.wantOutcomes([]store.New{{Record: epoch(key(4), 5), Links: []string{"ann"}}}, store.Inserted)
	s.buried(key(3), key(9))
	s.must("beat", s.s.Beat(s.Context(), "eu-west-1", 1))
	s.wantList(s.listScan(1, 0), key(1), key(2), generation(2, 1), key(3), key(4))
	s.wantList(s.listScan(1, 5), key(1), key(2))
	s.wantList(s.listScan(1, 4), key(1))
	s.wantList(s.listScan(1, 3))
	s.eventually(func() string {
		rows, _, err := s.s.Scan(s.Context(), store.Part{Segments: 1, Below: 4}, store.Page{Limit: 100})
		s.must("scan", err)
		return cmp.Diff([]store.Row{{Key: odd.Key, RingEpoch: 3, Expires: odd.Expires, Missing: odd.Missing}}, rows)
	})
	moved := epoch(key(2), 5)
	s.must("replace", s.s.Replace(s.Context(), epoch(key(2), 4), moved))
	s.wantList(s.listScan(1, 5), key(1))
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(3)}))
	s.wantList(s.listScan(1, 0), key(1), key(2), generation(2, 1), key(4))
}

// scanSegments: every record is in one segment, whatever the pages.
func (s *suite) scanSegments() {
	const n = 40
	var want []store.Key
	var records []*store.Record
	for i := range n {
		k := key(i)
		if i%4 == 3 {
			k.Tenant = "tenant-b"
		}
		want, records = append(want, k), append(records, record(k))
	}
	s.put(records...)
	slices.Reverse(want)
	for _, segments := range []int{1, 2, 7} {
		s.wantList(s.listScan(segments, 0), want...)
		s.wantList(s.listScan(segments, 8), want...)
		s.wantList(s.listScan(segments, 7))
	}
	for _, bad := range []store.Part{{}, {Segment: -1, Segments: 2}, {Segment: 2, Segments: 2}} {
		if _, _, err := s.s.Scan(s.Context(), bad, store.Page{Limit: 1}); err == nil {
			s.Errorf("scanned segment %d of %d", bad.Segment, bad.Segments)
		}
	}
	if _, _, err := s.s.Scan(s.Context(), store.Part{Segments: 1}, store.Page{}); err == nil {
		s.Error("scanned without a limit")
	}
	for _, bad := range []string{"%", "=", "A", "\x00"} {
		if _, _, err := s.s.Scan(s.Context(), store.Part{Segments: 1}, store.Page{After: bad, Limit: 1}); !errors.Is(err, store.ErrCursor) || errors.Is(err, store.ErrUnavailable) {
			s.Errorf("scanned after %q: %v", bad, err)
		}
	}
}
