package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/store"
)

func (s *suite) insert() {
	first := record(key(1))
	s.put(first)
	s.buried(key(2))
	again := with(key(1), func(r *store.Record) { r.Message = []byte("another") })
	s.wantOutcomes([]store.New{{Record: again}, {Record: record(key(3))}, {Record: record(key(2))}, {Record: record(key(4))}},
		store.Exists, store.Inserted, store.Buried, store.Inserted)
	s.wantGet(key(1), first, false)
	s.wantGet(key(2), nil, true)
	s.wantGet(key(3), record(key(3)), false)

	got, err := s.s.Insert(s.Context(), []store.New{{Record: record(key(5))}, {Record: record(key(5))}})
	s.must("insert a key twice", err)
	slices.Sort(got)
	if !slices.Equal(got, []store.Outcome{store.Inserted, store.Exists}) {
		s.Errorf("a key twice in a batch: %v", got)
	}
	if got, err := s.s.Insert(s.Context(), nil); err != nil || len(got) != 0 {
		s.Errorf("nothing to insert: %v %v", got, err)
	}
}

func (s *suite) insertLinks() {
	s.wantOutcomes([]store.New{{Record: record(key(1)), Links: []string{"ann", "bob"}}}, store.Inserted)
	s.wantList(s.listSubject("ann"), key(1))
	s.wantOutcomes([]store.New{{Record: record(key(1)), Links: []string{"eve", "ann"}}}, store.Exists)
	s.wantList(s.listSubject("eve"), key(1))
	s.wantList(s.listSubject("ann"), key(1))
	s.buried(key(2))
	s.wantOutcomes([]store.New{{Record: record(key(2)), Links: []string{"zoe"}}}, store.Buried)
	s.wantList(s.listSubject("zoe"))
	s.wantGet(key(1), record(key(1)), false)
}

// insertFresh: a fresh record that is inserted again, as after an error, is
// there once and whole, whichever outcome is told.
func (s *suite) insertFresh() {
	r := with(key(1), func(r *store.Record) { r.Subject, r.Missing = "ann", []string{"us-east-1"} })
	for _, copies := range []int{1, 2, 1} {
		got, err := s.s.Insert(s.Context(), slices.Repeat([]store.New{{Record: r, Fresh: true}}, copies))
		s.must("insert", err)
		for _, o := range got {
			if o != store.Inserted && o != store.Exists {
				s.Errorf("outcome %v", o)
			}
		}
		s.wantGet(key(1), r, false)
		s.wantList(s.listSubject("ann"), key(1))
		s.wantList(s.listDegraded("us-east-1"), key(1))
	}
}

// insertUnburied: G9: a record put under a tombstone that its writer did not
// know of is erased, and swept.
func (s *suite) insertUnburied() {
	s.buried(key(1))
	got, err := s.s.Insert(s.Context(), []store.New{
		{Record: record(key(1)), Links: []string{"ann"}, Unburied: true}, {Record: record(key(2)), Links: []string{"ann"}, Unburied: true},
	})
	s.must("insert", err)
	if len(got) != 2 || got[0] != store.Inserted && got[0] != store.Buried || got[1] != store.Inserted {
		s.Errorf("outcomes %v", got)
	}
	s.wantState(ref(1), 1, nil)
	s.wantState(ref(2), 0, record(key(2)))
	if got[0] == store.Inserted {
		s.wantList(s.s.Swept, key(1))
	}
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(1)}))
	s.wantGet(key(1), nil, true)
	s.wantList(s.listSubject("ann"), key(2))
}

// insertRace: of concurrent inserts of a key exactly one is Inserted, and its
// record is what everybody reads.
func (s *suite) insertRace() {
	const workers = 16
	outcomes := make([]store.Outcome, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			r := with(key(1), func(r *store.Record) { r.Message = fmt.Append(nil, "writer ", i) })
			got, err := s.s.Insert(s.Context(), []store.New{{Record: r}})
			if err != nil || len(got) != 1 {
				s.Errorf("insert: %v %v", got, err)
				return
			}
			outcomes[i] = got[0]
		})
	}
	wg.Wait()
	winner := slices.Index(outcomes, store.Inserted)
	for i, o := range outcomes {
		if i != winner && o != store.Exists {
			s.Fatalf("outcomes %v: want one Inserted, all others Exists", outcomes)
		}
	}
	s.wantGet(key(1), with(key(1), func(r *store.Record) { r.Message = fmt.Append(nil, "writer ", winner) }), false)
}

// largeBatch is of the largest size that the API takes, with one large message.
func (s *suite) largeBatch() {
	const n = 500
	records := make([]*store.Record, n)
	refs := make([]store.Ref, n)
	for i := range records {
		records[i], refs[i] = record(key(i)), ref(i)
	}
	records[7].Message = bytes.Repeat([]byte("64 KiB, encrypted: "), 4000)
	s.put(records...)
	states, err := s.s.Read(s.Context(), refs)
	s.must("read", err)
	for i, state := range states {
		if diff := cmp.Diff(records[i], state.Record); diff != "" {
			s.Fatalf("record %d: %s", i, diff)
		}
	}
}

func (s *suite) bury() {
	s.put(record(key(1)), record(key(2)))
	s.buried(key(1), key(3), key(1))
	s.buried(key(1))
	s.buried()
	s.wantState(ref(1), 1, nil)
	s.wantState(ref(2), 0, record(key(2)))
	s.wantState(ref(3), 1, nil)
	s.wantOutcomes([]store.New{{Record: record(key(1))}, {Record: record(key(3))}}, store.Buried, store.Buried)
	s.wantGet(key(3), nil, true)
	s.wantGet(store.Key{Tenant: "tenant-b", ID: id(1)}, nil, false)
}

