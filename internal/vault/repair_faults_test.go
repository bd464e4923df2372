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
	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

var errFault = errors.New("a fault of the test's")

// faultyLog fails appends of one action, before or after they are durable.
type faultyLog struct {
	audit.Log
	action string
	mode   atomic.Int32 // 1: fail; 2: apply, then fail
}

type failedAppend struct{ audit.Pending }

// Wait implements audit.Pending.
func (p failedAppend) Wait(ctx context.Context) (audit.Receipt, error) {
	if p.Pending != nil {
		_, _ = p.Pending.Wait(ctx)
	}
	return audit.Receipt{}, errFault
}

// Append implements audit.Log.
func (l *faultyLog) Append(entries []audit.Entry) audit.Pending {
	mode := l.mode.Load()
	switch {
	case entries[0].Action != l.action || mode == 0:
		return l.Log.Append(entries)
	case mode == 1:
		return failedAppend{}
	}
	return failedAppend{l.Log.Append(entries)}
}

// No record changes before the entry that says so is durable: "failed" and
// "failed but was applied" leave it as it was, to be repaired by a later pass.
func TestAuditFailsDuringRepair(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 3)
	log := &faultyLog{Log: rw.cfgs[regionA].Log, action: "repair_record"}
	v := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Log = log })
	for mode, entries := range map[int32]int{1: 0, 2: 3} {
		log.mode.Store(mode)
		before := len(rw.entries(rw.a, "repair_record"))
		v.RepairPass(t.Context())
		if s := rw.status(v); s.Failed != 3 || s.Repaired != 0 || s.Outdated != 3 || s.Remaining != 3 {
			t.Errorf("mode %d: %+v", mode, s)
		}
		if n := len(rw.entries(rw.a, "repair_record")) - before; n != entries {
			t.Errorf("mode %d: %d entries", mode, n)
		}
		for _, r := range rw.rows(regionA) {
			if r.RingEpoch != 1 {
				t.Errorf("mode %d: a record changed and no entry is known to say so", mode)
			}
		}
		rw.clock.advance(time.Hour)
	}
	log.mode.Store(0)
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 3 || s.Failed != 0 || s.Outdated != 0 {
		t.Errorf("in the end: %+v", s)
	}
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, abc()), tokens)
}

// secretsFault fails Replaces of tenant secrets, before or after they are
// applied, and then the look at what became of them.
type secretsFault struct {
	authz.Control
	replace, get atomic.Int32
	conflict     atomic.Bool
}

// Replace implements authz.Control.
func (c *secretsFault) Replace(ctx context.Context, old, next authz.Item) error {
	switch {
	case c.conflict.Load():
		return authz.ErrConflict
	case c.replace.Load() == 1:
		return errFault
	case c.replace.Load() == 2:
		_ = c.Control.Replace(ctx, old, next)
		return errFault
	}
	return c.Control.Replace(ctx, old, next)
}

// Get implements authz.Control.
func (c *secretsFault) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if kind == authz.KindTenantSecret && c.get.Load() != 0 {
		return authz.Item{}, errFault
	}
	return c.Control.Get(ctx, kind, id)
}

