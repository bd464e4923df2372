package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
)

// own gives a tenant a key of its own in each region of a ring, of its KMSs.
func own(tb testing.TB, c *crypto.RingConfig, kmss []*localkms.KMS, tenant string, former ...[]string) []string {
	tb.Helper()
	t := crypto.TenantRegions{Tenant: tenant}
	var arns []string
	for i, k := range kmss {
		arn, err := k.CreateKey(false)
		if err != nil {
			tb.Fatal(err)
		}
		r := crypto.TenantRegion{Name: regionName(i), KeyARN: arn}
		if len(former) > 0 {
			r.Former = former[i]
		}
		t.Regions, arns = append(t.Regions, r), append(arns, arn)
	}
	c.Tenants = append(c.Tenants, t)
	return arns
}

// locals are the KMSs behind remote ones.
func locals(remotes []*remoteKMS) (all []*localkms.KMS) {
	for _, k := range remotes {
		all = append(all, k.KMS)
	}
	return all
}

func valueOf(tenant string) crypto.Value {
	v := boundValue("x of " + tenant)
	v.Place.Tenant = tenant
	return v
}

// disable disables keys of localkms or enables them.
func disable(tb testing.TB, kmss []*localkms.KMS, disabled bool, arns ...string) {
	tb.Helper()
	for _, k := range kmss {
		for _, arn := range arns {
			if slices.Contains(k.Keys(), arn) {
				if err := k.SetDisabled(arn, disabled); err != nil {
					tb.Fatal(err)
				}
			}
		}
	}
}

// Each tenant's data keys are wrapped by its own keys and by no others; who has
// none shares those of the ring; every region opens them.
func TestTenantsOwnKeysWrap(t *testing.T) {
	kmss := newKMSs(t, 3)
	c := ringConfig(kmss)
	shared := []string{c.Regions[0].KeyARN, c.Regions[1].KeyARN, c.Regions[2].KeyARN}
	wants := map[string][]string{"tn_1": shared, "tn_a": own(t, &c, kmss, "tn_a"), "tn_b": own(t, &c, kmss, "tn_b"), "tn_2": shared}
	for tenant, want := range wants {
		s := localTo(t, c, regionName(1))
		v := valueOf(tenant)
		sealed := mustSeal(t, s, v)
		equal(t, tenant, dissect(t, sealed.Message).order, want)
		for i := range kmss {
			if region := mustOpen(t, localTo(t, c, regionName(i)), sealed.Message, v); region != regionName(i) {
				t.Errorf("%s: opened by %s", tenant, region)
			}
		}
		if _, err := s.Rewrap(t.Context(), sealed.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
			t.Errorf("%s: rewrapped: %v", tenant, err)
		}
	}
}

