package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// ownKeys are new keys of a tenant's in both regions; those that it had before
// are former ones.
func (rw *ringWorld) ownKeys(tenant string) crypto.TenantRegions {
	rw.t.Helper()
	own := crypto.TenantRegions{Tenant: tenant}
	for _, m := range ab() {
		k := rw.kms[m.key]
		shared := k.Keys()[0]
		arn, err := k.CreateKeyAs(fmt.Sprintf("own-%d", len(k.Keys()))) // sorts behind the shared one, which is hexadecimal
		if err != nil {
			rw.t.Fatal(err)
		}
		own.Regions = append(own.Regions, crypto.TenantRegion{Name: m.region, KeyARN: arn, Former: []string{shared}})
	}
	return own
}

// prepared uses the shared keys still, and opens what its own have wrapped.
func prepared(own crypto.TenantRegions) crypto.TenantRegions {
	before := crypto.TenantRegions{Tenant: own.Tenant}
	for _, r := range own.Regions {
		before.Regions = append(before.Regions, crypto.TenantRegion{Name: r.Name, Former: []string{r.KeyARN}})
	}
	return before
}

// owning is an instance of a ring with tenants' own keys, started.
func (rw *ringWorld) owning(region string, epoch uint64, tenants ...crypto.TenantRegions) *vault.Vault {
	rw.t.Helper()
	return rw.with(region, epoch, ab(), func(cfg *vault.Config) { rw.ownRing(cfg, region, epoch, tenants) })
}

func (rw *ringWorld) ownRing(cfg *vault.Config, region string, epoch uint64, tenants []crypto.TenantRegions) {
	rw.t.Helper()
	c := crypto.RingConfig{Local: region, Mode: crypto.Copies, Epoch: epoch, Now: cfg.Now, Tenants: tenants}
	for _, m := range ab() {
		c.Regions = append(c.Regions, crypto.Region{Name: m.region, KMS: rw.kms[m.key], KeyARN: rw.kms[m.key].Keys()[0]})
	}
	ring, err := crypto.NewRing(c)
	if err != nil {
		rw.t.Fatal(err)
	}
	cfg.Ring, cfg.Sealer = ring, crypto.NewSealer(ring, cfg.Now, nil)
}

// disable switches a tenant's own key in a region.
func (rw *ringWorld) disable(own crypto.TenantRegions, region int, disabled bool) {
	rw.t.Helper()
	if err := rw.kms[ab()[region].key].SetDisabled(own.Regions[region].KeyARN, disabled); err != nil {
		rw.t.Fatal(err)
	}
}

// wrappedBy checks that all of a tenant's records, and its secret, are wrapped
// by these keys and no others.
func (rw *ringWorld) wrappedBy(region, tenant string, arns ...string) {
	rw.t.Helper()
	messages := map[string][]byte{}
	for _, r := range rw.rows(region) {
		if r.Tenant == tenant {
			messages["record "+r.ID] = r.Message
		}
	}
	item, err := rw.cfgs[region].Controls[0].Control.Get(rw.t.Context(), authz.KindTenantSecret, tenant)
	if err != nil {
		rw.t.Fatal(err)
	}
	messages["secret"] = item.Body
	for name, message := range messages {
		for _, key := range []string{"a", "b"} {
			for _, arn := range rw.kms[key].Keys() {
				if strings.Contains(string(message), arn) != slices.Contains(arns, arn) {
					rw.t.Errorf("%s: copies under other keys than %v", name, arns)
				}
			}
		}
	}
}

func (rw *ringWorld) revealAs(v *vault.Vault, c vault.Call, token secret.Text, want string) {
	rw.t.Helper()
	out, err := v.Detokenize(rw.ctx(), c, ask(token))
	if err != nil || string(out.Items[0].Value.Bytes()) != want {
		rw.t.Errorf("reveal: %v", err)
	}
}

func arnsOf(own crypto.TenantRegions) (arns []string) {
	for _, r := range own.Regions {
		arns = append(arns, r.KeyARN)
	}
	return arns
}

