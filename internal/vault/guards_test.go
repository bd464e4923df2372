package vault_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// withPolicy adds a policy to the default set of both regions.
func withPolicy(t *testing.T, text string) option {
	t.Helper()
	files := map[string][]byte{"extra.cedar": []byte(text)}
	names, err := filepath.Glob("../authz/policies/*.cedar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	policies, err := authz.ParsePolicies(files)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped(func(_ string, cfg *vault.Config) { cfg.Policies = authz.FixedPolicies(policies) })
}

func wrapped(wrap func(region string, cfg *vault.Config)) option {
	return func(c *sim.Config) {
		before := c.Wrap
		c.Wrap = func(region string, cfg *vault.Config) {
			if before != nil {
				before(region, cfg)
			}
			wrap(region, cfg)
		}
	}
}

// What the policies deny by attributes answers like a token that is unknown;
// the entry tells them apart.
func TestDeniedByAttributesIsNotFound(t *testing.T) {
	w := newWorld(t, withPolicy(t, `@id("extra.ssn") forbid (principal, action == Action::"detokenize", resource) when { resource.type == "ssn" };`))
	ssn, email := w.token(w.a, "ssn", "778-35-0827"), w.token(w.a, "email", "ann@example.com")
	w.wantGone(w.a, ssn)
	w.wantReveal(w.a, email, "ann@example.com")
	found := w.entries(w.a, "detokenize")
	if last := found[len(found)-1].Entry; last.Outcome != audit.Denied || last.Decision != "deny" || !sameSet(last.Policies, "extra.ssn") {
		t.Errorf("the entry says %s, %s, %v", last.Outcome, last.Decision, last.Policies)
	}
}

func TestTokenizeDeniedByTypeStoresNothing(t *testing.T) {
	w := newWorld(t, withPolicy(t, `@id("extra.ssn") forbid (principal, action == Action::"tokenize", resource) when { resource.type == "ssn" };`))
	items := []vault.TokenizeItem{value("email", "ann@example.com"), value("ssn", "778-35-0827")}
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: items})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	if found := w.entries(w.a, "tokenize"); len(found) != 1 || found[0].Entry.Outcome != audit.Denied {
		t.Errorf("%d entries, want one of the denial", len(found))
	}
}

func TestAdminActionsAreDecidedToo(t *testing.T) {
	w := newWorld(t, withPolicy(t, `@id("extra.admin") forbid (principal, action == Action::"admin", resource);`))
	_, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{Name: "x", Roles: []authz.Role{authz.RoleReader}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
}

// Whoever keeps asking other regions for what exists nowhere is told to wait.
func TestBudgetOfRemoteMisses(t *testing.T) {
	w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) { cfg.RemoteMisses = 1 }))
	unknown := secret.NewText("dev.email." + regionA + ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	w.wantGone(w.b, unknown)
	w.wantGone(w.b, unknown)
	_, err := w.b.Detokenize(t.Context(), w.admin, ask(unknown))
	wantCode(t, err, vault.ErrUnavailable, "not_yet_visible")
	fresh := w.token(w.b, "email", "ann@example.com")
	w.wantReveal(w.b, fresh, "ann@example.com")
	w.clock.advance(time.Minute)
	w.wantGone(w.b, unknown)
}

// All or nothing: where one value cannot be opened none leaves, and the log
// says so of each.
func TestUnreleasedValuesAreRecordedAsSuch(t *testing.T) {
	w := newWorld(t)
	both := w.token(w.a, "email", "ann@example.com")
	w.fault(sim.Fault{Region: regionB, KMS: "down"})
	onlyA := w.token(w.a, "email", "bob@example.com")
	w.a.ProbePass(t.Context())
	w.fault(sim.Fault{Region: regionB, KMS: "up"})
	w.a.ProbePass(t.Context())
	w.fault(sim.Fault{Region: regionA, KMS: "down"})
	_, err := w.a.Detokenize(t.Context(), w.admin, ask(both, onlyA))
	wantCode(t, err, vault.ErrUnavailable, "kms_unavailable")
	failed := 0
	for _, e := range w.entries(w.a, "detokenize") {
		if e.Entry.Outcome == audit.Failed && e.Entry.About != nil {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d entries say that a value did not leave, want 2", failed)
	}
	req := ask(both, onlyA)
	req.Continue = true
	out, err := w.a.Detokenize(t.Context(), w.admin, req)
	if err != nil || string(out.Items[0].Value.Bytes()) != "ann@example.com" || out.Items[1].Err == nil {
		t.Errorf("with continue: %v", err)
	}
}

// A region confirms an erasure only after it has found nothing for longer than
// the replication lag; calls meanwhile join the job.
func TestErasureWaitsForQuiet(t *testing.T) {
	w := newWorld(t, func(c *sim.Config) { c.ErasureQuiet = 10 * time.Second })
	req := vault.EraseRequest{SubjectID: "C-1"}
	late := w.subjectToken(w.b, "email", "ann@example.com", "C-1")
	w.erase(w.a, req)
	confirmed := func() int {
		w.a.ErasePass(t.Context())
		return len(w.entries(w.a, "confirm_erase"))
	}
	w.clock.advance(8 * time.Second)
	if confirmed() != 0 {
		t.Fatal("confirmed before it was quiet for long enough")
	}
	w.settle() // what B had written arrives
	if confirmed() != 0 {
		t.Fatal("confirmed with a record just found")
	}
	w.clock.advance(8 * time.Second)
	if confirmed() != 0 {
		t.Fatal("a late record did not begin the wait anew")
	}
	w.erase(w.a, req)
	w.clock.advance(3 * time.Second)
	confirmed()
	w.clock.advance(time.Minute)
	if n := confirmed(); n != 1 {
		t.Errorf("%d confirmations, want one of one job", n)
	}
	w.wantGone(w.a, late)
}

// A retry under an idempotency key whose record has expired is an error.
func TestIdempotentRetryOfAnExpiredRecordIsRefused(t *testing.T) {
	w := newWorld(t)
	send := func() error {
		_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("note", "call back")}, IdempotencyKey: idempotencyKey("k")})
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Hour)
	wantCode(t, send(), vault.ErrConflict, "erased")
}