// G8: whatever copies of two tenants, and of the ring's own keys, are put in
// each other's place, nothing opens, and no tenant's key is asked for another's.
func TestSwappedCopiesOfTenantsOpenNothing(t *testing.T) {
	c, remotes := remoteRing(t, 2)
	kmss := locals(remotes)
	arns := map[string][]string{"tn_a": own(t, &c, kmss, "tn_a"), "tn_b": own(t, &c, kmss, "tn_b"), "tn_1": {c.Regions[0].KeyARN, c.Regions[1].KeyARN}}
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	messages := map[string][]byte{}
	for tenant := range arns {
		messages[tenant] = mustSeal(t, s, valueOf(tenant)).Message
	}
	for tenant := range arns {
		for other := range arns {
			if tenant == other {
				mustOpen(t, s, messages[tenant], valueOf(tenant))
				continue
			}
			before := remotes[0].calls.Load() + remotes[1].calls.Load()
			if _, _, err := open(t, s, messages[other], valueOf(tenant)); !errors.Is(err, crypto.ErrAuthentication) {
				t.Errorf("%s as %s's: %v", other, tenant, err)
			}
			if n := remotes[0].calls.Load() + remotes[1].calls.Load() - before; n != 0 {
				t.Errorf("%s as %s's: %d KMS calls", other, tenant, n)
			}
			// The other's copies in this tenant's message: their names are nobody's here.
			swapped := messages[tenant]
			for i, arn := range arns[tenant] {
				swapped = bytes.Replace(swapped, dissect(t, messages[tenant]).copies[arn], dissect(t, messages[other]).copies[arns[other][i]], 1)
			}
			if _, _, err := open(t, s, swapped, valueOf(tenant)); !errors.Is(err, crypto.ErrNoCopy) {
				t.Errorf("%s's copies in %s's message: %v", other, tenant, err)
			}
			if n := remotes[0].calls.Load() + remotes[1].calls.Load() - before; n != 0 {
				t.Errorf("%s's copies in %s's message: %d KMS calls", other, tenant, n)
			}
			// And under this tenant's names: KMS refuses them.
			for i, arn := range arns[tenant] {
				renamed := bytes.Replace(dissect(t, messages[other]).copies[arns[other][i]], []byte(arns[other][i]), []byte(arn), 1)
				swapped = bytes.Replace(swapped, dissect(t, messages[other]).copies[arns[other][i]], renamed, 1)
			}
			if _, _, err := open(t, s, swapped, valueOf(tenant)); !errors.Is(err, crypto.ErrAuthentication) {
				t.Errorf("%s's copies renamed in %s's message: %v", other, tenant, err)
			}
		}
	}
}

// A tenant's key that is disabled or denied, here or there, is that tenant's
// matter: no breaker opens, nobody else's copies are missing, nothing that was
// made ahead or kept for others is dropped.
func TestTenantsDenialIsItsOwn(t *testing.T) {
	c, remotes := remoteRing(t, 2)
	kmss := locals(remotes)
	a := own(t, &c, kmss, "tn_a")
	own(t, &c, kmss, "tn_b")
	ring := mustRing(t, c)
	s := crypto.NewSealer(ring, nil, nil)
	kept := valueOf("tn_b")
	kept.Policy = crypto.Policy{Reuse: true, MaxMessages: 100, MaxBytes: 1 << 20, MaxAge: time.Hour}
	first := mustSeal(t, s, kept)
	whole := mustSeal(t, s, valueOf("tn_a")).Message

	disable(t, kmss, true, a[1])
	sealed := mustSeal(t, s, valueOf("tn_a"))
	equal(t, "A's missing", sealed.Missing, []string{"region-1"})
	if got := ring.For("tn_a").State("region-1"); got != crypto.Denied {
		t.Errorf("A's key is %s", got)
	}
	for _, tenant := range []string{"tn_b", "tn_1"} {
		equal(t, tenant+" missing", mustSeal(t, s, valueOf(tenant)).Missing, nil)
		if got := ring.For(tenant).State("region-1"); got != crypto.Up {
			t.Errorf("%s's key is %s", tenant, got)
		}
	}
	equal(t, "the ring's", states(ring), []string{"up", "up"})
	if again := mustSeal(t, s, kept); again.DataKey != first.DataKey {
		t.Error("B's kept data key was dropped for A's denial")
	}

	disable(t, kmss, true, a[0]) // now the local one: reveals are refused, not routed around
	if _, _, err := open(t, s, whole, valueOf("tn_a")); !errors.Is(err, crypto.ErrDisabled) {
		t.Errorf("reveal of A: %v", err)
	}
	if _, err := s.Seal(t.Context(), []crypto.Value{valueOf("tn_a")}); !errors.Is(err, crypto.ErrTooFewCopies) {
		t.Errorf("write of A: %v", err)
	}
	mustOpen(t, s, mustSeal(t, s, valueOf("tn_b")).Message, valueOf("tn_b"))
	equal(t, "the ring's", states(ring), []string{"up", "up"})

	disable(t, kmss, false, a...)
	ring.Probe(t.Context())
	if got := ring.For("tn_a").Health(); got[0].State != crypto.Up || got[1].State != crypto.Up {
		t.Errorf("enabled again: %+v", got)
	}
	equal(t, "A's missing", mustSeal(t, s, valueOf("tn_a")).Missing, nil)
}

