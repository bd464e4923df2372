package storetest

import (
	"github.com/google/go-cmp/cmp"

	"piivault/internal/store"
)

func (s *suite) read() {
	s.wantState(ref(1), 0, nil)
	full := with(key(1), func(r *store.Record) {
		r.Expires, r.Subject, r.Missing = 1_800_000_000_000, "subject-hmac", []string{"eu-west-1", "us-east-1"}
		r.Message = []byte{0, 1, 0xff, '#'}
	})
	s.put(full)
	s.wantState(ref(1), 0, full)
	s.wantState(store.Ref{Tenant: "tenant-b", ID: id(1)}, 0, nil)
	s.wantState(store.Ref{Tenant: tenant, ID: id(1), Generations: true}, 0, full)
	states, err := s.s.Read(s.Context(), nil)
	if err != nil || len(states) != 0 {
		s.Errorf("read of nothing: %v %v", states, err)
	}
}

// readOrder: answers come in the order of the refs, more of them than fit one
// request of any store, some absent, some erased, some twice.
func (s *suite) readOrder() {
	const n = 130
	var records []*store.Record
	for i := range n {
		if i%3 != 0 {
			records = append(records, record(key(i)))
		}
	}
	s.put(records...)
	var gone []store.Key
	for i := 2; i < n; i += 3 {
		gone = append(gone, key(i))
	}
	s.buried(gone...)
	var refs []store.Ref
	var want []store.State
	for i := n - 1; i >= 0; i-- {
		for range 1 + i%2 {
			refs = append(refs, ref(i))
			want = append(want, [3]store.State{{}, {Record: record(key(i))}, {Generation: 1}}[i%3])
		}
	}
	got, err := s.s.Read(s.Context(), refs)
	s.must("read", err)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Error(diff)
	}
}

// readGenerations: the lowest generation without a tombstone, and its record.
func (s *suite) readGenerations() {
	deep := store.Ref{Tenant: tenant, ID: id(1), Generations: true}
	s.put(record(key(1)))
	s.wantState(deep, 0, record(key(1)))
	s.buried(key(1))
	s.wantState(deep, 1, nil)
	s.put(record(generation(1, 1)))
	s.wantState(deep, 1, record(generation(1, 1)))
	s.wantState(ref(1), 1, nil) // only deterministic types look past X#0
	s.buried(generation(1, 2))
	s.wantState(deep, 1, record(generation(1, 1)))
	s.buried(generation(1, 1))
	s.wantState(deep, 3, nil)
	s.put(record(generation(1, 4)))
	s.wantState(deep, 3, nil)
	s.put(record(generation(1, 3)))
	s.wantState(deep, 3, record(generation(1, 3)))

	other := store.Ref{Tenant: tenant, ID: id(2), Generations: true}
	states, err := s.s.Read(s.Context(), []store.Ref{other, deep, ref(1), deep})
	s.must("read", err)
	want := []store.State{{}, {Generation: 3, Record: record(generation(1, 3))}, {Generation: 1}, {Generation: 3, Record: record(generation(1, 3))}}
	if diff := cmp.Diff(want, states); diff != "" {
		s.Error(diff)
	}
}

// copies: what a caller does to a record it gave or got changes no other's.
func (s *suite) copies() {
	given := with(key(1), func(r *store.Record) { r.Missing = []string{"us-east-1"} })
	want := with(key(1), func(r *store.Record) { r.Missing = []string{"us-east-1"} })
	s.put(given)
	given.Message[0], given.Missing[0] = '!', "!"
	s.wantGet(key(1), want, false)
	for range 2 {
		states, err := s.s.Read(s.Context(), []store.Ref{ref(1), ref(1)})
		s.must("read", err)
		if diff := cmp.Diff(want, states[1].Record); diff != "" {
			s.Fatal(diff)
		}
		states[0].Record.Message[0], states[0].Record.Missing[0] = '!', "!"
		if diff := cmp.Diff(want, states[1].Record); diff != "" {
			s.Fatal(diff)
		}
	}
}

func (s *suite) get() {
	s.wantGet(key(1), nil, false)
	s.put(record(key(1)), record(generation(1, 1)))
	s.wantGet(key(1), record(key(1)), false)
	s.buried(key(1), key(2))
	s.wantGet(key(1), record(key(1)), true) // tombstoned or not
	s.wantGet(generation(1, 1), record(generation(1, 1)), false)
	s.wantGet(key(2), nil, true)
	s.wantGet(generation(2, 1), nil, false)
}

// seen: what an erasure must bury: every generation with an R or an L and no X.
func (s *suite) seen() {
	s.put(record(key(1)), record(generation(1, 2)), record(key(2)), record(key(3)))
	s.buried(key(2), generation(3, 1))
	s.wantSeen([]store.Ref{ref(1), ref(2), ref(3), ref(4)}, key(1), generation(1, 2), key(3))
	s.buried(key(1))
	s.wantSeen([]store.Ref{ref(1)}, generation(1, 2))
	s.wantSeen(nil)
	s.wantOutcomes([]store.New{{Record: record(key(5)), Links: []string{"ann", "bob"}}}, store.Inserted)
	s.wantSeen([]store.Ref{ref(5)}, key(5))
}

func (s *suite) wantSeen(refs []store.Ref, want ...store.Key) {
	s.Helper()
	got, err := s.s.Seen(s.Context(), refs)
	s.must("seen", err)
	set, wanted := map[store.Key]bool{}, map[store.Key]bool{}
	for _, k := range got {
		if set[k] {
			s.Errorf("%v is listed twice", k)
		}
		set[k] = true
	}
	for _, k := range want {
		wanted[k] = true
	}
	if diff := cmp.Diff(wanted, set); diff != "" {
		s.Error(diff)
	}
}
