package vault_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"piivault/internal/audit"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// others lets a test put itself before the other regions' tables.
func others(change func(region string, table *vault.RegionTable)) option {
	return wrapped(func(region string, cfg *vault.Config) {
		cfg.TwoRegions = true
		for i := range cfg.Others {
			change(region, &cfg.Others[i])
		}
	})
}

func twoRegions() option { return others(func(string, *vault.RegionTable) {}) }

func (w *world) cut(region string, down bool) {
	w.t.Helper()
	w.fault(sim.Fault{Region: region, Link: map[bool]string{true: "down", false: "up"}[down]})
}

// wantKept asks the other region alone, which nothing has replicated to.
func (w *world) wantKept(token secret.Text, text string) {
	w.t.Helper()
	w.cut(regionA, true)
	w.wantReveal(w.b, token, text)
	w.cut(regionA, false)
}

// wantNoSecond: refused, and every entry of the call says that it did not come to pass.
func (w *world) wantNoSecond(req vault.TokenizeRequest) {
	w.t.Helper()
	before := len(w.entries(w.a, "tokenize"))
	_, err := w.a.Tokenize(w.ctx(), w.admin, req)
	wantCode(w.t, err, vault.ErrUnavailable, "second_region_unavailable")
	found := w.entries(w.a, "tokenize")
	found = found[:len(found)-before]
	undone := 0
	for _, e := range found {
		if e.Entry.Outcome == audit.Failed && e.Entry.About != nil {
			undone++
		}
	}
	if len(found) != 2*len(req.Items) || undone != len(req.Items) {
		w.t.Errorf("%d entries, of which %d say that it failed, of %d items", len(found), undone, len(req.Items))
	}
}

// G1, durability two_regions: what was acknowledged is in a second region
// before anything replicates, of every kind of token, batches and links too.
func TestTwoRegionsHaveItBeforeTheAnswer(t *testing.T) {
	w := newWorld(t, twoRegions())
	w.wantKept(w.token(w.a, "email", "ann@example.com"), "ann@example.com")
	linked := w.subjectToken(w.a, "customer_email", "bob@example.com", "C-1")
	w.wantKept(linked, "bob@example.com")
	again := w.subjectToken(w.a, "customer_email", "bob@example.com", "C-2") // of another subject
	out := w.tokenize(w.a, value("email", "eve@example.com"), value("customer_email", "eve@example.com"), value("ssn", "778-35-0827"))
	for i, text := range []string{"eve@example.com", "eve@example.com", "778-35-0827"} {
		w.wantKept(out[i].Token, text)
	}
	// The second subject's link is there as well: its erasure there finds the value (G9).
	w.cut(regionA, true)
	w.erase(w.b, vault.EraseRequest{SubjectID: "C-2"})
	w.b.ErasePass(t.Context())
	w.cut(regionA, false)
	w.settle()
	w.wantGone(w.b, again)
	// What replication delivers late is the same item.
	w.wantReveal(w.b, out[0].Token, "eve@example.com")
	w.wantReveal(w.a, out[0].Token, "eve@example.com")
}

// G1: without a second region nothing is acknowledged, and what the try has
// left behind stands for nothing until a later one has put it there, too.
func TestNoSecondRegionNoAnswer(t *testing.T) {
	w := newWorld(t, twoRegions())
	requests := func() map[string]vault.TokenizeRequest {
		return map[string]vault.TokenizeRequest{
			"random":        {Items: []vault.TokenizeItem{value("email", "ann@example.com"), value("email", "bob@example.com")}},
			"idempotent":    {Items: []vault.TokenizeItem{value("email", "ann@example.com")}, IdempotencyKey: idempotencyKey("k")},
			"deterministic": {Items: []vault.TokenizeItem{value("customer_email", "ann@example.com")}},
		}
	}
	w.cut(regionB, true)
	for _, req := range requests() {
		w.wantNoSecond(req)
	}
	w.wantNoSecond(requests()["deterministic"]) // here it is by now, and there not
	w.cut(regionB, false)
	for name, req := range requests() {
		out, err := w.a.Tokenize(t.Context(), w.admin, req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.wantKept(out[0].Token, "ann@example.com")
	}
}

// G1: a second write that fails though it was applied is not answered for; a
// retry under the same idempotency key is.
func TestSecondWriteFailedButApplied(t *testing.T) {
	var broken atomic.Bool
	w := newWorld(t, others(func(_ string, table *vault.RegionTable) {
		insert := table.Insert
		table.Insert = func(ctx context.Context, records []store.New) ([]store.Outcome, error) {
			outcomes, err := insert(ctx, records)
			if broken.Load() {
				return nil, errors.New("no answer")
			}
			return outcomes, err
		}
	}))
	req := func() vault.TokenizeRequest {
		return vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}, IdempotencyKey: idempotencyKey("k")}
	}
	broken.Store(true)
	w.wantNoSecond(req())
	broken.Store(false)
	out, err := w.a.Tokenize(t.Context(), w.admin, req())
	if err != nil {
		t.Fatal(err)
	}
	w.wantKept(out[0].Token, "ann@example.com")
	w.wantReveal(w.a, out[0].Token, "ann@example.com")
}

