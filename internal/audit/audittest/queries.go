package audittest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/audit"
)

// sample are entries that each differ from the first in one filtered field.
func sample() []audit.Entry {
	base := audit.Entry{
		Time: 100, RequestID: "base", Tenant: "t", Actor: "a1", Record: "r1", Subject: "s1", Type: "email",
		Action: "detokenize", Purpose: "p1", Outcome: audit.Authorized,
	}
	all := []audit.Entry{base}
	for _, change := range []func(e *audit.Entry){
		func(e *audit.Entry) { e.RequestID, e.Actor = "actor", "a2" },
		func(e *audit.Entry) { e.RequestID, e.Record = "record", "r2" },
		func(e *audit.Entry) { e.RequestID, e.Subject = "subject", "s2" },
		func(e *audit.Entry) { e.RequestID, e.Type = "type", "phone" },
		func(e *audit.Entry) { e.RequestID, e.Action = "action", "inspect" },
		func(e *audit.Entry) { e.RequestID, e.Purpose = "purpose", "p2" },
		func(e *audit.Entry) { e.RequestID, e.Outcome = "outcome", audit.Denied },
		func(e *audit.Entry) { e.RequestID, e.Tenant = "tenant", "u" },
		func(e *audit.Entry) { e.RequestID, e.Tenant = "no tenant", "" },
		func(e *audit.Entry) { e.RequestID, e.Time = "before", 99 },
		func(e *audit.Entry) { e.RequestID, e.Time = "after", 101 },
	} {
		e := base
		change(&e)
		all = append(all, e)
	}
	return all
}

func testQueryFilters(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	add(t, i, sample()...)
	visible(t, i, "t", len(sample())-2)
	for name, c := range map[string]struct {
		q    audit.Query
		want []string
	}{
		"actor":            {audit.Query{Tenant: "t", Actor: "a2"}, []string{"actor"}},
		"record":           {audit.Query{Tenant: "t", Record: "r2"}, []string{"record"}},
		"subject":          {audit.Query{Tenant: "t", Subject: "s2"}, []string{"subject"}},
		"type":             {audit.Query{Tenant: "t", Type: "phone"}, []string{"type"}},
		"action":           {audit.Query{Tenant: "t", Action: "inspect"}, []string{"action"}},
		"purpose":          {audit.Query{Tenant: "t", Purpose: "p2"}, []string{"purpose"}},
		"outcome":          {audit.Query{Tenant: "t", Outcome: audit.Denied}, []string{"outcome"}},
		"from":             {audit.Query{Tenant: "t", From: 101}, []string{"after"}},
		"to":               {audit.Query{Tenant: "t", To: 100}, []string{"before"}},
		"from and to":      {audit.Query{Tenant: "t", From: 99, To: 100}, []string{"before"}},
		"empty span":       {audit.Query{Tenant: "t", From: 100, To: 100}, nil},
		"reversed span":    {audit.Query{Tenant: "t", From: 101, To: 99}, nil},
		"another tenant":   {audit.Query{Tenant: "u"}, []string{"tenant"}},
		"no tenant":        {audit.Query{}, []string{"no tenant"}},
		"unknown tenant":   {audit.Query{Tenant: "v"}, nil},
		"tenant's record":  {audit.Query{Tenant: "u", Record: "r2"}, nil},
		"all at once":      {audit.Query{Tenant: "t", Actor: "a2", Record: "r1", Subject: "s1", Type: "email", Action: "detokenize", Purpose: "p1", Outcome: audit.Authorized, From: 100, To: 101}, []string{"actor"}},
		"nothing at once":  {audit.Query{Tenant: "t", Actor: "a2", Record: "r2"}, nil},
		"newest to oldest": {audit.Query{Tenant: "t"}, []string{"after", "outcome", "purpose", "action", "type", "subject", "record", "actor", "base", "before"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{1, 3, 100} {
				c.q.Limit = limit
				requireIDs(t, fmt.Sprintf("limit %d", limit), pages(t, i, c.q, nil), c.want...)
			}
		})
	}
}

// byPlace is the order of answers: newest first.
func byPlace(a, b audit.Found) int {
	la, errA := audit.ParseLogName(a.Log)
	lb, errB := audit.ParseLogName(b.Log)
	if errA != nil || errB != nil {
		return 0
	}
	key := func(f audit.Found, log audit.LogName) string {
		return string(audit.Position{Time: f.Entry.Time, Log: log, Index: f.Index}.AppendKey(nil))
	}
	return -cmp.Compare(key(a, la), key(b, lb))
}