func TestSweptExpiredRecordLeavesATombstone(t *testing.T) {
	w := newWorld(t)
	item := value("email", "ann@example.com")
	item.Expires = w.clock.now().Add(time.Hour).Format(time.RFC3339)
	token := w.tokenize(w.a, item)[0].Token
	w.clock.advance(4 * time.Hour)
	w.a.SweepPass(t.Context())
	w.wantGone(w.a, token)
	if found := w.entries(w.a, "detokenize"); len(found) != 1 || found[0].Entry.Outcome != audit.Erased {
		t.Errorf("entries %+v", found)
	}
}

// G5(b): with the whole database and every KMS right, a bound value does not
// open without its token.
func TestBoundValueNeedsItsToken(t *testing.T) {
	var cfg *vault.Config
	w := newWorld(t, wrapped(func(region string, c *vault.Config) {
		if region == regionA {
			cfg = c
		}
	}))
	token := w.token(w.a, "email", "ann@example.com")
	record := w.entries(w.a, "tokenize")[0].Entry.Record
	states, err := cfg.Store.Read(t.Context(), []store.Ref{{Tenant: w.admin.Principal.Tenant, ID: record}})
	if err != nil || states[0].Record == nil {
		t.Fatal("the record is not there", err)
	}
	r := states[0].Record
	m, err := crypto.Parse(r.Message)
	if err != nil {
		t.Fatal(err)
	}
	u := cfg.Sealer.Unwrap(t.Context(), r.Tenant, []*crypto.Message{m})[0]
	place := crypto.Place{Tenant: r.Tenant, Record: r.ID, Type: r.Type, Generation: r.Generation, Subject: r.Subject, Created: r.Created, Expires: r.Expires}
	for _, other := range []secret.Text{{}, w.token(w.a, "email", "ann@example.com")} {
		if _, err := cfg.Sealer.Open(u.Key, m, place, other); !errors.Is(err, crypto.ErrAuthentication) {
			t.Errorf("opened without its token: %v", err)
		}
	}
	value, err := cfg.Sealer.Open(u.Key, m, place, token)
	if err != nil || string(value.Bytes()) != "ann@example.com" {
		t.Errorf("does not open with its token: %v", err)
	}
}

// An instance whose ring is not the deployment's does not start.
func TestAnotherRingIsRefused(t *testing.T) {
	dir := t.TempDir()
	cfg := sim.Config{Dir: dir, Regions: []string{regionA, regionB}}
	w, err := sim.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Regions = []string{regionA, regionB, "ap-southeast-2"}
	if w, err = sim.Open(t.Context(), cfg); !errors.Is(err, vault.ErrRingDiffers) {
		t.Errorf("opened with another ring: %v", err)
	}
	if w != nil {
		_ = w.Close()
	}
}

// An instance that cannot know what was revoked does not authenticate.
func TestUnknownRevocationsAreUnavailable(t *testing.T) {
	var cfg vault.Config
	w := newWorld(t, wrapped(func(_ string, c *vault.Config) { cfg = *c }))
	cfg.Keys = authz.NewKeys(authz.KeysConfig{Tables: cfg.Controls, Now: cfg.Now, Random: cfg.Random})
	v, err := vault.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Authenticate(t.Context(), vault.Credentials{Bearer: secret.NewText("pvk_x_y")})
	wantCode(t, err, vault.ErrUnavailable, "unavailable")
	if v.Ready(t.Context())["credentials"] == nil || w.a.Ready(t.Context())["credentials"] != nil {
		t.Error("readiness does not tell")
	}
}
