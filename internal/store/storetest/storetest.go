// Package storetest is the conformance suite of store.Store: every clause of
// the contract's prose, and nothing that it does not promise. Listings are
// eventually consistent, so they are asked again until they are right.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/store"
)

// Hurrier is implemented by stores whose listings lag until they are pushed.
type Hurrier interface {
	// Hurry makes the listings show all that was written before.
	Hurry(ctx context.Context) error
}

// Run runs the suite; open returns an empty store that lives as long as the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Read", (*suite).read},
		{"ReadKeepsTheOrder", (*suite).readOrder},
		{"ReadGenerations", (*suite).readGenerations},
		{"RecordsAreCopies", (*suite).copies},
		{"Insert", (*suite).insert},
		{"InsertLinks", (*suite).insertLinks},
		{"InsertFresh", (*suite).insertFresh},
		{"InsertUnburied", (*suite).insertUnburied},
		{"InsertRace", (*suite).insertRace},
		{"LargeBatch", (*suite).largeBatch},
		{"Bury", (*suite).bury},
		{"BuryRacesInsert", (*suite).buryRace},
		{"Get", (*suite).get},
		{"Seen", (*suite).seen},
		{"Replace", (*suite).replace},
		{"ReplaceConflicts", (*suite).replaceConflicts},
		{"ReplaceRace", (*suite).replaceRace},
		{"Delete", (*suite).delete},
		{"BySubject", (*suite).bySubject},
		{"Degraded", (*suite).degraded},
		{"CountDegraded", (*suite).countDegraded},
		{"Expired", (*suite).expired},
		{"Swept", (*suite).swept},
		{"Pages", (*suite).pages},
		{"Scan", (*suite).scan},
		{"ScanSegments", (*suite).scanSegments},
		{"Beats", (*suite).beats},
		{"EndedContext", (*suite).endedContext},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&suite{t, open(t)}) })
	}
}

// suite is one test's store with helpers that fail the test.
type suite struct {
	*testing.T
	s store.Store
}

const tenant = "tenant-a"

// id makes a record id: 43 characters of base64url.
func id(n int) string { return fmt.Sprintf("%s%05d", strings.Repeat("A", 38), n) }

func key(n int) store.Key { return store.Key{Tenant: tenant, ID: id(n)} }

func generation(n int, g uint32) store.Key {
	return store.Key{Tenant: tenant, ID: id(n), Generation: g}
}

func ref(n int) store.Ref { return store.Ref{Tenant: tenant, ID: id(n)} }

// record makes a complete, not degraded, never expiring record.
func record(k store.Key) *store.Record {
	return &store.Record{
		Key: k, Type: "email", Message: []byte("message of " + k.ID), Created: 1_700_000_000_123,
		RingEpoch: 7, Home: "eu-west-1",
	}
}

// with changes a fresh record.
func with(k store.Key, change func(*store.Record)) *store.Record {
	r := record(k)
	change(r)
	return r
}

func (s *suite) must(doing string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", doing, err)
	}
}

func (s *suite) put(records ...*store.Record) {
	s.Helper()
	news := make([]store.New, len(records))
	for i, r := range records {
		news[i].Record = r
	}
	s.wantOutcomes(news, slices.Repeat([]store.Outcome{store.Inserted}, len(records))...)
}

func (s *suite) wantOutcomes(news []store.New, want ...store.Outcome) {
	s.Helper()
	got, err := s.s.Insert(s.Context(), news)
	s.must("insert", err)
	if !slices.Equal(got, want) {
		s.Errorf("outcomes %v, want %v", got, want)
	}
}

func (s *suite) buried(keys ...store.Key) {
	s.Helper()
	s.must("bury", s.s.Bury(s.Context(), keys))
}

// wantState reads one ref; want is its record, nil for none.
func (s *suite) wantState(r store.Ref, gen uint32, want *store.Record) {
	s.Helper()
	states, err := s.s.Read(s.Context(), []store.Ref{r})
	s.must("read", err)
	if diff := cmp.Diff([]store.State{{Generation: gen, Record: want}}, states); diff != "" {
		s.Errorf("state of %s: %s", r.ID, diff)
	}
}