// A tenant secret's repair that fails is said to have; one of which it is not
// known keeps its entry; one that another reconciler made needs no more.
func TestFaultsOfATenantSecretsRepair(t *testing.T) {
	for _, test := range []struct {
		name          string
		set           func(*secretsFault)
		failed, added bool
	}{
		{"failed", func(c *secretsFault) { c.replace.Store(1) }, true, false},
		{"applied all the same", func(c *secretsFault) { c.replace.Store(2) }, false, true},
		{"not known", func(c *secretsFault) { c.replace.Store(1); c.get.Store(1) }, false, false},
		{"another was first", func(c *secretsFault) { c.conflict.Store(true) }, true, false},
		{"not a fault", func(*secretsFault) {}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			rw := newRingWorld(t)
			rw.token(rw.a, "email", "ann@example.com")
			control := rw.cfgs[regionA].Controls[0].Control
			faulty := &secretsFault{Control: control}
			v := rw.with(regionA, 2, abc(), func(c *vault.Config) {
				c.Controls = []authz.RegionControl{{Region: regionA, Control: faulty}}
			})
			test.set(faulty)
			v.RepairPass(t.Context())
			outcomes := map[audit.Outcome]int{}
			for _, e := range rw.entries(rw.a, "repair_tenant_secret") {
				outcomes[e.Entry.Outcome]++
			}
			if outcomes[audit.Authorized] != 1 || (outcomes[audit.Failed] == 1) != test.failed {
				t.Errorf("entries %v", outcomes)
			}
			if s := rw.status(v); s.Repaired != 1 {
				t.Errorf("it held up the records: %+v", s)
			}
			if c := rw.coverage(rw.with(regionA, 2, abc())); c.Regions[2].MissingCopies != 0 || c.TenantSecrets != 1 {
				t.Errorf("coverage %+v", c)
			}
			item, err := control.Get(t.Context(), authz.KindTenantSecret, rw.admin.Principal.Tenant)
			if err != nil {
				t.Fatal(err)
			}
			m, err := crypto.Parse(item.Body)
			if err != nil {
				t.Fatal(err)
			}
			present, _ := v.Ring.Copies(m)
			if (len(present) == 3) != test.added {
				t.Errorf("the secret has copies of %v", present)
			}
		})
	}
}

// repairStore counts scans, and fails what it is told to.
type repairStore struct {
	store.Store
	scans               atomic.Int32
	replace, get, swept error
}

// Scan implements store.Store.
func (s *repairStore) Scan(ctx context.Context, part store.Part, page store.Page) ([]store.Row, string, error) {
	if part.Segment == 0 && page.After == "" {
		s.scans.Add(1)
	}
	return s.Store.Scan(ctx, part, page)
}

// Replace implements store.Store.
func (s *repairStore) Replace(ctx context.Context, old, next *store.Record) error {
	if s.replace != nil {
		s.get = errFault
		return s.replace
	}
	return s.Store.Replace(ctx, old, next)
}

// Get implements store.Store.
func (s *repairStore) Get(ctx context.Context, key store.Key) (*store.Record, bool, error) {
	if s.get != nil {
		return nil, false, s.get
	}
	return s.Store.Get(ctx, key)
}

// Expired implements store.Store.
func (s *repairStore) Expired(ctx context.Context, before int64, page store.Page) ([]store.Key, string, error) {
	if s.swept != nil {
		return nil, "", s.swept
	}
	return s.Store.Expired(ctx, before, page)
}

// What became of a Replace is not known: the entry stands, and it is tried again.
func TestReplaceWhoseOutcomeIsNotKnown(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 1)
	table := &repairStore{Store: rw.cfgs[regionA].Store, replace: errFault}
	v := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Store = table })
	v.RepairPass(t.Context())
	table.replace, table.get = nil, nil
	if s := rw.status(v); s.Failed != 1 {
		t.Errorf("status %+v", s)
	}
	for _, e := range rw.entries(rw.a, "repair_record") {
		if e.Entry.Outcome != audit.Authorized {
			t.Errorf("an entry says %s", e.Entry.Outcome)
		}
	}
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 1 {
		t.Errorf("status %+v", s)
	}
}

