package vault_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

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

// What is no ring's epoch and no message in the control table holds up no
// start, and hides no loss (G3).
func TestALookForLossesPassesOverWhatIsNone(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 5)
	for _, item := range []authz.Item{
		{Kind: authz.KindRing, ID: "x", Body: []byte("x")}, {Kind: authz.KindTenantSecret, ID: "!", Body: []byte("x")},
	} {
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	added := rw.with(regionA, 2, abc())
	added.RepairTenants(rw.ctx())
	var listed atomic.Int64
	err := rw.start(regionA, 3, []member{{regionC, "c", nil}, {regionA, "a2", nil}}, func(c *vault.Config) { c.Store = smallPages{c.Store, &listed} })
	rw.wantLoss(err)
	if err != nil && !strings.Contains(err.Error(), ": 5 records, 0 tenant secrets") {
		t.Errorf("got %v, want 5 records", err)
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

// ringLists fails one listing of rings, counted from 1.
type ringLists struct {
	authz.Control
	fail atomic.Int64
}

// List implements authz.Control.
func (c *ringLists) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if kind == authz.KindRing && c.fail.Add(-1) == 0 {
		return nil, errFault
	}
	return c.Control.List(ctx, kind, after, limit)
}

// Who cannot know which rings there are, or knows of a newer one, repairs nothing.
func TestRepairNeedsToKnowTheRings(t *testing.T) {
	rw := newRingWorld(t)
	rw.degraded(3)
	control := &ringLists{Control: rw.cfgs[regionA].Controls[0].Control}
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) {
		c.Controls = []authz.RegionControl{{Region: regionA, Control: control}}
	})
	for fail := int64(1); fail <= 2; fail++ { // whether there is a newer one; which there were
		control.fail.Store(fail)
		v.RepairPass(t.Context())
		if s := rw.status(v); s.Scanned != 0 || s.Remaining != 3 || s.Superseded || s.Running {
			t.Errorf("listing %d failed: %+v", fail, s)
		}
	}
	rw.with(regionA, 2, abc())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Scanned != 0 || s.Remaining != 3 || !s.Superseded {
		t.Errorf("superseded: %+v", s)
	}
}

// pickyStore fails Replaces of some records.
type pickyStore struct {
	store.Store
	fails func(old *store.Record) bool
}

// Replace implements store.Store.
func (s pickyStore) Replace(ctx context.Context, old, next *store.Record) error {
	if s.fails(old) {
		return errFault
	}
	return s.Store.Replace(ctx, old, next)
}

// What remains is told right while a part of it cannot be written: of records
// that are of an older ring, that lack a copy, or both.
func TestWhatRemainsWhenAPartFails(t *testing.T) {
	for name, test := range map[string]struct {
		fails     func(degraded bool, tries int) bool
		remaining int
	}{
		"those with gaps":                  {func(degraded bool, _ int) bool { return degraded }, 2},
		"the others, and a gap's at first": {func(degraded bool, tries int) bool { return !degraded || tries == 1 }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			rw := newRingWorld(t)
			rw.some(rw.a, 3)
			rw.degraded(2)
			tries := map[store.Key]int{}
			v := rw.with(regionA, 2, abc(), func(c *vault.Config) {
				c.RepairWorkers = 1
				c.Store = pickyStore{c.Store, func(old *store.Record) bool {
					tries[old.Key]++
					return test.fails(len(old.Missing) > 0, tries[old.Key])
				}}
			})
			v.RepairPass(t.Context())
			if s := rw.status(v); s.Outdated != test.remaining || s.Remaining != test.remaining {
				t.Errorf("status %+v, want %d that remain", s, test.remaining)
			}
		})
	}
}

// Without randomness repair does nothing, and says so.
func TestRepairNeedsRandomness(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 2)
	rw.degraded(2)
	said, warns := warned()
	v := rw.with(regionA, 2, abc(), warns, func(c *vault.Config) { c.Random = noRandom{} })
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Scanned != 0 || s.Repaired != 0 {
		t.Errorf("status %+v", s)
	}
	for _, want := range []string{"records cannot be repaired now", "records of older key rings cannot be repaired now"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nobody hears that %s: %s", want, said)
		}
	}
}

// warned is an option of an instance, and what it warns of.
func warned() (*bytes.Buffer, func(*vault.Config)) {
	b := new(bytes.Buffer)
	return b, func(c *vault.Config) { c.Logger = zerolog.New(b).Level(zerolog.WarnLevel) }
}