// testQueryProperty compares random queries, paged at random, with a plain
// filter over all entries, which two lives of two instances wrote out of the
// order of time.
func testQueryProperty(t *testing.T, tab Table) {
	t.Helper()
	var all []audit.Found
	few := func(t *rapid.T, label string) string {
		return rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, label)
	}
	outcomes := []audit.Outcome{audit.Authorized, audit.Denied, audit.Failed}
	random := rapid.Custom(func(t *rapid.T) audit.Entry {
		return audit.Entry{
			Time: rapid.Int64Range(1, 30).Draw(t, "time"), Tenant: rapid.SampledFrom([]string{"t", "u"}).Draw(t, "tenant"),
			Actor: few(t, "actor"), Record: few(t, "record"), Subject: few(t, "subject"), Type: few(t, "type"),
			Action: few(t, "action"), Purpose: few(t, "purpose"), Outcome: rapid.SampledFrom(outcomes).Draw(t, "outcome"),
		}
	})
	var reader Instance
	for life := range 4 {
		i := tab.Open(t, []string{"a", "b"}[life%2])
		for n := range 10 {
			entries := rapid.SliceOfN(random, 1, 9).Example(life*100 + n)
			r := add(t, i, slices.Clone(entries)...)
			for j := range entries {
				all = append(all, audit.Found{Ref: audit.Ref{Log: r.Log, Index: r.First + uint64(j)}, Entry: entries[j]})
			}
		}
		if life < 3 {
			tab.Close(t, i)
		}
		reader = i
	}
	slices.SortFunc(all, byPlace)
	for _, tenant := range []string{"t", "u"} {
		visible(t, reader, tenant, len(matching(all, audit.Query{Tenant: tenant})))
	}
	rapid.Check(t, func(r *rapid.T) {
		q := audit.Query{
			Tenant: rapid.SampledFrom([]string{"t", "u"}).Draw(r, "tenant"),
			Actor:  few(r, "actor"), Record: few(r, "record"), Subject: few(r, "subject"), Type: few(r, "type"),
			Action: few(r, "action"), Purpose: few(r, "purpose"),
			Outcome: rapid.SampledFrom(append(outcomes, "", "")).Draw(r, "outcome"),
			From:    rapid.Int64Range(0, 30).Draw(r, "from"), To: rapid.Int64Range(0, 32).Draw(r, "to"),
			Limit: rapid.IntRange(1, 50).Draw(r, "limit"),
		}
		want := matching(all, q)
		got := pages(t, reader, q, nil)
		if !slices.EqualFunc(got, want, func(a, b audit.Found) bool { return a.Ref == b.Ref }) {
			r.Fatalf("found %d entries, want %d, of %+v", len(got), len(want), q)
		}
	})
}

func matching(all []audit.Found, q audit.Query) (out []audit.Found) {
	for _, f := range all {
		if q.Match(&f.Entry) {
			out = append(out, f)
		}
	}
	return out
}

// testPagesWhileAppending: what was there at the first page comes once each,
// whatever is appended between the pages.
func testPagesWhileAppending(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	want := map[string]bool{}
	for n := range 50 {
		e := entry("old.%d", n)
		e.Time = int64(n / 7)
		want[e.RequestID] = true
		add(t, i, e)
	}
	visible(t, i, "t", len(want))
	n := 0
	found := pages(t, i, audit.Query{Tenant: "t", Limit: 3}, func(int) {
		e := entry("new.%d", n)
		e.Time = int64(n % 9)
		n++
		add(t, i, e)
	})
	seen := map[string]bool{}
	for _, id := range ids(found) {
		if seen[id] {
			t.Errorf("%s came twice", id)
		}
		seen[id] = true
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("%s did not come", id)
		}
	}
	if !slices.IsSortedFunc(found, byPlace) {
		t.Error("not newest first")
	}
}

func testQueryRefusals(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	add(t, i, sample()...)
	visible(t, i, "t", 9)
	_, cursor, err := i.Query(t.Context(), audit.Query{Tenant: "t", Limit: 2})
	if err != nil || cursor == "" {
		t.Fatalf("cursor %q, %v", cursor, err)
	}
	for name, q := range map[string]audit.Query{
		"of another tenant": {Tenant: "u", Limit: 2, Cursor: cursor},
		"of other filters":  {Tenant: "t", Actor: "a1", Limit: 2, Cursor: cursor},
		"cut":               {Tenant: "t", Limit: 2, Cursor: cursor[:len(cursor)-2]},
		"longer":            {Tenant: "t", Limit: 2, Cursor: cursor + "AA"},
		"nonsense":          {Tenant: "t", Limit: 2, Cursor: "nonsense"},
		"huge":              {Tenant: "t", Limit: 2, Cursor: strings.Repeat("A", 1<<16)},
	} {
		_, _, err := i.Query(t.Context(), q)
		requireIs(t, "cursor "+name, err, audit.ErrCursor)
	}
	for _, limit := range []int{-1, 0, audit.MaxLimit + 1} {
		_, _, err := i.Query(t.Context(), audit.Query{Tenant: "t", Limit: limit})
		requireIs(t, fmt.Sprintf("limit %d", limit), err, audit.ErrQuery)
	}
}

// testQuerySeesEveryLog: entries of earlier lives, of another instance and of
// both while they append at once.
func testQuerySeesEveryLog(t *testing.T, tab Table) {
	t.Helper()
	old := tab.Open(t, "a")
	add(t, old, entry("old"))
	tab.Close(t, old)
	a, b := tab.Open(t, "a"), tab.Open(t, "b")
	var wg sync.WaitGroup
	fail := make(chan error, 2)
	for _, i := range []Instance{a, b} {
		wg.Go(func() {
			for n := range 20 {
				if _, err := i.Append([]audit.Entry{entry("%d", n)}).Wait(t.Context()); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	if err := errors.Join(slices.Collect(values(fail))...); err != nil {
		t.Fatal(err)
	}
	for _, i := range []Instance{a, b} {
		visible(t, i, "t", 41)
		logs := map[string]int{}
		for _, f := range pages(t, i, audit.Query{Tenant: "t", Limit: 10}, nil) {
			logs[f.Log]++
		}
		if logs[old.Name().String()] != 1 || logs[a.Name().String()] != 20 || logs[b.Name().String()] != 20 {
			t.Errorf("found by log: %v", logs)
		}
	}
}

func values[T any](c <-chan T) func(func(T) bool) {
	return func(yield func(T) bool) {
		for v := range c {
			if !yield(v) {
				return
			}
		}
	}
}