// A record whose only copy was under the key of a region that left cannot be
// repaired: it is told of, holds up no other, and the table is not read over
// and over for it, until a region comes back or somebody asks.
func TestOnlyCopyOfARegionThatLeft(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("a", "c")
	rw.a.ProbePass(t.Context())
	lost := rw.some(rw.a, 2)
	rw.keyDown()
	rw.a.ProbePass(t.Context())
	kept := rw.token(rw.a, "email", "kept@example.com")
	table := &repairStore{Store: rw.cfgs[regionA].Store}
	v := rw.with(regionA, 2, []member{{regionA, "a", nil}, {regionC, "c", nil}}, func(c *vault.Config) { c.Store, c.AcceptLoss = table, true })
	passes := func(n int) (scans int32) {
		before := table.scans.Load()
		for range n {
			v.RepairPass(t.Context())
			rw.clock.advance(time.Minute)
		}
		return table.scans.Load() - before
	}
	if n := passes(1); n != 2 { // one that counts, one that repairs
		t.Errorf("%d scans", n)
	}
	if s := rw.status(v); s.Repaired != 1 || s.Failed != 4 || s.Outdated != 2 || len(s.RingDone) != 0 { // as gaps, and by the scan
		t.Fatalf("status %+v", s)
	}
	if c := rw.coverage(v); c.Unreadable != 2 || c.Outdated != 2 || c.Records != 3 {
		t.Errorf("coverage %+v", c)
	}
	rw.wantReveal(v, kept, "kept@example.com")
	if n := passes(60); n < 8 || n > 24 {
		t.Errorf("%d scans in an hour in which nothing could be repaired", n)
	}
	if s := rw.status(v); s.Outdated != 2 || len(s.RingDone) != 0 {
		t.Errorf("between scans: %+v", s)
	}
	for name, wake := range map[string]func(){
		"a region is back": func() { v.Restored(regionC) },
		"asked": func() {
			if err := v.StartRepair(t.Context(), rw.admin); err != nil {
				t.Fatal(err)
			}
		},
	} {
		wake()
		if n := passes(1); n != 2 {
			t.Errorf("%s: %d scans", name, n)
		}
	}
	back := rw.with(regionA, 3, abc()) // the region is taken into the ring again
	back.RepairPass(t.Context())
	if s := rw.status(back); s.Repaired != 3 || s.Failed != 0 {
		t.Errorf("with its key: %+v", s)
	}
	rw.wantAll(back, lost)
}

// What waits for its end only is not rewrapped, and holds up no ring change.
func TestExpiredRecordsAreNotRewrapped(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	rw.a.ProbePass(t.Context())
	rw.token(rw.a, "note", "call back")
	rw.keyDown()
	rw.a.ProbePass(t.Context())
	before := rw.rows(regionA)[0]
	rw.clock.advance(90 * time.Minute) // its hour is over, and some clock may say that it is not
	v := rw.with(regionA, 2, abc())
	if c := rw.coverage(v); c.Records != 0 {
		t.Errorf("coverage counts %d", c.Records)
	}
	rw.clock.advance(31 * time.Minute)
	for range 3 {
		rw.a.RepairPass(t.Context())
		v.RepairPass(t.Context())
		rw.clock.advance(time.Minute)
	}
	if s := rw.status(v); s.Repaired != 0 || s.Failed != 0 || s.Outdated != 0 || !sameSet(s.RingDone, regionA) {
		t.Errorf("status %+v", s)
	}
	if r := rw.rows(regionA)[0]; r.RingEpoch != 1 || string(r.Message) != string(before.Message) {
		t.Error("an expired record was rewrapped")
	}
}

// Just expired, by this clock, it still is repaired: another's may say otherwise.
func TestJustExpiredRecordsAreRewrapped(t *testing.T) {
	rw := newRingWorld(t)
	rw.token(rw.a, "note", "call back")
	rw.clock.advance(90 * time.Minute)
	v := rw.with(regionA, 2, abc())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 1 {
		t.Errorf("status %+v", s)
	}
}

// A region whose key refuses leaves records to the others, and says nothing of them.
func TestDeniedRegionRepairsNoRecords(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	rw.some(rw.a, 2)
	rw.keyDown()
	rw.kms["a"].SetFault(localkms.Denied, 0)
	v := rw.with(regionA, 2, abc())
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Scanned != 0 || s.RingScan || s.Remaining != 2 {
		t.Errorf("status %+v", s)
	}
	rw.kms["a"].SetFault(localkms.Up, 0)
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 2 || s.Remaining != 0 {
		t.Errorf("status %+v", s)
	}
}

// G3: an instance of a ring that has been replaced, and is done, says that it
// should not have traffic: nobody looks any more for what it writes.
func TestInstanceOfASupersededRingIsNotReady(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 1)
	v := rw.with(regionA, 2, abc())
	v.RepairPass(t.Context())
	v.RepairPass(t.Context())
	if err := rw.a.Ready(t.Context())["ring"]; err != nil {
		t.Fatalf("before it is done: %v", err)
	}
	rw.clock.advance(time.Minute)
	v.RepairPass(t.Context())
	if err := rw.a.Ready(t.Context())["ring"]; !errors.Is(err, vault.ErrRingSuperseded) {
		t.Errorf("the older: %v", err)
	}
	if err := v.Ready(t.Context())["ring"]; err != nil {
		t.Errorf("the newer: %v", err)
	}
}

