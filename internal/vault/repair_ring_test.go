package vault_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

const regionC = "ap-southeast-2"

// ringWorld is a world whose ring changes: vaults of any epoch stand on the
// same tables, as instances do during a rolling change.
type ringWorld struct {
	*world
	t     *testing.T
	cfgs  map[string]*vault.Config
	kms   map[string]*localkms.KMS // by name of the key: a region's, or another of it
	place map[string]string        // name of the key → region
}

// member is one region of a ring under the key of that name; former ones of it.
type member struct {
	region, key string
	former      []string
}

func ab() []member { return []member{{regionA, "a", nil}, {regionB, "b", nil}} }
func abc() []member {
	return append(ab(), member{regionC, "c", nil})
}

func newRingWorld(t *testing.T) *ringWorld {
	t.Helper()
	rw := &ringWorld{t: t, cfgs: map[string]*vault.Config{}, kms: map[string]*localkms.KMS{}, place: map[string]string{}}
	for key, region := range map[string]string{"a": regionA, "b": regionB, "c": regionC, "a2": regionA} {
		kms, err := localkms.Create(localkms.Config{Path: filepath.Join(t.TempDir(), "kms.json"), Region: region})
		if err != nil {
			t.Fatal(err)
		}
		rw.kms[key], rw.place[key] = kms, region
	}
	rw.world = newWorld(t, wrapped(func(region string, cfg *vault.Config) {
		cfg.RepairRate = float64(rate.Inf)
		rw.install(cfg, region, 1, ab())
		kept := *cfg
		rw.cfgs[region] = &kept
	}))
	return rw
}

func (rw *ringWorld) install(cfg *vault.Config, local string, epoch uint64, members []member) {
	rw.t.Helper()
	c := crypto.RingConfig{Local: local, Mode: crypto.Copies, Epoch: epoch, Now: cfg.Now}
	for _, m := range members {
		region := crypto.Region{Name: m.region, KMS: rw.kms[m.key], KeyARN: rw.kms[m.key].Keys()[0]}
		for _, f := range m.former {
			region.Former = append(region.Former, rw.kms[f].Keys()[0])
		}
		c.Regions = append(c.Regions, region)
	}
	ring, err := crypto.NewRing(c)
	if err != nil {
		rw.t.Fatal(err)
	}
	cfg.Ring, cfg.Sealer = ring, crypto.NewSealer(ring, cfg.Now, nil)
}

// with is an instance of another epoch, started.
func (rw *ringWorld) with(region string, epoch uint64, members []member, change ...func(*vault.Config)) *vault.Vault {
	rw.t.Helper()
	cfg := *rw.cfgs[region]
	rw.install(&cfg, region, epoch, members)
	for _, c := range change {
		c(&cfg)
	}
	v, err := vault.New(cfg)
	if err != nil {
		rw.t.Fatal(err)
	}
	if err := v.Start(rw.t.Context()); err != nil {
		rw.t.Fatal(err)
	}
	return v
}

func (rw *ringWorld) status(v *vault.Vault) vault.RepairStatus {
	rw.t.Helper()
	s, err := v.RepairStatus(rw.t.Context(), rw.admin)
	if err != nil {
		rw.t.Fatal(err)
	}
	return s
}

func (rw *ringWorld) keyDown(keys ...string) {
	for key, k := range rw.kms {
		if slices.Contains(keys, key) {
			k.SetFault(localkms.Down, 0)
		} else {
			k.SetFault(localkms.Up, 0)
		}
	}
}

func (rw *ringWorld) some(v *vault.Vault, n int) (tokens []secret.Text) {
	for i := range n {
		tokens = append(tokens, rw.token(v, "email", fmt.Sprintf("p%d@example.com", i)))
	}
	return tokens
}

func (rw *ringWorld) wantAll(v *vault.Vault, tokens []secret.Text) {
	rw.t.Helper()
	for i, token := range tokens {
		rw.wantReveal(v, token, fmt.Sprintf("p%d@example.com", i))
	}
}

