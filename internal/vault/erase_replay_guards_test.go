package vault_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

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
