// Package authztest is the conformance suite of authz.Control: every clause
// of the contract's prose, and nothing that it does not promise.
package authztest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/authz"
)

// Run runs the suite; open returns an empty control table that lives as long
// as the test.
func Run(t *testing.T, open func(t *testing.T) authz.Control) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Insert", (*suite).insert},
		{"InsertRace", (*suite).insertRace},
		{"ItemsAreCopies", (*suite).copies},
		{"Get", (*suite).get},
		{"List", (*suite).list},
		{"Replace", (*suite).replace},
		{"ReplaceRace", (*suite).replaceRace},
		{"EndedContext", (*suite).endedContext},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&suite{t, open(t)}) })
	}
}

// suite is one test's table with helpers that fail the test.
type suite struct {
	*testing.T
	c authz.Control
}

func item(kind authz.Kind, id, body string) authz.Item {
	return authz.Item{Kind: kind, ID: id, Body: []byte(body)}
}

func (s *suite) put(items ...authz.Item) {
	s.Helper()
	for _, it := range items {
		if err := s.c.Insert(s.Context(), it); err != nil {
			s.Fatalf("insert %s %s: %v", it.Kind, it.ID, err)
		}
	}
}

func (s *suite) want(it authz.Item) {
	s.Helper()
	got, err := s.c.Get(s.Context(), it.Kind, it.ID)
	if err != nil || got.Kind != it.Kind || got.ID != it.ID || !bytes.Equal(got.Body, it.Body) {
		s.Errorf("got %s %s %q, %v; want %q", got.Kind, got.ID, got.Body, err, it.Body)
	}
}

func (s *suite) insert() {
	first := item(authz.KindKey, "k1", "first")
	s.put(first, item(authz.KindKey, "k2", ""), item(authz.KindTenant, "k1", "another kind"),
		item(authz.KindEraseConfirm, "job#eu-west-1", "\x00\xff"))
	for _, body := range []string{"first", "second"} {
		if err := s.c.Insert(s.Context(), item(authz.KindKey, "k1", body)); !errors.Is(err, authz.ErrExists) {
			s.Errorf("insert of an item that is there: %v", err)
		}
	}
	s.want(first)
	s.want(item(authz.KindKey, "k2", ""))
	s.want(item(authz.KindTenant, "k1", "another kind"))
	s.want(item(authz.KindEraseConfirm, "job#eu-west-1", "\x00\xff"))
	large := item(authz.KindTenantSecret, "t", string(bytes.Repeat([]byte("m"), 8000)))
	s.put(large)
	s.want(large)
}