// What cannot be reached is out for all tenants at once, and costs them one
// timeout together; the ring's key that refuses says nothing of tenants' own.
func TestSitesAreShared(t *testing.T) {
	c, remotes := remoteRing(t, 2)
	own(t, &c, locals(remotes), "tn_a")
	ring := mustRing(t, c)
	s := crypto.NewSealer(ring, nil, nil)
	remotes[1].set(fails(crypto.ErrUnreachable))
	equal(t, "missing", mustSeal(t, s, valueOf("tn_a")).Missing, []string{"region-1"})
	calls := remotes[1].calls.Load()
	equal(t, "missing", mustSeal(t, s, valueOf("tn_1")).Missing, []string{"region-1"})
	if remotes[1].calls.Load() != calls {
		t.Error("an open breaker was tried for another tenant")
	}
	if got := ring.For("tn_a").State("region-1"); got != crypto.Down || states(ring)[1] != "down" {
		t.Errorf("A's %s, the ring's %s", got, states(ring)[1])
	}
	remotes[1].set(nil)
	disable(t, locals(remotes), true, c.Regions[1].KeyARN)
	ring.Probe(t.Context())
	if got := ring.For("tn_a").State("region-1"); got != crypto.Up || states(ring)[1] != "denied" {
		t.Errorf("A's %s, the ring's %s", got, states(ring)[1])
	}
	equal(t, "A's missing", mustSeal(t, s, valueOf("tn_a")).Missing, nil)
}

// A tenant's key that nobody uses is asked in turn, and one that refuses at
// every probe: its denial and its end are noticed without traffic, repair told.
func TestProbesOfTenantsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, remotes := remoteRing(t, 1)
		kmss := locals(remotes)
		var arns []string
		for i := range 5 {
			arns = append(arns, own(t, &c, kmss, fmt.Sprintf("tn_%d", i+5))...)
		}
		var restored atomic.Int32
		c.OnRestored = func(string) { restored.Add(1) }
		ring := mustRing(t, c)
		defer runRing(t, ring)()
		disable(t, kmss, true, arns[3])
		time.Sleep(11 * time.Second) // each of five, a probe each two seconds
		if got := ring.For("tn_8").State("region-0"); got != crypto.Denied {
			t.Fatalf("a disabled key is %s", got)
		}
		if restored.Load() != 0 || ring.For("tn_7").State("region-0") != crypto.Up || states(ring)[0] != "up" {
			t.Error("others are not as they were")
		}
		disable(t, kmss, false, arns[3])
		time.Sleep(2100 * time.Millisecond)
		if got := ring.For("tn_8").State("region-0"); got != crypto.Up || restored.Load() != 1 {
			t.Errorf("an enabled key is %s after a probe, %d times restored", got, restored.Load())
		}
	})
}

// Prefetch: one tenant's refusing keys neither spend nor stop what is made
// ahead for others.
func TestPrefetchOfTenantsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, remotes := remoteRing(t, 2)
		kmss := locals(remotes)
		a := own(t, &c, kmss, "tn_a")
		ring := mustRing(t, c)
		s := crypto.NewSealer(ring, nil, nil)
		s.EnablePrefetch(crypto.PrefetchConfig{MaxKeys: 64})
		stop := runSealer(t, s)
		defer stop()
		use := func(tenant string) {
			for range 20 {
				mustSeal(t, s, valueOf(tenant))
				time.Sleep(50 * time.Millisecond)
			}
		}
		use("tn_a")
		use("tn_1")
		disable(t, kmss, true, a[1])
		ring.Probe(t.Context())
		before := s.Prefetched()
		use("tn_1")
		if after := s.Prefetched(); after.Missed != before.Missed || after.Used != before.Used+20 {
			t.Errorf("the shared keys: %+v, then %+v", before, after)
		}
		calls := remotes[0].calls.Load()
		use("tn_a") // degraded, each made as it is needed, and none in vain
		if n := remotes[0].calls.Load() - calls; n != 20 {
			t.Errorf("%d calls for 20 keys", n)
		}
		if after := s.Prefetched(); after.Missed != before.Missed+20 {
			t.Errorf("A's keys: %+v, then %+v", before, after)
		}
	})
}

