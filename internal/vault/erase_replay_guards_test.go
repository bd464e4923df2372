package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// BySubject implements store.Store.
func (s smallPages) BySubject(ctx context.Context, tenant, subject string, p store.Page) ([]store.Key, string, error) {
	return s.Store.BySubject(ctx, tenant, subject, s.page(p))
}

// G9: a subject's erasure is replayed however many pages its records fill, and
// what was made since is left alone wherever in them it is.
func TestReplayOfASubjectInManyPages(t *testing.T) {
	rw := newRingWorld(t)
	var tokens []secret.Text
	for n := range 9 {
		tokens = append(tokens, rw.subjectToken(rw.a, "email", fmt.Sprintf("p%d@example.com", n), "C-1"))
	}
	old := rw.rows(regionA)
	rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"})
	rw.completeErase()
	rw.clock.advance(time.Hour)
	since := rw.subjectToken(rw.a, "email", "since@example.com", "C-1")
	for _, r := range rw.rows(regionA) {
		if r.Created > rw.clock.now().Add(-time.Minute).UnixMilli() {
			old = append(old, r)
		}
	}
	var listed atomic.Int64
	v := rw.restored(old, func(c *vault.Config) { c.Store = smallPages{c.Store, &listed} })
	if done := rw.replay(v, time.Time{}); done.Buried != 9 || listed.Load() < 5 {
		t.Errorf("replayed %+v in %d pages", done, listed.Load())
	}
	for _, token := range tokens {
		rw.wantGone(v, token)
	}
	rw.wantReveal(v, since, "since@example.com")
}

// G9: an erasure is complete, and its end known, when those regions have
// confirmed that it waits for, whoever else has.
func TestReplayAwaitsTheJobsRegions(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.subjectToken(rw.a, "email", "ann@example.com", "C-1")
	old := rw.rows(regionA)
	job := rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"}).Job
	for _, region := range []string{regionA, "elsewhere"} {
		item := authz.Item{Kind: authz.KindEraseConfirm, ID: job + "#" + region, Body: []byte(`{"v":1}`)}
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	rw.clock.advance(time.Hour)
	old[0].Created = rw.clock.now().UnixMilli() // by a region that had not seen the job
	v := rw.restored(old, func(*vault.Config) {})
	if done := rw.replay(v, time.Time{}); done.Buried != 1 {
		t.Errorf("replayed %+v", done)
	}
	rw.wantGone(v, token)
}

// What was to be erased and was denied is not erased by a replay.
func TestReplayLeavesAloneWhatWasDenied(t *testing.T) {
	rw := newRingWorld(t)
	ssn := rw.token(rw.a, "ssn", "778-35-0827")
	var denying sim.Config
	withPolicy(t, `@id("extra.ssn") forbid (principal, action == Action::"erase", resource) when { resource has type && resource.type == "ssn" };`)(&denying)
	strict := rw.with(regionA, 1, ab(), func(c *vault.Config) { denying.Wrap(regionA, c) })
	_, err := strict.Erase(t.Context(), rw.admin, vault.EraseRequest{Tokens: []secret.Text{ssn}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	v := rw.restored(rw.rows(regionA), func(*vault.Config) {})
	if done := rw.replay(v, time.Time{}); done.Entries != 0 || done.Buried != 0 {
		t.Errorf("replayed %+v", done)
	}
	rw.wantReveal(v, ssn, "778-35-0827")
}

// G9: what an erasure found before the last region confirmed it is replayed,
// and what was made after that is not.
func TestReplayUntilTheLastConfirmation(t *testing.T) {
	for name, test := range map[string]struct {
		created time.Duration // since the erasure, which was complete ten minutes after it began
		buried  int
	}{
		"before it was complete": {5 * time.Minute, 1},
		"after":                  {20 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rw := newRingWorld(t)
			token := rw.token(rw.a, "email", "ann@example.com")
			old := rw.rows(regionA)
			begun := rw.clock.now()
			rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
			rw.settle()
			rw.clock.advance(10 * time.Minute)
			rw.completeErase()
			old[0].Created = begun.Add(test.created).UnixMilli()
			v := rw.restored(old, func(*vault.Config) {})
			if done := rw.replay(v, time.Time{}); done.Buried != test.buried {
				t.Errorf("replayed %+v", done)
			}
			if test.buried == 1 {
				rw.wantGone(v, token)
				return
			}
			left, buried, err := v.Store.Get(t.Context(), old[0].Key)
			if err != nil || left == nil || buried {
				t.Errorf("what was made since: buried %v, %v", buried, err)
			}
		})
	}
}

// G9: what was erased and is not in the restored table is buried all the same:
// it may come yet.
func TestReplayBuriesWhatIsNotThere(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	old := rw.rows(regionA)
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
	v := rw.restored(nil, func(*vault.Config) {})
	if done := rw.replay(v, time.Time{}); done.Buried != 0 {
		t.Errorf("replayed %+v", done)
	}
	if _, buried, err := v.Store.Get(t.Context(), old[0].Key); err != nil || !buried {
		t.Errorf("buried %v, %v", buried, err)
	}
	rw.wantGone(v, token)
}

// G9: nobody is told that all is replayed by logs that tell nothing, nor by
// jobs that cannot be read.
func TestReplayOfNothing(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
	empty := func(c *vault.Config) {
		c.Logs = storedLogs{c.Logs, func(_ audit.LogName, number uint64, block []byte) []byte {
			if number > 0 {
				return nil
			}
			return block
		}}
	}
	if _, err := rw.restored(nil, empty).ReplayErasures(t.Context(), time.Time{}); !errors.Is(err, vault.ErrNoAuditLogs) {
		t.Errorf("of a log without entries: %v", err)
	}
	v := rw.restored(nil, func(*vault.Config) {})
	item := authz.Item{Kind: authz.KindEraseJob, ID: "00000000-0000-7000-8000-000000000000", Body: []byte("x")}
	if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	if _, err := v.ReplayErasures(t.Context(), time.Time{}); err == nil || errors.Is(err, vault.ErrNoAuditLogs) {
		t.Errorf("with a job that is none: %v", err)
	}
}