// G2, G3: a tenant gets keys of its own while clients of both tenants write
// through instances of the old ring and the new. Nothing is refused; its records
// and its secret are wrapped anew, nobody else's are touched; then it gives the
// keys up again.
func TestTenantGetsKeysOfItsOwn(t *testing.T) {
	rw := newRingWorld(t)
	second := rw.secondTenant()
	var tokens []secret.Text
	for i := range 30 {
		tokens = append(tokens, rw.tokenizeAs(second, value("email", fmt.Sprintf("s%d@example.com", i)), secret.Text{}))
	}
	shared := rw.some(rw.a, 20)
	rw.settle()
	before := map[store.Key][]byte{}
	for _, r := range rw.rows(regionA) {
		before[r.Key] = r.Message
	}
	own := rw.ownKeys(second.Principal.Tenant)
	old := rw.owning(regionA, 1, prepared(own)) // the same ring: only former keys are named
	next := rw.owning(regionA, 2, own)
	w := rw.write(old, next)
	theirs, as := *rw, *rw.world // clients of the tenant whose keys change, too
	as.admin, theirs.world = second, &as
	w2 := theirs.write(old, next)
	next.RepairPass(t.Context())
	w.end()
	w2.end()
	if s := rw.status(next); s.Failed != 0 || s.Repaired < 30 || w.refused.Load()+w2.refused.Load() != 0 {
		t.Errorf("%+v, %d refused", s, w.refused.Load()+w2.refused.Load())
	}
	next.RepairPass(t.Context()) // what the old ring's instances wrote since
	rw.wrappedBy(regionA, second.Principal.Tenant, arnsOf(own)...)
	rw.wrappedBy(regionA, rw.admin.Principal.Tenant, rw.kms["a"].Keys()[0], rw.kms["b"].Keys()[0])
	for _, r := range rw.rows(regionA) {
		if m := before[r.Key]; r.Tenant != second.Principal.Tenant && m != nil && (string(m) != string(r.Message) || r.RingEpoch != 1) {
			t.Error("a record of another tenant was replaced")
		}
	}
	rw.clock.advance(time.Minute)
	next.RepairPass(t.Context())
	rw.clock.advance(time.Minute)
	next.RepairPass(t.Context())
	if s := rw.status(next); !slices.Contains(s.RingDone, regionA) || s.Outdated != 0 || s.Remaining != 0 {
		t.Errorf("not done: %+v", s)
	}
	if c := rw.coverage(next); c.Outdated != 0 || c.Degraded != 0 || c.Unreadable != 0 || c.Regions[0].IfLost != 0 || c.Regions[0].SecretsIfLost != 0 {
		t.Errorf("coverage: %+v", c)
	}
	rw.settle()

	strict := crypto.TenantRegions{Tenant: own.Tenant} // repaired: no former key is needed
	for _, r := range own.Regions {
		strict.Regions = append(strict.Regions, crypto.TenantRegion{Name: r.Name, KeyARN: r.KeyARN})
	}
	for _, region := range []string{regionA, regionB} {
		v := rw.owning(region, 2, strict)
		for i, token := range tokens {
			rw.revealAs(v, second, token, fmt.Sprintf("s%d@example.com", i))
		}
		rw.wantAll(v, shared)
	}

	back := rw.owning(regionB, 3, prepared(own)) // the shared keys again
	back.RepairPass(t.Context())
	rw.wrappedBy(regionB, second.Principal.Tenant, rw.kms["a"].Keys()[0], rw.kms["b"].Keys()[0])
	v := rw.with(regionB, 3, ab())
	for i, token := range tokens {
		rw.revealAs(v, second, token, fmt.Sprintf("s%d@example.com", i))
	}
}