// A local write that fails is not made good by the other region's.
func TestSecondRegionIsNoSubstitute(t *testing.T) {
	w := newWorld(t, wrapped(func(region string, cfg *vault.Config) {
		cfg.TwoRegions = true
		if region == regionA {
			cfg.Store = refusing{cfg.Store}
		}
	}))
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}})
	wantCode(t, err, vault.ErrUnavailable, "unavailable")
}

// refusing takes no records.
type refusing struct{ store.Store }

func (refusing) Insert(context.Context, []store.New) ([]store.Outcome, error) {
	return nil, store.ErrUnavailable
}

// G9: what the other region alone knows to be erased is erased: a retry under
// an idempotency key is refused, a deterministic value is made anew.
func TestBuriedInTheOtherRegion(t *testing.T) {
	w := newWorld(t, twoRegions())
	idempotent := func() vault.TokenizeRequest {
		return vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}, IdempotencyKey: idempotencyKey("k")}
	}
	out, err := w.a.Tokenize(t.Context(), w.admin, idempotent())
	if err != nil {
		t.Fatal(err)
	}
	random, same := out[0].Token, w.token(w.a, "customer_email", "ann@example.com")
	w.cut(regionA, true)
	w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{random, same}})
	w.b.ErasePass(t.Context())
	w.cut(regionA, false)
	w.wantReveal(w.a, same, "ann@example.com") // which A does not know
	_, err = w.a.Tokenize(t.Context(), w.admin, idempotent())
	wantCode(t, err, vault.ErrConflict, "erased")
	w.wantGone(w.a, random)
	if again := w.token(w.a, "customer_email", "ann@example.com"); again.Reveal() != same.Reveal() {
		t.Error("another token for the same value")
	}
	w.wantKept(same, "ann@example.com")
	if got, err := w.b.Inspect(t.Context(), w.admin, []secret.Text{same}); err != nil || got[0].Generation != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// G9: the other region's tombstones are looked for there, whatever was read
// here, and one of them outweighs what was just put here.
func TestTheOtherRegionLooksForItself(t *testing.T) {
	buried := false
	w := newWorld(t, others(func(_ string, table *vault.RegionTable) {
		insert := table.Insert
		table.Insert = func(ctx context.Context, records []store.New) ([]store.Outcome, error) {
			for _, n := range records {
				if n.Unburied {
					t.Error("a look at this region's table spares one at the other's")
				}
			}
			if buried {
				return slices.Repeat([]store.Outcome{store.Buried}, len(records)), nil
			}
			return insert(ctx, records)
		}
	}))
	w.token(w.a, "customer_email", "ann@example.com")
	buried = true
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{
		Items: []vault.TokenizeItem{value("email", "ann@example.com")}, IdempotencyKey: idempotencyKey("k"),
	})
	wantCode(t, err, vault.ErrConflict, "erased")
}

// G1: of several other regions the first that answers has it; one that failed
// just now is asked last for a while, and first again thereafter.
func TestAnotherSecondRegion(t *testing.T) {
	const regionC = "ap-south-1"
	var asked []string
	w := newWorld(t, func(c *sim.Config) { c.Regions = append(c.Regions, regionC) }, others(func(region string, table *vault.RegionTable) {
		insert := table.Insert
		table.Insert = func(ctx context.Context, records []store.New) ([]store.Outcome, error) {
			if region == regionA {
				asked = append(asked, table.Region)
			}
			return insert(ctx, records)
		}
	}))
	wantAsked := func(want ...string) secret.Text {
		t.Helper()
		asked = nil
		token := w.token(w.a, "email", "ann@example.com")
		if !slices.Equal(asked, want) {
			t.Errorf("asked %v, want %v", asked, want)
		}
		return token
	}
	wantAsked(regionB)
	w.cut(regionB, true)
	token := wantAsked(regionB, regionC)
	wantAsked(regionC)
	w.cut(regionB, false)
	wantAsked(regionC)
	w.clock.advance(11e9)
	wantAsked(regionB)
	w.cut(regionA, true)
	w.wantReveal(w.Region(regionC).Vault, token, "ann@example.com")
}

// G1: the accepting region is lost for good before anything has replicated.
func TestTheAcceptingRegionIsLost(t *testing.T) {
	var dir string
	w := newWorld(t, twoRegions(), func(c *sim.Config) { dir = c.Dir })
	token := w.token(w.a, "email", "ann@example.com")
	if err := w.World.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, regionA, "data")); err != nil {
		t.Fatal(err)
	}
	again, err := sim.Open(t.Context(), sim.Config{Dir: dir, Regions: []string{regionA, regionB}, Now: w.clock.now, Types: testTypes()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}()
	w.World, w.a, w.b = again, again.Regions[0].Vault, again.Regions[1].Vault
	w.cut(regionA, true)
	w.wantReveal(w.b, token, "ann@example.com")
}

func TestTwoRegionsNeedTwo(t *testing.T) {
	_, err := sim.Open(t.Context(), sim.Config{Dir: t.TempDir(), Regions: []string{regionA}, Wrap: func(_ string, cfg *vault.Config) { cfg.TwoRegions = true }})
	if err == nil {
		t.Error("a vault of one region was made with a second region to write to")
	}
}