// runSealer makes keys ahead until the returned function is called.
func runSealer(tb testing.TB, s *crypto.Sealer) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var wait sync.WaitGroup
	wait.Go(func() { s.Run(ctx) })
	return func() {
		cancel()
		wait.Wait()
	}
}

// The hash of a ring without tenants' own keys is what it was; former keys
// are no part of it; what changes a tenant's keys, and nothing else, makes
// that tenant's others.
func TestHashOfTenantsKeys(t *testing.T) {
	kmss := newKMSs(t, 2)
	plain := ringConfig(kmss)
	prepared := plain
	prepared.Tenants = []crypto.TenantRegions{{Tenant: "tn_a", Regions: []crypto.TenantRegion{{Name: regionName(1), Former: []string{kmss[1].Keys()[0]}}, {Name: regionName(0)}}}}
	before, with := mustRing(t, plain), mustRing(t, prepared)
	if before.Hash() != with.Hash() {
		t.Error("a tenant with former keys alone changed the hash")
	}
	own(t, &plain, kmss, "tn_b")
	own(t, &plain, kmss, "tn_a")
	after := mustRing(t, plain)
	slices.Reverse(plain.Tenants)
	slices.Reverse(plain.Tenants[0].Regions)
	if mustRing(t, plain).Hash() != after.Hash() {
		t.Error("the order of the configuration is part of the hash")
	}
	if base, _, _ := strings.Cut(after.Hash(), "\n"); base != before.Hash() {
		t.Error("the ring's own keys hash to something else beside tenants'")
	}
	for tenant, same := range map[string]bool{"tn_1": true, "tn_a": false, "tn_b": false} {
		if after.SameKeys(tenant, crypto.ParseHash(before.Hash())) != same || before.SameKeys(tenant, crypto.ParseHash(after.Hash())) != same {
			t.Errorf("%s: not %v", tenant, same)
		}
		if !after.SameKeys(tenant, crypto.ParseHash(after.Hash())) || after.SameKeys(tenant, crypto.ParseHash("")) || after.SameKeys(tenant, crypto.ParseHash(after.Hash()+"\nx")) {
			t.Errorf("%s: a ring is not itself, or is what is no hash", tenant)
		}
	}
	own(t, &plain, kmss, "tn_c")
	if third := mustRing(t, plain); !third.SameKeys("tn_a", crypto.ParseHash(after.Hash())) || third.SameKeys("tn_c", crypto.ParseHash(after.Hash())) {
		t.Error("one tenant's change is another's")
	}
}

// A tenant gets keys of its own, and gives them up again, while any KMSs are
// out: in every step each region opens what it could before, and when all are
// back one rewrap leaves the copies of the present keys and no others.
func TestTenantGetsKeysOfItsOwn(t *testing.T) {
	kmss := newKMSs(t, 3)
	rapid.Check(t, func(rt *rapid.T) {
		shared := ringConfig(kmss)
		var formers [][]string
		for _, r := range shared.Regions {
			formers = append(formers, []string{r.KeyARN})
		}
		owned := shared
		arns := own(t, &owned, kmss, "tn_a", formers...)
		back := shared
		gone := crypto.TenantRegions{Tenant: "tn_a"}
		for i, arn := range arns {
			gone.Regions = append(gone.Regions, crypto.TenantRegion{Name: regionName(i), Former: []string{arn}})
		}
		back.Tenants = []crypto.TenantRegions{gone}
		from, to, want := back, owned, arns
		if rapid.Bool().Draw(rt, "gives them up") {
			from, to, want = owned, back, []string{formers[0][0], formers[1][0], formers[2][0]}
		}
		v := valueOf("tn_a")
		sealed := mustSeal(t, localTo(t, from, regionName(0)), v)
		for i := range kmss { // before repair, and on instances of either ring
			mustOpen(t, localTo(t, to, regionName(i)), sealed.Message, v)
			mustOpen(t, localTo(t, from, regionName(i)), mustSeal(t, localTo(t, to, regionName(0)), v).Message, v)
		}
		out := rapid.IntRange(0, 2).Draw(rt, "out")
		kmss[out].SetFault(localkms.Down, 0)
		by := rapid.IntRange(0, 2).Draw(rt, "by")
		part, err := localTo(t, to, regionName(by)).Rewrap(t.Context(), sealed.Message)
		kmss[out].SetFault(localkms.Up, 0)
		if err != nil {
			rt.Fatal(err)
		}
		for i := range kmss {
			mustOpen(t, localTo(t, to, regionName(i)), part.Message, v)
		}
		whole, err := localTo(t, to, regionName(by)).Rewrap(t.Context(), part.Message)
		if err != nil {
			rt.Fatal(err)
		}
		equal(t, "copies", dissect(t, whole.Message).order, want)
	})
}

