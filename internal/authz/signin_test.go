package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

// fakeTokens know tokens by their text.
type fakeTokens struct {
	known    map[string]Identity
	recalls  map[string]bool
	down     bool
	verified int
}

func (f *fakeTokens) Recall(token secret.Text) (Identity, bool) {
	id, ok := f.known[token.Reveal()]
	return id, ok && f.recalls[token.Reveal()]
}

func (f *fakeTokens) Verify(_ context.Context, token secret.Text) (Identity, error) {
	f.verified++
	id, ok := f.known[token.Reveal()]
	switch {
	case f.down:
		return Identity{}, ErrUnavailable
	case !ok:
		return Identity{}, ErrUnauthenticated
	}
	return id, nil
}

// signIns is a SignIn with what stands around it.
type signIns struct {
	*SignIn
	local, remote *memory
	keys          *Keys
	tokens        *fakeTokens
	log           *bytes.Buffer
	now           time.Time
	tenant        string // the id of acme
}

func newSignIns(t *testing.T, rules ...CertificateRule) *signIns {
	t.Helper()
	s := &signIns{local: newMemory(), remote: newMemory(), log: new(bytes.Buffer), now: start(t), tenant: tenantA}
	tables := regions(s.local, s.remote)
	s.keys = newKeys(t, tables, func() time.Time { return s.now })
	for _, tenant := range []Tenant{{ID: tenantA, Alias: "acme", Created: 1}, {ID: tenantB, Alias: "begun", Created: 1}} {
		if _, _, err := CreateTenant(t.Context(), tables, tenant); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ActivateTenant(t.Context(), tables, tenantA); err != nil {
		t.Fatal(err)
	}
	s.tokens = &fakeTokens{
		known: map[string]Identity{
			"good":    {ID: "oidc_corp_alice", Name: "corp", Tenant: "acme", Roles: []Role{RoleReader}, Authentication: "oidc"},
			"by id":   {ID: "oidc_corp_alice", Tenant: tenantA, Authentication: "oidc"},
			"nowhere": {ID: "oidc_corp_alice", Tenant: "nobody", Authentication: "oidc"},
			"begun":   {ID: "oidc_corp_alice", Tenant: "begun", Authentication: "oidc"},
			"odd":     {ID: "oidc_corp_alice", Tenant: tenantA + "#active", Authentication: "oidc"},
		},
		recalls: map[string]bool{},
	}
	var err error
	s.SignIn, err = NewSignIn(SignInConfig{
		Keys: s.keys, Tenants: s.local, Tokens: s.tokens, Certificates: rules,
		Failures: FailureLimit{Burst: 3, PerMinute: 6}, Now: func() time.Time { return s.now }, Logger: zerolog.New(s.log),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signIns) bearer(text, address string) error {
	_, err := s.Authenticate(context.Background(), Credentials{Bearer: secret.NewText(text), Address: address})
	return err
}

func isLimited(err error) bool {
	var many *TooManyFailuresError
	return errors.As(err, &many) && many.RetryAfter > 0
}

func TestATokenIsATenantsPrincipal(t *testing.T) {
	s := newSignIns(t)
	p, err := s.Authenticate(t.Context(), Credentials{Bearer: secret.NewText("good"), Address: "192.0.2.1"})
	if err != nil || p.Tenant != tenantA || p.ID != "oidc_corp_alice" || p.Authentication != "oidc" || !slices.Equal(p.Roles, []Role{RoleReader}) || p.Limits != nil {
		t.Errorf("%+v, %v", p, err)
	}
	if err := s.bearer("by id", ""); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"nowhere", "begun", "odd"} {
		if err := s.bearer(bad, ""); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	reads := 0
	s.local.breaksOn(func(op string, _ Kind) fault {
		if op == "get" {
			reads++
		}
		return fails
	})
	if err := s.bearer("good", ""); err != nil || reads != 0 {
		t.Errorf("a known tenant is read again: %v", err)
	}
	if err := s.bearer("nowhere", ""); !errors.Is(err, ErrUnauthenticated) || reads != 0 {
		t.Errorf("an unknown tenant is looked for again at once: %v", err)
	}
	s.now = s.now.Add(unknownFor)
	if err := s.bearer("nowhere", ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the table is down: %v", err)
	}
	s.local.breaks(works)
	if _, err := ActivateTenant(t.Context(), regions(s.local, s.remote), tenantB); err != nil {
		t.Fatal(err)
	}
	if err := s.bearer("begun", ""); err != nil {
		t.Errorf("active now: %v", err)
	}
}

// Whoever is suspended stays out by any token or certificate, recalled or not.
func TestSuspensionStopsTokensAndCertificates(t *testing.T) {
	s := newSignIns(t, CertificateRule{URI: "spiffe://example.org/shop", Tenant: "acme", Roles: []Role{RoleWriter}})
	byCertificate := func() error {
		_, err := s.Authenticate(t.Context(), Credentials{URI: "spiffe://example.org/shop"})
		return err
	}
	if err := errors.Join(s.bearer("good", ""), byCertificate()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"oidc_corp_alice", "mtls_spiffe:example.org:shop"} {
		if _, err := s.keys.Suspend(t.Context(), tenantA, id); err != nil {
			t.Fatal(err)
		}
	}
	for _, recalled := range []bool{false, true} {
		s.tokens.recalls["good"] = recalled
		if err := s.bearer("good", ""); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("a token (recalled: %v): %v", recalled, err)
		}
	}
	if err := byCertificate(); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a certificate: %v", err)
	}
	for _, id := range []string{"oidc_corp_alice", "mtls_spiffe:example.org:shop"} {
		if _, err := s.keys.Reinstate(t.Context(), tenantA, id); err != nil {
			t.Fatal(err)
		}
	}
	s.now = s.now.Add(time.Hour)
	if err := errors.Join(s.bearer("good", ""), byCertificate()); err != nil {
		t.Errorf("reinstated: %v", err)
	}
	s.keys.poll.stale.Store(true)
	if err := s.bearer("good", ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("suspensions cannot be known: %v", err)
	}
	if err := byCertificate(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("suspensions cannot be known: %v", err)
	}
}

// An address that fails too often has no more signatures checked; keys and
// remembered tokens that are good pass from there all the same.
func TestFailuresAreLimitedBeforeSignatures(t *testing.T) {
	s := newSignIns(t)
	_, cred := mustCreate(t, s.keys, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	const bad, other = "192.0.2.1", "192.0.2.2"
	for range 3 {
		if err := s.bearer("wrong", bad); !errors.Is(err, ErrUnauthenticated) {
			t.Fatal(err)
		}
	}
	for range 1000 {
		if err := s.bearer("wrong", bad); !isLimited(err) {
			t.Fatal(err)
		}
	}
	if s.tokens.verified != 3 {
		t.Errorf("%d signatures were checked", s.tokens.verified)
	}
	if err := s.bearer(credential(strings.Repeat("a", keyIDLen), strings.Repeat("a", secretLen)).Reveal(), bad); !isLimited(err) {
		t.Errorf("a wrong key: %v", err)
	}
	if err := s.bearer(cred.Reveal(), bad); err != nil {
		t.Errorf("a good key: %v", err)
	}
	if err := s.bearer("good", bad); !isLimited(err) {
		t.Errorf("a good token that was not seen before: %v", err)
	}
	s.tokens.recalls["good"] = true
	if err := s.bearer("good", bad); err != nil {
		t.Errorf("a good token that was: %v", err)
	}
	s.tokens.recalls["good"] = false
	for range 100 { // what is good costs nothing
		if err := s.bearer("good", other); err != nil {
			t.Fatal(err)
		}
	}
	s.tokens.down = true
	for range 100 { // nor does what cannot be decided
		if err := s.bearer("wrong", other); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	s.tokens.down = false
	s.now = s.now.Add(9 * time.Second)
	if err := s.bearer("good", bad); !isLimited(err) {
		t.Errorf("after nine seconds: %v", err)
	}
	s.now = s.now.Add(time.Second)
	if err := s.bearer("good", bad); err != nil {
		t.Errorf("after ten seconds: %v", err)
	}
	if lines := strings.Count(s.log.String(), "\n"); lines != 1 || strings.Contains(s.log.String(), "wrong") || strings.Contains(s.log.String(), bad) {
		t.Errorf("%d lines logged:\n%s", lines, s.log)
	}
	counted := map[string]uint64{}
	for _, c := range s.Counts() {
		counted[c.Method+" "+c.Outcome] = c.N
	}
	if counted["oidc refused"] != 3 || counted["api_key ok"] != 1 || counted["oidc unavailable"] != 100 || counted["api_key limited"] != 1 {
		t.Errorf("counted %v", counted)
	}
}

// Memory is bounded, whatever the addresses.
func TestAddressesAreBounded(t *testing.T) {
	now := start(t)
	f := newFailures(FailureLimit{Burst: 1, PerMinute: 1}, func() time.Time { return now })
	address := func(n int) string {
		return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
	}
	for n := range maxAddresses {
		if err := f.take(address(n)); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := f.take("203.0.113.1"); err != nil {
		t.Errorf("the first of the others: %v", err)
	}
	for n := range 1000 {
		if err := f.take(address(1<<20 + n)); !isLimited(err) {
			t.Fatalf("others share a bucket: %v", err)
		}
	}
	if len(f.buckets) > maxAddresses+1 {
		t.Errorf("%d buckets", len(f.buckets))
	}
	now = now.Add(time.Minute)
	if err := f.take("203.0.113.1"); err != nil || len(f.buckets) > 2 {
		t.Errorf("once they are full again: %d buckets, %v", len(f.buckets), err)
	}
}

func TestAddressesOfOneSubscriber(t *testing.T) {
	f := newFailures(FailureLimit{Burst: 1, PerMinute: 1}, at(start(t)))
	for _, same := range [][2]string{
		{"2001:db8::1", "2001:db8::ffff:1"}, {"192.0.2.1", "::ffff:192.0.2.1"}, {"fe80::1%eth0", "fe80::2%eth1"}, {"?", ""},
	} {
		if err := f.take(same[0]); err != nil {
			t.Errorf("%s: %v", same[0], err)
		}
		if err := f.take(same[1]); !isLimited(err) {
			t.Errorf("%s after %s: %v", same[1], same[0], err)
		}
	}
	for _, other := range []string{"2001:db8:0:1::1", "192.0.2.2"} {
		if err := f.take(other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestCertificateRules(t *testing.T) {
	rule := func(uri string, roles ...Role) CertificateRule { return CertificateRule{uri, "acme", roles} }
	s := newSignIns(t,
		rule("spiffe://example.org/*", RoleWriter), rule("spiffe://example.org/ns/prod/*", RoleReader),
		rule("spiffe://example.org/ns/prod/admin", RoleAdmin), rule("https://other.example/shop", RoleEraser))
	long := "spiffe://example.org/" + strings.Repeat("a", 500)
	for uri, want := range map[string]string{
		"spiffe://example.org/shop": "mtls_spiffe:example.org:shop [writer]", "spiffe://example.org/ns/prod": "mtls_spiffe:example.org:ns:prod [writer]",
		"spiffe://example.org/ns/prod/shop":    "mtls_spiffe:example.org:ns:prod:shop [reader]",
		"spiffe://example.org/ns/prod/a/b":     "mtls_spiffe:example.org:ns:prod:a:b [reader]",
		"spiffe://example.org/ns/prod/admin":   "mtls_spiffe:example.org:ns:prod:admin [admin]",
		"spiffe://example.org/ns/prod/admin/x": "mtls_spiffe:example.org:ns:prod:admin:x [reader]",
		"spiffe://example.org/ns/production/x": "mtls_spiffe:example.org:ns:production:x [writer]",
		"https://other.example/shop":           "mtls_https:other.example:shop [eraser]",
	} {
		p, err := s.Authenticate(t.Context(), Credentials{URI: uri})
		if got := fmt.Sprint(p.ID, " ", p.Roles); err != nil || got != want || p.Name != uri || p.Tenant != tenantA || p.Authentication != "mtls" {
			t.Errorf("%s: %s, %v", uri, got, err)
		}
	}
	if p, err := s.Authenticate(t.Context(), Credentials{URI: long}); err != nil || len(p.ID) != 39 || !isPrincipalID(p.ID) {
		t.Errorf("a long one: %+v, %v", p, err)
	}
	for n, uri := range []string{
		"", "spiffe://", "spiffe://example.org", "spiffe://example.org/", "spiffe://example.org//shop", "spiffe://example.org/ns/prod/../shop",
		"spiffe://example.org/./shop", "spiffe://example.org/shop/", "spiffe://example.org/sh%6fp", "spiffe://example.org/shop?x", "spiffe://example.org/shop#x",
		"spiffe://a@example.org/shop", "spiffe://example.org:80/shop", "SPIFFE://example.org/shop", "spiffe:example.org/shop", "spiffe://example.org/*",
		"spiffe://example.org.evil.example/shop", "https://other.example/shop/x", "https://other.example/sho", "spiffe://example.org/é",
		"spiffe://example.org/" + strings.Repeat("a", 3000),
	} {
		_, err := s.Authenticate(t.Context(), Credentials{URI: uri, Address: fmt.Sprintf("10.0.0.%d", n)})
		if !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestCertificateRulesAreChecked(t *testing.T) {
	good := CertificateRule{"spiffe://example.org/shop", "acme", []Role{RoleWriter}}
	for name, rules := range map[string][]CertificateRule{
		"no URI":            {{"", "acme", good.Roles}},
		"everything":        {{"*", "acme", good.Roles}},
		"any authority":     {{"spiffe://*", "acme", good.Roles}},
		"part of a segment": {{"spiffe://example.org/sh*", "acme", good.Roles}},
		"a * inside":        {{"spiffe://example.org/*/shop", "acme", good.Roles}},
		"dots":              {{"spiffe://example.org/../*", "acme", good.Roles}},
		"no tenant":         {{good.URI, "", good.Roles}},
		"no alias":          {{good.URI, "Acme!", good.Roles}},
		"no role":           {{good.URI, "acme", nil}},
		"an unknown role":   {{good.URI, "acme", []Role{"root"}}},
		"the same twice":    {good, good},
	} {
		if _, err := newCertificateRules(rules); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := newCertificateRules([]CertificateRule{good, {"spiffe://example.org/*", tenantA, good.Roles}}); err != nil {
		t.Error(err)
	}
}

func FuzzCertificateURI(f *testing.F) {
	rules, err := newCertificateRules([]CertificateRule{{"spiffe://example.org/ns/*", "acme", []Role{RoleWriter}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("spiffe://example.org/ns/shop")
	f.Add("spiffe://example.org/ns/../shop")
	f.Fuzz(func(t *testing.T, uri string) {
		id, ok := rules.identify(uri)
		if ok && (!strings.HasPrefix(uri, "spiffe://example.org/ns/") || !isPrincipalID(id.ID) || strings.Contains(uri, "..") && strings.Contains(uri, "/../")) {
			t.Errorf("%q is %+v", uri, id)
		}
	})
}