// insertRace: of concurrent inserts of an item exactly one succeeds.
func (s *suite) insertRace() {
	const workers = 16
	won := make([]bool, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			err := s.c.Insert(s.Context(), item(authz.KindRing, "1", fmt.Sprint(i)))
			won[i] = err == nil
			if err != nil && !errors.Is(err, authz.ErrExists) {
				s.Errorf("insert: %v", err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(won, true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		s.Fatalf("winners %v, want one", won)
	}
	s.want(item(authz.KindRing, "1", fmt.Sprint(winner)))
}

// copies: what a caller does to an item it gave or got changes no other's.
func (s *suite) copies() {
	given := item(authz.KindKey, "k", "body")
	s.put(given)
	given.Body[0] = '!'
	for range 2 {
		got, err := s.c.Get(s.Context(), authz.KindKey, "k")
		if err != nil || string(got.Body) != "body" {
			s.Fatalf("got %q, %v", got.Body, err)
		}
		got.Body[0] = '!'
	}
}

func (s *suite) get() {
	s.put(item(authz.KindKey, "k", "body"))
	for _, absent := range []authz.Item{item(authz.KindKey, "K", ""), item(authz.KindKey, "k0", ""), item(authz.KindTenant, "k", "")} {
		if _, err := s.c.Get(s.Context(), absent.Kind, absent.ID); !errors.Is(err, authz.ErrNotFound) {
			s.Errorf("get %s %s: %v", absent.Kind, absent.ID, err)
		}
	}
}

func (s *suite) list() {
	s.wantList(authz.KindKey, "", 10)
	var want []authz.Item
	for _, id := range []string{"a", "a#1", "aa", "b", "c", "z"} {
		want = append(want, item(authz.KindKey, id, "body of "+id))
	}
	for _, i := range []int{3, 0, 5, 1, 4, 2} {
		s.put(want[i])
	}
	// Kinds that sort before and after, and whose names are prefixes.
	s.put(item(authz.KindTenantAlias, "m", "x"), item(authz.KindRevocation, "m", "x"), item(authz.KindEraseJob, "m", "x"))
	s.wantList(authz.KindKey, "", 10, want...)
	s.wantList(authz.KindKey, "", 2, want[:2]...)
	s.wantList(authz.KindKey, "a", 10, want[1:]...)
	s.wantList(authz.KindKey, "a#1", 2, want[2:4]...)
	s.wantList(authz.KindKey, "bb", 10, want[4:]...) // after need not be there
	s.wantList(authz.KindKey, "z", 10)
	s.wantList(authz.KindKey, "zz", 10)
}

func (s *suite) wantList(kind authz.Kind, after string, limit int, want ...authz.Item) {
	s.Helper()
	got, err := s.c.List(s.Context(), kind, after, limit)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		s.Errorf("list after %q, limit %d: %v %s", after, limit, err, diff)
	}
}

func (s *suite) replace() {
	old, next := item(authz.KindTenantSecret, "t", "old"), item(authz.KindTenantSecret, "t", "next")
	s.wantConflict(old, next) // nothing there
	if _, err := s.c.Get(s.Context(), old.Kind, old.ID); !errors.Is(err, authz.ErrNotFound) {
		s.Errorf("a refused replace wrote: %v", err)
	}
	s.put(old)
	if err := s.c.Replace(s.Context(), old, next); err != nil {
		s.Fatal(err)
	}
	s.want(next)
	s.wantConflict(old, item(authz.KindTenantSecret, "t", "third"))
	s.want(next)
	if err := s.c.Replace(s.Context(), next, next); err != nil {
		s.Errorf("replace by the same: %v", err)
	}
	s.want(next)
}

func (s *suite) wantConflict(old, next authz.Item) {
	s.Helper()
	if err := s.c.Replace(s.Context(), old, next); !errors.Is(err, authz.ErrConflict) {
		s.Errorf("replace of what is not there: %v", err)
	}
}

// replaceRace: of concurrent replacements of one body exactly one wins.
func (s *suite) replaceRace() {
	old := item(authz.KindTenantSecret, "t", "old")
	s.put(old)
	const workers = 8
	won := make([]bool, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			err := s.c.Replace(s.Context(), old, item(old.Kind, old.ID, fmt.Sprint(i)))
			won[i] = err == nil
			if err != nil && !errors.Is(err, authz.ErrConflict) {
				s.Errorf("replace: %v", err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(won, true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		s.Fatalf("winners %v, want one", won)
	}
	s.want(item(old.Kind, old.ID, fmt.Sprint(winner)))
}

// endedContext: a call that was not honoured is ErrUnavailable and says why.
func (s *suite) endedContext() {
	s.put(item(authz.KindKey, "k", "body"))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	calls := map[string]func() error{
		"insert":  func() error { return s.c.Insert(ctx, item(authz.KindKey, "l", "")) },
		"get":     func() error { _, err := s.c.Get(ctx, authz.KindKey, "k"); return err },
		"list":    func() error { _, err := s.c.List(ctx, authz.KindKey, "", 1); return err },
		"replace": func() error { return s.c.Replace(ctx, item(authz.KindKey, "k", "body"), item(authz.KindKey, "k", "x")) },
	}
	for name, call := range calls {
		// A write may have been under way already, and then it may have won.
		if err := call(); err != nil && (!errors.Is(err, context.Canceled) || !errors.Is(err, authz.ErrUnavailable)) {
			s.Errorf("%s: %v", name, err)
		}
	}
}