// Replicas of a multi-Region key of one's own: one copy, each region's replica opens it.
func TestTenantsMultiRegionKey(t *testing.T) {
	p := newPool(t)
	c := crypto.RingConfig{Local: regionName(0), Mode: crypto.MultiRegion, Epoch: 1}
	mine := crypto.TenantRegions{Tenant: "tn_a"}
	for i, k := range p.kmss {
		c.Regions = append(c.Regions, crypto.Region{Name: regionName(i), KMS: k, KeyARN: p.related[0][i]})
		mine.Regions = append(mine.Regions, crypto.TenantRegion{Name: regionName(i), KeyARN: p.related[1][i]})
	}
	c.Tenants = []crypto.TenantRegions{mine}
	for tenant, family := range map[string]int{"tn_1": 0, "tn_a": 1} {
		sealed := mustSeal(t, localTo(t, c, regionName(2)), valueOf(tenant))
		equal(t, tenant, dissect(t, sealed.Message).order, p.related[family][2:3])
		for i := range p.kmss {
			p.only(i)
			if region := mustOpen(t, localTo(t, c, regionName(i)), sealed.Message, valueOf(tenant)); region != regionName(i) {
				t.Errorf("%s: opened by %s", tenant, region)
			}
		}
		p.only(0, 1, 2, 3)
	}
}

func TestTenantsKeysRefused(t *testing.T) {
	kmss := newKMSs(t, 2)
	for want, change := range map[string]func(c *crypto.RingConfig){
		"no tenant's id":                     func(c *crypto.RingConfig) { c.Tenants[0].Tenant = "tn a" },
		"it has keys already":                func(c *crypto.RingConfig) { c.Tenants[1].Tenant = "tn_a" },
		"every region of the ring":           func(c *crypto.RingConfig) { c.Tenants[0].Regions = c.Tenants[0].Regions[:1] },
		"is not named":                       func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].Name = "region-0" },
		"in every region, or in none":        func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].KeyARN = "" },
		"not the ARN of a KMS key":           func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].KeyARN = "x" },
		"former key: crypto: not the ARN":    func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].Former = []string{"x"} },
		"share a key":                        func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].KeyARN = c.Tenants[0].Regions[0].KeyARN },
		`"region-1": its key is another's`:   func(c *crypto.RingConfig) { c.Tenants[0].Regions[1].KeyARN = c.Tenants[1].Regions[1].KeyARN },
		`"region-0": its key is another's`:   func(c *crypto.RingConfig) { c.Tenants[0].Regions[0].KeyARN = c.Regions[0].KeyARN },
		"former key: its key is another's":   func(c *crypto.RingConfig) { c.Tenants[1].Regions[1].Former = []string{c.Tenants[0].Regions[1].KeyARN} },
		`tenant "tn_b": region "region-0": `: func(c *crypto.RingConfig) { c.Regions[0].Former = []string{c.Tenants[1].Regions[0].KeyARN} },
	} {
		c := ringConfig(kmss)
		own(t, &c, kmss, "tn_a")
		own(t, &c, kmss, "tn_b")
		if _, err := crypto.NewRing(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := crypto.NewRing(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