// G3: what is the share of a region that beats, but whose key does not answer,
// is repaired by the others at once.
func TestTheShareOfARegionWithoutItsKey(t *testing.T) {
	rw := newRingWorld(t)
	a, b := rw.with(regionA, 2, abc()), rw.with(regionB, 2, abc())
	rw.keyDown("c")
	a.ProbePass(t.Context())
	rw.some(a, 30)
	rw.keyDown("b")
	b.BeatPass(t.Context())
	rw.settle()
	a.ProbePass(t.Context())
	a.RepairPass(t.Context())
	if s := rw.status(a); s.Repaired != 30 || s.Remaining != 0 {
		t.Errorf("status %+v", s)
	}
}

// G6: that a ring change is done is not said before the entry about it is durable.
func TestARingChangeIsNotDoneWithoutItsEntry(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 1)
	log := &faultyLog{Log: rw.cfgs[regionA].Log, action: "ring_done"}
	v := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Log = log })
	passes := func(mode int32) []string {
		log.mode.Store(mode)
		for range 3 {
			v.RepairPass(t.Context())
			rw.clock.advance(time.Minute)
		}
		return rw.status(v).RingDone
	}
	for mode := range int32(2) {
		if done := passes(mode + 1); len(done) != 0 {
			t.Errorf("mode %d: done in %v", mode+1, done)
		}
	}
	if done := passes(0); !sameSet(done, regionA) {
		t.Errorf("done in %v", done)
	}
}

// A tenant's secret that nobody can open now stays as it is, and no entry says
// that it was repaired.
func TestASecretThatCannotBeRepairedStays(t *testing.T) {
	rw := newRingWorld(t)
	control := rw.cfgs[regionA].Controls[0].Control
	secretOf := func() []byte {
		item, err := control.Get(t.Context(), authz.KindTenantSecret, rw.admin.Principal.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		return item.Body
	}
	before := secretOf()
	said, warns := warned()
	v := rw.with(regionA, 2, abc(), warns)
	rw.keyDown("a", "b")
	v.RepairPass(t.Context())
	if !bytes.Equal(secretOf(), before) {
		t.Error("the secret changed")
	}
	if n := len(rw.entries(rw.a, "repair_tenant_secret")); n != 0 {
		t.Errorf("%d entries", n)
	}
	if !strings.Contains(said.String(), "tenant secrets cannot be repaired now") {
		t.Errorf("nobody hears of it: %s", said)
	}
	rw.keyDown()
	v.ProbePass(t.Context())
	said.Reset()
	for range 2 { // and then there is nothing to do, nor to say
		v.RepairPass(t.Context())
	}
	if said.Len() != 0 || bytes.Equal(secretOf(), before) {
		t.Errorf("when they are back: %s", said)
	}
}

// G3: where no copy can be added, the row says what is so: of which ring it is
// by now, and which copies it lacks.
func TestARowSaysWhatIsSo(t *testing.T) {
	rw := newRingWorld(t)
	rw.degraded(2)
	rw.keyDown("b")
	v := rw.with(regionA, 2, []member{{regionB, "b", nil}, {regionA, "a", nil}}) // the order alone
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Outdated != 0 || s.Remaining != 2 {
		t.Errorf("status %+v", s)
	}
	rw.keyDown()
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	r := rw.rows(regionA)[0]
	if r.RingEpoch != 2 || len(r.Missing) != 0 {
		t.Fatalf("epoch %d, missing %v", r.RingEpoch, r.Missing)
	}
	next := *r
	next.Missing = []string{regionB} // it does not
	if err := rw.cfgs[regionA].Store.Replace(t.Context(), r, &next); err != nil {
		t.Fatal(err)
	}
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Remaining != 0 || s.Failed != 0 {
		t.Errorf("status %+v", s)
	}
}

// A ring whose losses were accepted is in use, and is asked no more.
func TestAnAcceptedLossIsAcceptedOnce(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	rw.token(rw.a, "email", "ann@example.com")
	rw.keyDown()
	rw.settle()
	rw.wantLoss(rw.start(regionB, 2, onlyB()))
	if err := rw.start(regionB, 2, onlyB(), func(c *vault.Config) { c.AcceptLoss = true }); err != nil {
		t.Fatal(err)
	}
	if err := rw.start(regionB, 2, onlyB()); err != nil {
		t.Errorf("again: %v", err)
	}
}
