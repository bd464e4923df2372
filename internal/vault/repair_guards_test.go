package vault_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// smallPages is a table that lists two rows at a time, whatever is asked for.
type smallPages struct {
	store.Store
	calls *atomic.Int64
}

func (s smallPages) page(p store.Page) store.Page {
	s.calls.Add(1)
	p.Limit = 2
	return p
}

// Degraded implements store.Store.
func (s smallPages) Degraded(ctx context.Context, region string, p store.Page) ([]store.Key, string, error) {
	return s.Store.Degraded(ctx, region, s.page(p))
}

// Scan implements store.Store.
func (s smallPages) Scan(ctx context.Context, part store.Part, p store.Page) ([]store.Row, string, error) {
	return s.Store.Scan(ctx, part, s.page(p))
}

// G3: however many pages it takes to list them, all gaps are closed and all
// records of older rings rewrapped in one pass.
func TestRepairInManyPages(t *testing.T) {
	const n = 40
	rw := newRingWorld(t)
	tokens := rw.degraded(n)
	var listed atomic.Int64
	paged := func(c *vault.Config) { c.Store = smallPages{c.Store, &listed} }
	v := rw.with(regionA, 1, ab(), paged)
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != n || s.Remaining != 0 {
		t.Errorf("gaps: %+v", s)
	}
	if got := listed.Load(); got < n/2 {
		t.Errorf("%d pages", got)
	}
	v = rw.with(regionA, 2, abc(), paged)
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != n || s.Outdated != 0 || s.Remaining != 0 {
		t.Errorf("a ring change: %+v", s)
	}
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, abc()), tokens)
}

// G3: a ring's losses are found however many pages it takes, each counted once.
func TestLossesAreCountedOnce(t *testing.T) {
	rw := newRingWorld(t)
	added := rw.with(regionA, 2, abc())
	rw.keyDown("b", "c")
	added.ProbePass(t.Context())
	rw.some(added, 5) // none has but a's copy
	rw.keyDown()
	var listed atomic.Int64
	paged := func(c *vault.Config) { c.Store = smallPages{c.Store, &listed} }
	err := rw.start(regionA, 3, []member{{regionA, "a2", nil}, {regionB, "b", nil}, {regionC, "c", nil}}, paged)
	rw.wantLoss(err)
	if err != nil && !strings.Contains(err.Error(), ": 5 records, ") {
		t.Errorf("got %v, want 5 records", err)
	}
	rw.degraded(3) // of the first ring: they are outdated, too
	err = rw.start(regionA, 3, []member{{regionA, "a2", nil}, {regionB, "b", nil}, {regionC, "c", nil}}, paged)
	rw.wantLoss(err)
	if err != nil && !strings.Contains(err.Error(), ": 8 records, ") {
		t.Errorf("got %v, want 8 records", err)
	}
}

// G3: a look for losses that could not look everywhere finds no ring good, and
// does not say what it found.
func TestALookForLossesSaysWhenACallFails(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 2)
	added := rw.with(regionA, 2, abc())
	added.RepairTenants(rw.ctx())
	rw.keyDown("b", "c")
	added.ProbePass(rw.ctx())
	rw.some(added, 1)
	rw.keyDown()
	onlyC := []member{{regionC, "c", nil}, {regionA, "a2", nil}}
	n := new(nth)
	for call := int64(1); ; call++ {
		n.left.Store(call)
		err := rw.start(regionA, 3, onlyC, func(c *vault.Config) {
			c.Store = nthStore{c.Store, n}
			c.Controls = []authz.RegionControl{{Region: regionA, Control: nthControl{c.Controls[0].Control, n}}}
		})
		if n.left.Load() > 0 {
			rw.wantLoss(err)
			if call < 6 {
				t.Errorf("%d calls", call-1)
			}
			return
		}
		if !errors.Is(err, errFault) || errors.Is(err, vault.ErrRingLoses) {
			t.Errorf("call %d failed: %v", call, err)
		}
	}
}

// What is no ring's epoch and no message in the control table holds up no start.
func TestALookForLossesPassesOverWhatIsNone(t *testing.T) {
	rw := newRingWorld(t)
	for _, item := range []authz.Item{
		{Kind: authz.KindRing, ID: "x", Body: []byte("x")}, {Kind: authz.KindTenantSecret, ID: "!", Body: []byte("x")},
	} {
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	if err := rw.start(regionA, 2, abc()); err != nil {
		t.Error(err)
	}
}

// G3: after a ring change, what is another region's share is not left for ever
// where that region beats and does nothing; and meanwhile every pass looks,
// since the others may be done at any time.
func TestNobodyElseRewraps(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 30)
	rw.settle()
	table := &repairStore{Store: rw.cfgs[regionA].Store}
	a, b := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Store = table }), rw.with(regionB, 2, abc())
	left := 30
	for half := range 6 { // of minutes
		b.BeatPass(t.Context())
		rw.settle()
		before := table.scans.Load()
		a.RepairPass(t.Context())
		s := rw.status(a)
		if n := table.scans.Load() - before; n == 0 {
			t.Errorf("pass %d: it did not look", half)
		}
		switch {
		case half == 0:
			left = s.Outdated
			if left == 0 || left == 30 {
				t.Fatalf("%d of 30 are left to the others", left)
			}
		case half < 4 && s.Outdated != left, half == 5 && s.Outdated != 0:
			t.Errorf("pass %d: %+v", half, s)
		}
		rw.clock.advance(30 * time.Second)
	}
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, abc()), tokens)
}

// That a ring change is done is said once, however often it is looked for.
func TestARingChangeIsDoneOnce(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 2)
	v := rw.with(regionA, 2, abc())
	for range 6 {
		if err := v.StartRepair(t.Context(), rw.admin); err != nil {
			t.Fatal(err)
		}
		v.RepairPass(t.Context())
		rw.clock.advance(time.Minute)
	}
	if s := rw.status(v); !sameSet(s.RingDone, regionA) || s.Running {
		t.Errorf("status %+v", s)
	}
	done := 0
	_, err := audit.Walk(t.Context(), rw.cfgs[regionA].Logs, 0, func(_ audit.Ref, e *audit.Entry) error {
		if e.Action == "ring_done" {
			done++
		}
		return nil
	})
	if err != nil || done != 1 {
		t.Errorf("%d entries say that it is done: %v", done, err)
	}
}

// Policies decide on repair too, and a refusal that cannot be recorded is not
// answered as one (G6).
func TestRepairIsDecidedToo(t *testing.T) {
	n := new(nth)
	n.left.Store(1 << 40)
	w := newWorld(t, withPolicy(t, `@id("extra.repair") forbid (principal, action == Action::"repair", resource);`),
		wrapped(func(_ string, cfg *vault.Config) { cfg.Log = nthLog{cfg.Log, n} }))
	wantCode(t, w.a.StartRepair(t.Context(), w.admin), vault.ErrForbidden, "forbidden")
	reader, writer := w.as(authz.RoleReader), w.as(authz.RoleWriter)
	_, err := w.a.RepairStatus(t.Context(), reader)
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	for name, call := range map[string]func() error{
		"by the policies": func() error { return w.a.StartRepair(t.Context(), w.admin) },
		"by the role":     func() error { return w.a.StartRepair(t.Context(), reader) },
		"of its status":   func() error { _, err := w.a.RepairStatus(t.Context(), reader); return err },
		"of a reveal":     func() error { _, err := w.a.Detokenize(t.Context(), writer, ask(unknownIn(regionA))); return err },
	} {
		n.left.Store(1)
		err := call()
		t.Log(name)
		wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	}
}