// G2, G3: a region added: every record and secret gets its copy; then the
// first region leaves, and nothing of its key remains.
func TestRegionAddedThenRemoved(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 25)
	rw.settle()
	added := rw.with(regionA, 2, abc())
	added.RepairPass(t.Context())
	if s := rw.status(added); s.Repaired != 25 || s.Failed != 0 || s.Outdated != 0 || s.Remaining != 0 || !s.RingScan {
		t.Fatalf("status %+v", s)
	}
	rw.settle()
	rw.keyDown("a", "b") // whoever starts now opens the tenant's secret and all records by C alone
	alone := rw.with(regionB, 2, abc())
	rw.wantAll(alone, tokens)
	rw.keyDown()

	removed := rw.with(regionB, 3, abc()[1:])
	removed.RepairPass(t.Context())
	rw.settle()
	rw.keyDown("c")
	rw.wantAll(removed, tokens)
	rw.keyDown()
	for _, kept := range rw.rows(regionA) {
		m, err := crypto.Parse(kept.Message)
		if err != nil || kept.RingEpoch != 3 || len(kept.Missing) != 0 {
			t.Fatalf("epoch %d, missing %v, %v", kept.RingEpoch, kept.Missing, err)
		}
		if present, _ := rw.cfgs[regionA].Ring.Copies(m); !sameSet(present, regionB) {
			t.Fatalf("copies of the first ring: %v", present)
		}
	}
}

// rows are all records of a region's table.
func (rw *ringWorld) rows(region string) (records []*store.Record) {
	rw.t.Helper()
	table := rw.cfgs[region].Store
	rows, _, err := table.Scan(rw.t.Context(), store.Part{Segments: 1}, store.Page{Limit: 1000})
	if err != nil {
		rw.t.Fatal(err)
	}
	for _, row := range rows {
		r, _, err := table.Get(rw.t.Context(), row.Key)
		if err != nil {
			rw.t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// A key replaced while another region's KMS is out: what the old key opened
// stays open, the records are then gaps, and closed when the region is back.
func TestKeyReplacedDuringAnOutage(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 5)
	replaced := []member{{regionA, "a2", []string{"a"}}, {regionB, "b", nil}}
	rw.keyDown("a2")
	v := rw.with(regionB, 2, replaced)
	rw.settle()
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 5 || s.Outdated != 0 || s.Remaining != 5 {
		t.Fatalf("while the new key is out: %+v", s)
	}
	rw.wantAll(v, tokens)
	rw.keyDown()
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Remaining != 0 || s.Failed != 0 {
		t.Fatalf("when it is back: %+v", s)
	}
	rw.settle()
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, replaced), tokens)
}

// An instance of the older ring repairs nothing beside one of the newer, and
// its kind does not start once that is done.
func TestOlderRingDoesNotUndo(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 3)
	v := rw.with(regionA, 2, abc())
	old := rw.with(regionA, 1, ab()) // a restart during the change
	v.RepairPass(t.Context())
	before := rw.rows(regionA)
	if err := old.StartRepair(t.Context(), rw.admin); err != nil {
		t.Fatal(err)
	}
	old.RepairPass(t.Context())
	if s := rw.status(old); !s.Superseded || s.Scanned != 0 {
		t.Errorf("status of the older: %+v", s)
	}
	for i, r := range rw.rows(regionA) {
		if string(r.Message) != string(before[i].Message) || r.RingEpoch != 2 {
			t.Fatal("an instance of an older ring replaced a record")
		}
	}
	// Only passes further apart than the replication lag end the search.
	v.RepairPass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); len(s.RingDone) != 0 {
		t.Fatalf("done too early: %v", s.RingDone)
	}
	rw.with(regionA, 1, ab())
	rw.clock.advance(time.Minute)
	v.RepairPass(t.Context())
	if s := rw.status(v); !sameSet(s.RingDone, regionA) || s.Superseded {
		t.Fatalf("done: %+v", s)
	}
	cfg := *rw.cfgs[regionA]
	late, err := vault.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Start(t.Context()); !errors.Is(err, vault.ErrRingSuperseded) {
		t.Errorf("an instance of the older ring started: %v", err)
	}
	v.RepairPass(t.Context())
	if s := rw.status(v); s.RingScan {
		t.Error("scanned though done")
	}
	if err := v.StartRepair(t.Context(), rw.admin); err != nil {
		t.Fatal(err)
	}
	v.RepairPass(t.Context())
	if s := rw.status(v); !s.RingScan {
		t.Error("asked, it did not scan")
	}
}

// A record of a newer ring is left alone even by who has not heard of the ring.
func TestRecordOfANewerRingIsLeftAlone(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	rw.some(rw.a, 1)
	r := rw.rows(regionA)[0]
	next := *r
	next.RingEpoch = 9
	if err := rw.cfgs[regionA].Store.Replace(t.Context(), r, &next); err != nil {
		t.Fatal(err)
	}
	rw.keyDown()
	rw.a.ProbePass(t.Context())
	rw.a.RepairPass(t.Context())
	if got := rw.rows(regionA)[0]; got.RingEpoch != 9 || string(got.Message) != string(r.Message) {
		t.Error("replaced")
	}
}