// What has expired and cannot be listed does not keep the sweeper from what is erased.
func TestSweeperGoesOn(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
	table := &repairStore{Store: rw.cfgs[regionA].Store, swept: errFault}
	rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Store = table }).SweepPass(t.Context())
	if n := len(rw.rows(regionA)); n != 0 {
		t.Errorf("%d records left", n)
	}
}

// From copies to one multi-Region key and back: everything opens in each
// region by its own key alone, with no other region's KMS.
func TestModeChanges(t *testing.T) {
	rw := newRingWorld(t)
	primary, err := rw.kms["a"].CreateKey(true)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := rw.kms["b"].Replicate(rw.kms["a"], primary)
	if err != nil {
		t.Fatal(err)
	}
	copies := []string{rw.kms["a"].Keys()[0], rw.kms["b"].Keys()[0]}
	ring := func(epoch uint64, mode crypto.Mode, keys, former []string) func(local string) *vault.Vault {
		return func(local string) *vault.Vault {
			cfg := *rw.cfgs[local]
			c := crypto.RingConfig{Local: local, Mode: mode, Epoch: epoch, Now: cfg.Now}
			for i, name := range []string{"a", "b"} {
				c.Regions = append(c.Regions, crypto.Region{Name: rw.place[name], KMS: rw.kms[name], KeyARN: keys[i], Former: []string{former[i]}})
			}
			if cfg.Ring, err = crypto.NewRing(c); err != nil {
				t.Fatal(err)
			}
			cfg.Sealer = crypto.NewSealer(cfg.Ring, cfg.Now, nil)
			v, err := vault.New(cfg)
			if err == nil {
				err = v.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	tokens := rw.some(rw.a, 5)
	rw.settle()
	change := func(at func(string) *vault.Vault) {
		t.Helper()
		v := at(regionB)
		v.RepairPass(t.Context())
		if s := rw.status(v); s.Failed != 0 || s.Outdated != 0 || s.Remaining != 0 {
			t.Fatalf("status %+v", s)
		}
		tokens = append(tokens, rw.token(v, "email", fmt.Sprintf("p%d@example.com", len(tokens))))
		rw.settle()
		for region, down := range map[string]string{regionA: "b", regionB: "a"} {
			rw.keyDown(down)
			rw.wantAll(at(region), tokens)
		}
		rw.keyDown()
	}
	multi := ring(2, crypto.MultiRegion, []string{primary, replica}, copies)
	change(multi)
	for _, r := range rw.rows(regionA) {
		if r.RingEpoch != 2 || len(r.Missing) != 0 {
			t.Fatalf("epoch %d, missing %v", r.RingEpoch, r.Missing)
		}
	}
	change(ring(3, crypto.Copies, copies, []string{primary, replica}))
}

// A region that seems to be up and adds nothing: the record stays as it is,
// and no entry says that it was repaired.
func TestNothingToAdd(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	token := rw.token(rw.a, "email", "ann@example.com")
	rw.keyDown()
	rw.a.ProbePass(t.Context())
	before := rw.rows(regionA)[0]
	rw.keyDown("b") // and nobody has noticed
	rw.a.RepairPass(t.Context())
	if s := rw.status(rw.a); s.Scanned != 1 || s.Repaired != 0 || s.Failed != 0 || s.Remaining != 1 {
		t.Errorf("status %+v", s)
	}
	if n := len(rw.entries(rw.a, "repair_record")); n != 0 {
		t.Errorf("%d entries", n)
	}
	if r := rw.rows(regionA)[0]; string(r.Message) != string(before.Message) {
		t.Error("the message changed")
	}
	rw.wantReveal(rw.a, token, "ann@example.com")
}

// Repair, its status and coverage take their right.
func TestRepairTakesItsRight(t *testing.T) {
	rw := newRingWorld(t)
	reader := rw.as(authz.RoleReader)
	_, status := rw.a.RepairStatus(t.Context(), reader)
	_, coverage := rw.a.Coverage(t.Context(), reader, "")
	_, erase := rw.a.Erase(t.Context(), reader, vault.EraseRequest{SubjectID: "C-1"})
	for _, err := range []error{rw.a.StartRepair(t.Context(), reader), status, coverage, erase} {
		wantCode(t, err, vault.ErrForbidden, "forbidden")
	}
}
