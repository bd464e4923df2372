package storetest

import (
	"fmt"

	"piivault/internal/store"
)

func (s *suite) bySubject() {
	named := func(k store.Key) *store.Record { return with(k, func(r *store.Record) { r.Subject = "ann" }) }
	other := named(store.Key{Tenant: "tenant-b", ID: id(1)})
	s.put(named(key(1)), record(key(2)), named(key(3)), other)
	s.wantOutcomes([]store.New{
		{Record: record(key(4)), Links: []string{"ann"}},
		{Record: named(key(5)), Links: []string{"ann"}}, // R and L name it: listed once
		{Record: record(generation(4, 1)), Links: []string{"ann"}},
		{Record: record(key(6)), Links: []string{"anna", "an"}},
	}, store.Inserted, store.Inserted, store.Inserted, store.Inserted)
	all := []store.Key{key(1), key(3), key(4), generation(4, 1), key(5)}
	s.wantList(s.listSubject("ann"), all...)
	s.wantList(s.listSubject("nobody"))
	s.buried(key(1), key(4))
	s.wantList(s.listSubject("ann"), all...) // those with a tombstone too
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(1), key(4)}))
	s.wantList(s.listSubject("ann"), key(3), generation(4, 1), key(5))
}

func degradedRecord(k store.Key, regions ...string) *store.Record {
	return with(k, func(r *store.Record) { r.Missing = regions })
}

func (s *suite) degraded() {
	s.put(record(key(1)), degradedRecord(key(2), "us-east-1"), degradedRecord(key(3), "eu-west-1", "us-east-1"),
		degradedRecord(generation(3, 1), "us-east-1"))
	s.wantList(s.listDegraded("us-east-1"), key(2), key(3), generation(3, 1))
	s.wantList(s.listDegraded("eu-west-1"), key(3))
	s.wantList(s.listDegraded("us-east"))
	s.must("replace", s.s.Replace(s.Context(), degradedRecord(key(3), "eu-west-1", "us-east-1"), degradedRecord(key(3), "us-east-1")))
	s.wantList(s.listDegraded("eu-west-1"))
	s.wantList(s.listDegraded("us-east-1"), key(2), key(3), generation(3, 1))
}

func (s *suite) countDegraded() {
	s.wantCounts(10, 0, map[string]int{"us-east-1": 0})
	for i := range 5 {
		s.put(degradedRecord(key(i), "eu-west-1", "us-east-1"), degradedRecord(key(10+i), "us-east-1"), record(key(20+i)))
	}
	s.wantCounts(100, 10, map[string]int{"us-east-1": 10, "eu-west-1": 5, "ap-south-1": 0})
	s.wantCounts(7, 7, map[string]int{"us-east-1": 7, "eu-west-1": 5})
	s.must("replace", s.s.Replace(s.Context(), degradedRecord(key(0), "eu-west-1", "us-east-1"), record(key(0))))
	s.wantCounts(100, 9, map[string]int{"us-east-1": 9, "eu-west-1": 4})
}

func (s *suite) wantCounts(limit, wantTotal int, want map[string]int) {
	s.Helper()
	s.eventually(func() string {
		per, total, err := s.s.CountDegraded(s.Context(), limit)
		s.must("count", err)
		if total != wantTotal {
			return fmt.Sprintf("%d degraded records, want %d (limit %d)", total, wantTotal, limit)
		}
		for region, n := range want {
			if per[region] != n {
				return fmt.Sprintf("%d records miss %s, want %d (limit %d)", per[region], region, n, limit)
			}
		}
		return ""
	})
}

func (s *suite) expired() {
	at := func(k store.Key, ms int64) *store.Record {
		return with(k, func(r *store.Record) { r.Expires = ms })
	}
	s.put(record(key(1)), at(key(2), 1000), at(key(3), 2000), at(key(4), 1_900_000_000_000), at(generation(3, 1), 999))
	s.wantList(s.listExpired(998))
	s.wantList(s.listExpired(1000), key(2), generation(3, 1))
	s.wantList(s.listExpired(1999), key(2), generation(3, 1))
	s.wantList(s.listExpired(2000), key(2), key(3), generation(3, 1))
	s.buried(key(2))
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(2)}))
	s.wantList(s.listExpired(2000), key(3), generation(3, 1))
}

// swept: G9: whatever exists under a tombstone is found.
func (s *suite) swept() {
	s.wantOutcomes([]store.New{
		{Record: record(key(1))},
		{Record: record(key(2)), Links: []string{"ann", "bob"}},
		{Record: record(key(3)), Links: []string{"ann"}},
		{Record: record(generation(2, 1))},
	}, store.Inserted, store.Inserted, store.Inserted, store.Inserted)
	s.wantList(s.s.Swept)
	s.buried(key(1), key(2), generation(3, 1), key(4))
	s.wantList(s.s.Swept, key(1), key(2))
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(1)}))
	s.wantList(s.s.Swept, key(2))
	s.must("delete", s.s.Delete(s.Context(), []store.Key{key(2)}))
	s.wantList(s.s.Swept)
	s.buried(key(3))
	s.wantList(s.s.Swept, key(3))
}

// pages: a full last page, limits of one, and what is written between pages.
func (s *suite) pages() {
	const n = 6
	var want []store.Key
	for i := range n {
		s.put(with(key(i), func(r *store.Record) {
			r.Subject, r.Expires, r.Missing = "ann", int64(1000+i), []string{"us-east-1"}
		}))
		want = append(want, key(i))
	}
	s.buried(want...)
	for name, list := range map[string]lister{
		"subject": s.listSubject("ann"), "degraded": s.listDegraded("us-east-1"), "expired": s.listExpired(2000), "swept": s.s.Swept,
	} {
		s.wantList(list, want...)
		for _, limit := range []int{1, n - 1, n, n + 1} {
			if got := s.all(list, limit); len(got) != n {
				s.Errorf("%s with pages of %d: %d keys, want %d", name, limit, len(got), n)
			}
		}
	}
	// Sweeping page by page, as the sweeper does, leaves nothing.
	for page := (store.Page{Limit: 2}); ; {
		keys, next, err := s.s.Swept(s.Context(), page)
		s.must("swept", err)
		s.must("delete", s.s.Delete(s.Context(), keys))
		if next == "" {
			break
		}
		page.After = next
	}
	s.wantList(s.s.Swept)
}