// faultyStore fails Replaces, before or after they are applied.
type faultyStore struct {
	store.Store
	mode atomic.Int32 // 1: fail; 2: apply, then fail
	hook func(old *store.Record)
}

func (s *faultyStore) Replace(ctx context.Context, old, next *store.Record) error {
	if s.hook != nil {
		s.hook(old)
	}
	switch s.mode.Load() {
	case 1:
		return store.ErrUnavailable
	case 2:
		if err := s.Store.Replace(ctx, old, next); err != nil {
			return err
		}
		return store.ErrUnavailable
	}
	return s.Store.Replace(ctx, old, next)
}

// "failed" and "failed but was applied": counted as what they are, and done
// again where they must be.
func TestReplaceFails(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 4)
	faulty := &faultyStore{Store: rw.cfgs[regionA].Store}
	v := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Store = faulty })
	faulty.mode.Store(1)
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Failed != 4 || s.Repaired != 0 || s.Running {
		t.Fatalf("failed: %+v", s)
	}
	failed := 0
	for _, e := range rw.entries(rw.a, "repair_record") {
		if e.Entry.Outcome == "failed" && e.Entry.About != nil {
			failed++
		}
	}
	if failed != 4 {
		t.Errorf("%d entries say that a repair failed, want 4", failed)
	}
	faulty.mode.Store(2)
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Failed != 0 || s.Repaired != 4 {
		t.Fatalf("applied all the same: %+v", s)
	}
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, abc()), tokens)
}

// G9: what is buried between repair's look and its write is not replaced.
func TestErasedWhileRepaired(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 3)
	table := rw.cfgs[regionA].Store
	faulty := &faultyStore{Store: table, hook: func(old *store.Record) {
		if err := table.Bury(rw.ctx(), []store.Key{old.Key}); err != nil {
			t.Error(err)
		}
	}}
	v := rw.with(regionA, 2, abc(), func(c *vault.Config) { c.Store = faulty })
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 0 || s.Failed != 0 {
		t.Errorf("status %+v", s)
	}
	for _, r := range rw.rows(regionA) {
		if r.RingEpoch != 1 {
			t.Error("a buried record was replaced")
		}
	}
	for _, token := range tokens {
		rw.wantGone(rw.a, token)
	}
	v.SweepPass(t.Context())
	if n := len(rw.rows(regionA)); n != 0 {
		t.Errorf("%d records left", n)
	}
}

// G1, G3: workers of two regions repair the same records at once; whichever
// write comes last, the record is complete everywhere.
func TestTwoRegionsRepairAtOnce(t *testing.T) {
	rw := newRingWorld(t)
	tokens := rw.some(rw.a, 20)
	rw.settle()
	var wg sync.WaitGroup
	workers := []*vault.Vault{rw.with(regionA, 2, abc()), rw.with(regionA, 2, abc()), rw.with(regionB, 2, abc())}
	for _, v := range workers {
		wg.Go(func() { v.RepairPass(rw.ctx()) })
	}
	wg.Wait()
	rw.settle()
	for _, region := range []string{regionA, regionB} {
		for _, r := range rw.rows(region) {
			if r.RingEpoch != 2 || len(r.Missing) != 0 {
				t.Fatalf("%s: epoch %d, missing %v", region, r.RingEpoch, r.Missing)
			}
		}
	}
	for _, down := range [][]string{{"a", "b"}, {"a", "c"}, {"b", "c"}} {
		rw.keyDown(down...)
		rw.wantAll(rw.with(regionA, 2, abc()), tokens)
		rw.wantAll(rw.with(regionB, 2, abc()), tokens)
	}
}

// A tenant secret that cannot be repaired does not hold up the others.
func TestCorruptSecretDoesNotHoldUpTheOthers(t *testing.T) {
	rw := newRingWorld(t)
	bad := authz.Item{Kind: authz.KindTenantSecret, ID: "!", Body: []byte("x")}
	if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	tokens := rw.some(rw.a, 1)
	rw.with(regionA, 2, abc()).RepairPass(t.Context())
	rw.keyDown("a", "b")
	rw.wantAll(rw.with(regionA, 2, abc()), tokens)
}
