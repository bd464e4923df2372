package vault_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// confirms counts the listings of confirmations, and may fail them.
type confirms struct {
	authz.Control
	listed atomic.Int64
	fail   atomic.Bool
}

// List implements authz.Control.
func (c *confirms) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if kind == authz.KindEraseConfirm {
		c.listed.Add(1)
		if c.fail.Load() {
			return nil, errFault
		}
	}
	return c.Control.List(ctx, kind, after, limit)
}

// A start reads the confirmations of past erasures by the page, not by the job,
// keeps none that polls do not come by, and takes none of them up again.
func TestPastErasuresCostLittle(t *testing.T) {
	rw := newRingWorld(t)
	table := rw.cfgs[regionA].Controls[0].Control
	token := rw.token(rw.a, "customer_email", "ann@example.com")
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
	rw.completeErase()
	const n = 1200
	now := rw.clock.now()
	for i := range n {
		id := jobIDAt(now.Add(-48*time.Hour).UnixMilli()+int64(i)) + fmt.Sprintf("-7%03x-8000-000000000000", i)
		put := func(item authz.Item) {
			if err := table.Insert(t.Context(), item); err != nil {
				t.Fatal(err)
			}
		}
		put(authz.Item{Kind: authz.KindEraseJob, ID: id, Body: []byte(`{"v":1,"tenant":"t","subject":"s","epoch":1,"regions":["` + regionA + `","` + regionB + `"]}`)})
		for _, region := range []string{regionA, regionB} {
			if i < n-1 || region == regionB { // the last is not confirmed here
				put(authz.Item{Kind: authz.KindEraseConfirm, ID: id + "#" + region, Body: []byte(`{"v":1}`)})
			}
		}
	}
	control := &confirms{Control: table}
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Controls = []authz.RegionControl{{Region: regionA, Control: control}} })
	if got := control.listed.Load(); got > 20 {
		t.Errorf("%d listings of confirmations", got)
	}
	if open, complete := v.EraseJobs(); open != 1 || complete != 1 {
		t.Errorf("%d open jobs and %d complete ones are kept", open, complete)
	}
	rw.clock.advance(26 * time.Hour)
	v.ErasePass(t.Context())
	if _, complete := v.EraseJobs(); complete != 0 {
		t.Errorf("%d complete jobs are kept a day later", complete)
	}
}

// G9: an erasure whose confirmations cannot be read is visible, and is not
// worked on: it may be complete, and what was made since is none of its.
func TestUnreadableConfirmations(t *testing.T) {
	rw := newRingWorld(t)
	control := &confirms{Control: rw.cfgs[regionA].Controls[0].Control}
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Controls = []authz.RegionControl{{Region: regionA, Control: control}} })
	token := rw.token(rw.a, "customer_email", "ann@example.com")
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
	rw.completeErase()
	again := rw.token(rw.a, "customer_email", "ann@example.com")
	control.fail.Store(true)
	v.ErasePass(t.Context()) // it has not seen the job before
	rw.wantReveal(rw.a, again, "ann@example.com")
	control.fail.Store(false)
	v.ErasePass(t.Context())
	rw.wantReveal(v, again, "ann@example.com")
}