// buryRace: G9: whichever comes first, the record is erased in the end, and an
// insert that found it buried has written nothing.
func (s *suite) buryRace() {
	for n := range 20 {
		var outcome []store.Outcome
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if outcome, err = s.s.Insert(s.Context(), []store.New{{Record: record(key(n))}}); err != nil {
				s.Errorf("insert: %v", err)
			}
		})
		wg.Go(func() {
			if err := s.s.Bury(s.Context(), []store.Key{key(n)}); err != nil {
				s.Errorf("bury: %v", err)
			}
		})
		wg.Wait()
		s.wantState(ref(n), 1, nil)
		switch {
		case len(outcome) == 1 && outcome[0] == store.Inserted:
			s.wantGet(key(n), record(key(n)), true)
		case len(outcome) == 1 && outcome[0] == store.Buried:
			s.wantGet(key(n), nil, true)
		default:
			s.Fatalf("outcome %v", outcome)
		}
	}
}

func (s *suite) replace() {
	old := with(key(1), func(r *store.Record) { r.Missing = []string{"us-east-1"}; r.Subject = "ann"; r.Expires = 5000 })
	next := with(key(1), func(r *store.Record) {
		r.Message, r.RingEpoch, r.Subject, r.Expires = []byte("repaired"), 8, "ann", 5000
	})
	s.put(old)
	s.must("replace", s.s.Replace(s.Context(), old, next))
	s.wantGet(key(1), next, false)
	s.wantList(s.listDegraded("us-east-1"))
	s.wantList(s.listSubject("ann"), key(1))
	s.wantList(s.listExpired(5000), key(1))
}

// replaceConflicts: anything but exactly old, live, is a conflict, and nothing is written.
func (s *suite) replaceConflicts() {
	old := with(key(1), func(r *store.Record) { r.Missing = []string{"us-east-1"} })
	s.put(old, record(key(2)))
	s.buried(key(2))
	change := func(f func(*store.Record)) *store.Record {
		r := with(key(1), func(r *store.Record) { r.Missing = []string{"us-east-1"} })
		f(r)
		return r
	}
	for name, stale := range map[string]*store.Record{
		"message": change(func(r *store.Record) { r.Message = []byte("x") }),
		"type":    change(func(r *store.Record) { r.Type = "phone" }),
		"created": change(func(r *store.Record) { r.Created++ }),
		"expires": change(func(r *store.Record) { r.Expires = 1 }),
		"subject": change(func(r *store.Record) { r.Subject = "ann" }),
		"epoch":   change(func(r *store.Record) { r.RingEpoch++ }),
		"home":    change(func(r *store.Record) { r.Home = "us-east-1" }),
		"missing": change(func(r *store.Record) { r.Missing = nil }),
		"absent":  record(key(3)),
		"buried":  record(key(2)),
		"another": record(generation(1, 1)),
	} {
		next := with(stale.Key, func(r *store.Record) { r.Message = []byte("repaired") })
		if err := s.s.Replace(s.Context(), stale, next); !errors.Is(err, store.ErrConflict) {
			s.Errorf("%s: %v", name, err)
		}
	}
	s.wantGet(key(1), old, false)
	s.wantGet(key(2), record(key(2)), true)
	s.wantGet(key(3), nil, false)
	s.wantGet(generation(1, 1), nil, false)
}

// replaceRace: of concurrent repairs of one record exactly one wins.
func (s *suite) replaceRace() {
	old := record(key(1))
	s.put(old)
	const workers = 8
	won := make([]bool, workers)
	repaired := func(i int) *store.Record {
		return with(key(1), func(r *store.Record) { r.Message = fmt.Append(nil, "repaired by ", i) })
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			err := s.s.Replace(s.Context(), old, repaired(i))
			won[i] = err == nil
			if err != nil && !errors.Is(err, store.ErrConflict) {
				s.Errorf("replace: %v", err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(won, true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		s.Fatalf("winners %v, want one", won)
	}
	s.wantGet(key(1), repaired(winner), false)
}

// delete: G9: what has no tombstone stays, and the tombstone stays always.
func (s *suite) delete() {
	s.wantOutcomes([]store.New{
		{Record: record(key(1)), Links: []string{"ann", "bob"}},
		{Record: record(generation(1, 1)), Links: []string{"ann"}},
		{Record: record(key(2)), Links: []string{"ann"}},
	}, store.Inserted, store.Inserted, store.Inserted)
	s.buried(key(1), key(9))
	for range 2 {
		s.must("delete", s.s.Delete(s.Context(), []store.Key{key(1), key(2), key(9), key(8)}))
		s.wantGet(key(1), nil, true)
		s.wantGet(generation(1, 1), record(generation(1, 1)), false)
		s.wantGet(key(2), record(key(2)), false)
		s.wantGet(key(9), nil, true)
		s.wantGet(key(8), nil, false)
		s.wantList(s.listSubject("ann"), generation(1, 1), key(2))
		s.wantList(s.listSubject("bob"))
	}
	s.wantOutcomes([]store.New{{Record: record(key(1))}}, store.Buried)
	s.must("delete nothing", s.s.Delete(s.Context(), nil))
}