// A tenant's key that is disabled, there or here, is that tenant's matter:
// its writes lack the copy, or its reveals are refused; nobody else's are, and
// repair closes the gaps when the key is enabled.
func TestTenantsDisabledKey(t *testing.T) {
	rw := newRingWorld(t)
	second := rw.secondTenant()
	own := rw.ownKeys(second.Principal.Tenant)
	v := rw.owning(regionA, 2, own)
	rw.disable(own, 1, true)
	missing := func(c vault.Call) []string {
		t.Helper()
		out, err := v.Tokenize(rw.ctx(), c, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Copies.Missing
	}
	if got := missing(second); !sameSet(got, regionB) {
		t.Errorf("missing %v", got)
	}
	if got := missing(rw.admin); got != nil {
		t.Errorf("the other tenant's: missing %v", got)
	}
	states := func(c vault.Call) (all []string) {
		t.Helper()
		regions, err := v.Regions(rw.ctx(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range regions.Regions {
			all = append(all, r.KMS)
		}
		return all
	}
	if mine, others := states(second), states(rw.admin); !slices.Equal(mine, []string{"up", "denied"}) || !slices.Equal(others, []string{"up", "up"}) {
		t.Errorf("regions: %v, the other tenant's %v", mine, others)
	}
	if c := rw.coverage(v); c.Records != 2 || c.Degraded != 1 || c.Regions[0].IfLost != 1 || c.Regions[1].IfLost != 0 {
		t.Errorf("coverage: %+v", c)
	}
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Scanned != 0 || s.Failed != 0 || s.Remaining != 1 {
		t.Errorf("nothing can be repaired: %+v", s)
	}

	former := rw.tokenizeAs(second, value("email", "bob@example.com"), secret.Text{}) // by an instance of the older ring
	out, err := v.Tokenize(rw.ctx(), second, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "bob@example.com")}})
	if err != nil {
		t.Fatal(err)
	}
	token := out[0].Token
	rw.disable(own, 0, true)
	if _, err := v.Tokenize(rw.ctx(), second, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "x@example.com")}}); err == nil {
		t.Error("a tokenize without any key of its own")
	}
	rw.revealAs(v, second, former, "bob@example.com") // its copy is under the shared key, which does not refuse
	_, err = v.Detokenize(rw.ctx(), second, ask(token))
	if refused := new(vault.Error); !errors.As(err, &refused) || len(refused.Items) != 1 || refused.Items[0].Code != "kms_denied" {
		t.Errorf("a reveal with the local key disabled: %v", err)
	}
	rw.revealAs(v, second, former, "bob@example.com")
	if mine := states(second); !slices.Equal(mine, []string{"denied", "denied"}) {
		t.Errorf("what a former key opens says nothing of the present one: %v", mine)
	}
	rw.wantReveal(v, rw.token(v, "email", "ann@example.com"), "ann@example.com")

	rw.disable(own, 1, false)
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Scanned != 0 || s.Failed != 0 || s.Remaining == 0 {
		t.Errorf("what the local key refuses is not tried: %+v", s)
	}
	rw.disable(own, 0, false)
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Remaining != 0 || s.Failed != 0 {
		t.Errorf("enabled again: %+v", s)
	}
	rw.wrappedBy(regionA, second.Principal.Tenant, arnsOf(own)...)
	rw.revealAs(v, second, token, "bob@example.com")
}

// The shared key of this region refuses: tenants with keys of their own are
// served and repaired here all the same.
func TestSharedKeyDenied(t *testing.T) {
	rw := newRingWorld(t)
	second := rw.secondTenant()
	token := rw.tokenizeAs(second, value("email", "bob@example.com"), secret.Text{})
	own := rw.ownKeys(second.Principal.Tenant)
	v := rw.owning(regionA, 2, own)
	v.RepairPass(t.Context())
	mine := rw.token(v, "email", "ann@example.com")
	if err := rw.kms["a"].SetDisabled(rw.kms["a"].Keys()[0], true); err != nil {
		t.Fatal(err)
	}
	rw.disable(own, 1, true)
	out, err := v.Tokenize(rw.ctx(), second, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "x@example.com")}})
	if err != nil || !sameSet(out[0].Copies.Missing, regionB) {
		t.Fatalf("%v, %v", out, err)
	}
	if _, err := v.Detokenize(rw.ctx(), rw.admin, ask(mine)); err == nil {
		t.Error("a reveal that the local key refuses")
	}
	rw.disable(own, 1, false)
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Repaired != 1 || s.Remaining != 0 {
		t.Errorf("%+v", s)
	}
	rw.revealAs(v, second, token, "bob@example.com")
}

// G8: a record moved to another tenant's place opens nothing and asks no key.
func TestRecordMovedToAnotherTenant(t *testing.T) {
	rw := newRingWorld(t)
	second := rw.secondTenant()
	own := rw.ownKeys(second.Principal.Tenant)
	v := rw.owning(regionA, 2, own)
	v.RepairPass(t.Context())
	out, err := v.Tokenize(t.Context(), second, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "bob@example.com")}})
	if err != nil {
		t.Fatal(err)
	}
	theirs, mine := out[0].Token, rw.token(v, "email", "ann@example.com")
	rows := rw.rows(regionA)
	if len(rows) != 2 {
		t.Fatal(len(rows))
	}
	table := rw.cfgs[regionA].Store
	for i, r := range rows {
		moved := *r
		moved.Message = rows[1-i].Message
		if err := table.Replace(t.Context(), r, &moved); err != nil {
			t.Fatal(err)
		}
	}
	for c, token := range map[*vault.Call]secret.Text{&second: theirs, &rw.admin: mine} {
		_, err := v.Detokenize(rw.ctx(), *c, ask(token))
		wantCode(t, err, vault.ErrCorrupt, "integrity")
	}
}