// wantGet reads one key.
func (s *suite) wantGet(k store.Key, want *store.Record, wantBuried bool) {
	s.Helper()
	got, buried, err := s.s.Get(s.Context(), k)
	s.must("get", err)
	if diff := cmp.Diff(want, got); diff != "" || buried != wantBuried {
		s.Errorf("buried %v, want %v; record %s", buried, wantBuried, diff)
	}
}

// lister is one of the paged listings.
type lister func(context.Context, store.Page) ([]store.Key, string, error)

// all follows the pages to their end. A page holds at most its limit, and a
// key comes once.
func (s *suite) all(list lister, limit int) []store.Key {
	s.Helper()
	seen := map[store.Key]bool{}
	for page := (store.Page{Limit: limit}); ; {
		keys, next, err := list(s.Context(), page)
		s.must("list", err)
		if len(keys) > limit {
			s.Fatalf("%d keys on a page of %d", len(keys), limit)
		}
		for _, k := range keys {
			if seen[k] {
				s.Errorf("%v is listed twice", k)
			}
			seen[k] = true
		}
		if next == "" {
			return sorted(seen)
		}
		if next == page.After {
			s.Fatal("a cursor leads to itself")
		}
		page.After = next
	}
}

func sorted(set map[store.Key]bool) []store.Key {
	keys := make([]store.Key, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b store.Key) int {
		return strings.Compare(fmt.Sprint(a.Tenant, a.ID, 1_000_000+int(a.Generation)), fmt.Sprint(b.Tenant, b.ID, 1_000_000+int(b.Generation)))
	})
	return keys
}

// wantList asks a listing until it is right, with pages of two sizes.
func (s *suite) wantList(list lister, want ...store.Key) {
	s.Helper()
	set := map[store.Key]bool{}
	for _, k := range want {
		set[k] = true
	}
	wanted := sorted(set)
	for _, limit := range []int{2, 100} {
		s.eventually(func() string { return cmp.Diff(wanted, s.all(list, limit)) })
	}
}

// eventually asks until there is no complaint.
func (s *suite) eventually(complaint func() string) {
	s.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if h, ok := s.s.(Hurrier); ok {
			s.must("hurry", h.Hurry(s.Context()))
		}
		c := complaint()
		if c == "" {
			return
		}
		if s.Failed() || time.Now().After(deadline) {
			s.Error(c)
			return
		}
		select {
		case <-s.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *suite) listSubject(subject string) lister {
	return func(ctx context.Context, p store.Page) ([]store.Key, string, error) {
		return s.s.BySubject(ctx, tenant, subject, p)
	}
}

func (s *suite) listDegraded(region string) lister {
	return func(ctx context.Context, p store.Page) ([]store.Key, string, error) {
		return s.s.Degraded(ctx, region, p)
	}
}

func (s *suite) listExpired(before int64) lister {
	return func(ctx context.Context, p store.Page) ([]store.Key, string, error) {
		return s.s.Expired(ctx, before, p)
	}
}

// endedContext: every call that is not honoured says so, and says why.
func (s *suite) endedContext() {
	s.put(record(key(1)))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	page := store.Page{Limit: 10}
	calls := map[string]func() error{
		"read":      func() error { _, err := s.s.Read(ctx, []store.Ref{ref(1)}); return err },
		"insert":    func() error { _, err := s.s.Insert(ctx, []store.New{{Record: record(key(2))}}); return err },
		"bury":      func() error { return s.s.Bury(ctx, []store.Key{key(3)}) },
		"get":       func() error { _, _, err := s.s.Get(ctx, key(1)); return err },
		"seen":      func() error { _, err := s.s.Seen(ctx, []store.Ref{ref(1)}); return err },
		"bySubject": func() error { _, _, err := s.s.BySubject(ctx, tenant, "s", page); return err },
		"degraded":  func() error { _, _, err := s.s.Degraded(ctx, "eu-west-1", page); return err },
		"expired":   func() error { _, _, err := s.s.Expired(ctx, 1, page); return err },
		"swept":     func() error { _, _, err := s.s.Swept(ctx, page); return err },
		"scan":      func() error { _, _, err := s.s.Scan(ctx, store.Part{Segments: 1}, page); return err },
		"beat":      func() error { return s.s.Beat(ctx, "eu-west-1", 1) },
		"beats":     func() error { _, err := s.s.Beats(ctx); return err },
	}
	for name, call := range calls {
		// A write may have been under way already, and then it may have won.
		if err := call(); err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("%s: %v", name, err)
		}
	}
}
