package oidc

import (
	"crypto"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"piivault/internal/authz"
	"piivault/internal/secret"
)

func TestEveryAlgorithm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := running(t, newIDP(), trusted())
		for algorithm, kid := range map[string]string{
			"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
			"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
		} {
			token := sign(t, kid, algorithm, good())
			want := authz.Identity{ID: "oidc_corp_alice", Name: "corp", Tenant: "default", Roles: []authz.Role{authz.RoleWriter}, Authentication: "oidc"}
			got, err := verify(t, v, token)
			if err != nil || !same(got, want) {
				t.Errorf("%s: %+v, %v", algorithm, got, err)
			}
			if got, ok := v.Recall(secret.NewText(token)); !ok || !same(got, want) {
				t.Errorf("%s: recalled %+v, %v", algorithm, got, ok)
			}
		}
	})
}

func same(a, b authz.Identity) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Tenant == b.Tenant && a.Authentication == b.Authentication && slices.Equal(a.Roles, b.Roles)
}

// The corpus: whatever is wrong with a token, nobody is signed in by it.
func TestNothingWrongIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := trusted()
		c.Algorithms = []string{"RS256", "ES256", "EdDSA"}
		v := running(t, newIDP(), c)
		accepted := 0
		corpus := wrong(t)
		for name, token := range corpus {
			if id, err := verify(t, v, token); !errors.Is(err, authz.ErrUnauthenticated) {
				accepted++
				t.Errorf("%s: %+v, %v", name, id, err)
			}
			if _, ok := v.Recall(secret.NewText(token)); ok {
				accepted++
				t.Errorf("%s is recalled", name)
			}
		}
		t.Logf("%d tokens that are wrong, %d accepted", len(corpus), accepted)
		if _, err := verify(t, v, sign(t, "rsa", "RS256", good())); err != nil {
			t.Errorf("the good one: %v", err)
		}
	})
}

// wrong is the corpus.
func wrong(t *testing.T) map[string]string {
	t.Helper()
	now := time.Now().Unix()
	b64 := base64.RawURLEncoding
	fine := sign(t, "rsa", "RS256", good())
	parts := strings.Split(fine, ".")
	header := `{"alg":"RS256","kid":"rsa","typ":"JWT"}`
	claims := compact(t, good())
	unsigned := func(header string) string { return b64.EncodeToString([]byte(header)) + "." + parts[1] + "." }
	hs := func(algorithm string, key []byte) string {
		text := b64.EncodeToString([]byte(`{"alg":"`+algorithm+`","kid":"rsa"}`)) + "." + parts[1]
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return text + "." + b64.EncodeToString(mac.Sum(nil))
	}
	public, _ := keys()["rsa"].Public().(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pemText := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: own.Public(), KeyID: "rsa"}
	corpus := map[string]string{
		"empty": "", "dots": "..", "a word": "hello", "four parts": fine + ".x", "two parts": parts[0] + "." + parts[1],
		"no signature": parts[0] + "." + parts[1] + ".", "padded": parts[0] + "=." + parts[1] + "." + parts[2],
		"cut": fine[:len(fine)-1], "longer": fine + "A", "a line break": fine + "\n",
		"JSON serialization": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,

		"none": unsigned(`{"alg":"none","kid":"rsa"}`), "None": unsigned(`{"alg":"None","kid":"rsa"}`), "NONE": unsigned(`{"alg":"NONE","kid":"rsa"}`),
		"no alg": unsigned(`{"kid":"rsa"}`), "alg of null": unsigned(`{"alg":null,"kid":"rsa"}`),
		"HS256 with the public key, PEM": hs("HS256", pemText), "HS256 with the public key, DER": hs("HS256", der),
		"HS256 with the modulus": hs("HS256", public.N.Bytes()), "HS256 with nothing": hs("HS256", nil), "HS256 called RS256": hs("RS256", pemText),
		"an algorithm not pinned":           sign(t, "rsa", "PS256", good()),
		"a curve not of the algorithm":      signText(t, map[string]any{"alg": "ES384", "kid": "p256"}, keys()["p384"], []byte(claims)),
		"another key":                       signText(t, map[string]any{"alg": "RS256", "kid": "rsa"}, own, []byte(claims)),
		"another key under its kid":         signText(t, map[string]any{"alg": "ES256", "kid": "rsa"}, keys()["p256"], []byte(claims)),
		"its own key in the header":         signText(t, map[string]any{"alg": "RS256", "kid": "rsa", "jwk": jwk}, own, []byte(claims)),
		"its own key's URL in the header":   signText(t, map[string]any{"alg": "RS256", "kid": "rsa", "jku": "https://evil.example/", "x5u": "https://evil.example/"}, own, []byte(claims)),
		"no kid":                            raw(t, `{"alg":"RS256"}`, claims),
		"unknown kid":                       raw(t, `{"alg":"RS256","kid":"other"}`, claims),
		"crit":                              raw(t, `{"alg":"RS256","kid":"rsa","crit":["exp"],"exp":1}`, claims),
		"crit of b64":                       raw(t, `{"alg":"RS256","kid":"rsa","crit":["b64"],"b64":true}`, claims),
		"empty crit":                        raw(t, `{"alg":"RS256","kid":"rsa","crit":[]}`, claims),
		"b64":                               raw(t, `{"alg":"RS256","kid":"rsa","b64":false}`, claims),
		"a logout token":                    raw(t, `{"alg":"RS256","kid":"rsa","typ":"logout+jwt"}`, claims),
		"a huge header":                     raw(t, `{"alg":"RS256","kid":"rsa","x":"`+strings.Repeat("x", 2000)+`"}`, claims),
		"a huge token":                      raw(t, header, `{"x":"`+strings.Repeat("x", 20_000)+`",`+claims[1:]),
		"a header with a member twice":      raw(t, `{"alg":"none","alg":"RS256","kid":"rsa"}`, claims),
		"a header in another case":          raw(t, `{"ALG":"RS256","kid":"rsa"}`, claims),
		"a header that is a list":           raw(t, `["RS256"]`, claims),
		"claims that are no object":         raw(t, header, `"`+issuerURL+`"`),
		"claims with a member twice":        raw(t, header, `{"sub":"root",`+claims[1:]),
		"claims with a nested member twice": raw(t, header, `{"x":{"a":1,"a":2},`+claims[1:]),
		"claims with text behind":           raw(t, header, claims+"x"),
		"claims in invalid UTF-8":           raw(t, header, `{"x":"`+"\xff"+`",`+claims[1:]),
		"claims changed":                    parts[0] + "." + b64.EncodeToString([]byte(strings.Replace(claims, "alice", "admin", 1))) + "." + parts[2],
		"exp of now":                        sign(t, "rsa", "RS256", with(good(), "exp", now)),
		"exp far off":                       sign(t, "rsa", "RS256", with(good(), "exp", now+48*3600)),
		"an audience in capitals":           sign(t, "rsa", "RS256", with(good(), "aud", "VAULT")),
		"an audience among what is no text": sign(t, "rsa", "RS256", with(good(), "aud", []any{1, map[string]any{"vault": 1}})),
		"an audience in a list":             sign(t, "rsa", "RS256", with(good(), "aud", []any{[]any{"vault"}})),
		"a subject that is too long":        sign(t, "rsa", "RS256", with(good(), "sub", strings.Repeat("a", 256))),
		"an issuer without its slash":       sign(t, "rsa", "RS256", with(good(), "iss", strings.TrimSuffix(issuerURL, "/"))),
		"an issuer with a query":            sign(t, "rsa", "RS256", with(good(), "iss", issuerURL+"?x")),
		"nbf in a minute":                   sign(t, "rsa", "RS256", with(good(), "nbf", now+60)),
		"iat in a minute":                   sign(t, "rsa", "RS256", with(good(), "iat", now+60)),
	}
	maps.Copy(corpus, wrongHeaders(t, claims))
	maps.Copy(corpus, wrongSignatures(t, claims))
	for _, name := range []string{"iss", "sub", "aud", "exp"} {
		corpus["no "+name] = sign(t, "rsa", "RS256", with(good(), name, nil))
		for what, v := range map[string]any{"a list": []any{}, "an object": map[string]any{}, "true": true, "empty": ""} {
			corpus[name+" is "+what] = sign(t, "rsa", "RS256", with(good(), name, v))
		}
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		for what, v := range map[string]any{"a string": "99999999999", "below 0": -1, "beyond all times": 1e300} {
			corpus[name+" is "+what] = sign(t, "rsa", "RS256", with(good(), name, v))
		}
	}
	delete(corpus, "nbf is below 0") // below
	corpus["nbf is below 0"] = sign(t, "rsa", "RS256", with(good(), "nbf", -1))
	return corpus
}

// wrongHeaders are signed well, and name no algorithm or key that there is:
// other spellings, and key ids that want to be a path, a query or a URL.
func wrongHeaders(t *testing.T, claims string) map[string]string {
	t.Helper()
	corpus := map[string]string{}
	for _, alg := range []string{`"rs256"`, `"Rs256"`, `"RS256 "`, `" RS256"`, `"RS-256"`, `"RS256\u0000"`, `"nOnE"`, `""`, `["RS256"]`, `{"RS256":1}`, `256`, `true`} {
		corpus["alg "+alg] = raw(t, `{"alg":`+alg+`,"kid":"rsa"}`, claims)
	}
	for name, kid := range map[string]string{
		"a path": `"../../../../dev/null"`, "an absolute path": `"/etc/passwd"`, "a path behind it": `"rsa/../rsa"`, "SQL": `"' OR '1'='1' --"`, "SQL behind it": `"rsa' UNION SELECT 'a"`,
		"a shell's": `"rsa;id"`, "a URL": `"https://evil.example/keys"`, "NUL behind it": `"rsa\u0000"`, "a space behind it": `"rsa "`, "a capital": `"RSA"`,
		"long": `"` + strings.Repeat("k", 700) + `"`, "empty": `""`, "null": `null`, "a list": `["rsa"]`, "a number": `0`, "an object": `{"rsa":1}`, "a wildcard": `"*"`,
	} {
		corpus["kid of "+name] = raw(t, `{"alg":"RS256","kid":`+kid+`}`, claims)
	}
	for name, member := range map[string]string{
		"crit of what is known": `"crit":["alg"]`, "crit of nothing real": `"crit":["x"]`, "crit that is null and b64": `"crit":null,"b64":true`, "crit that is no list": `"crit":"exp"`,
		"an encrypted token": `"typ":"JWE"`, "a DPoP proof": `"typ":"dpop+jwt"`, "a security event": `"typ":"secevent+jwt"`, "typ that is a list": `"typ":["JWT"]`,
	} {
		corpus[name] = raw(t, `{"alg":"RS256","kid":"rsa",`+member+`}`, claims)
	}
	return corpus
}

// wrongSignatures of ECDSA and EdDSA: of nothing, of another form, cut.
func wrongSignatures(t *testing.T, claims string) map[string]string {
	t.Helper()
	b64 := base64.RawURLEncoding
	part := func(kid, alg string) string {
		return b64.EncodeToString([]byte(`{"alg":"`+alg+`","kid":"`+kid+`"}`)) + "." + b64.EncodeToString([]byte(claims)) + "."
	}
	sum := sha256.Sum256([]byte(strings.TrimSuffix(part("p256", "ES256"), ".")))
	der, err := keys()["p256"].Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	order := make([]byte, 64)
	elliptic.P256().Params().N.FillBytes(order[:32])
	elliptic.P256().Params().N.FillBytes(order[32:])
	return map[string]string{
		"ES256 of zeros (CVE-2022-21449)":   part("p256", "ES256") + b64.EncodeToString(make([]byte, 64)),
		"ES256 of the curve's order":        part("p256", "ES256") + b64.EncodeToString(order),
		"ES256 in ASN.1":                    part("p256", "ES256") + b64.EncodeToString(der),
		"ES256 of 63 bytes":                 part("p256", "ES256") + b64.EncodeToString(make([]byte, 63)),
		"EdDSA of zeros":                    part("ed", "EdDSA") + b64.EncodeToString(make([]byte, 64)),
		"EdDSA under the key of ES256":      part("p256", "EdDSA") + b64.EncodeToString(make([]byte, 64)),
		"RS256 of zeros":                    part("rsa", "RS256") + b64.EncodeToString(make([]byte, 256)),
		"RS256 of one":                      part("rsa", "RS256") + b64.EncodeToString(append(make([]byte, 255), 1)),
		"RS256 under the key of ES256":      part("p256", "RS256") + b64.EncodeToString(der),
		"RS256, its modulus as a signature": part("rsa", "RS256") + b64.EncodeToString(modulus(t)),
	}
}

func modulus(t *testing.T) []byte {
	t.Helper()
	public, ok := keys()["rsa"].Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	return public.N.Bytes()
}

// Any flipped character of the signature or of what it covers is seen.
func TestEveryChangedCharacterIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := running(t, newIDP(), trusted())
		fine := sign(t, "p256", "ES256", good())
		for i := range len(fine) {
			for _, c := range []byte("A_.") {
				b := []byte(fine)
				if b[i] == c {
					continue
				}
				b[i] = c
				if _, err := verify(t, v, string(b)); err == nil {
					t.Fatalf("character %d may be %c", i, c)
				}
			}
		}
	})
}

func TestLeewayAndLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := running(t, newIDP(), trusted())
		now := time.Now().Unix()
		for name, claims := range map[string]map[string]any{
			"an issuer's clock is ahead":   with(with(good(), "nbf", now+29), "iat", now+29),
			"no nbf and iat":               with(with(good(), "nbf", nil), "iat", nil),
			"a fraction":                   with(good(), "exp", float64(now)+0.5),
			"many audiences":               with(good(), "aud", []string{"other", "vault-2"}),
			"other claims, of other types": with(good(), "groups", map[string]any{"support": true}),
		} {
			id, err := verify(t, v, sign(t, "rsa", "RS256", claims))
			if err != nil || !slices.Equal(id.Roles, []authz.Role{authz.RoleWriter}) {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
		}
		for _, typ := range []string{"jwt", "at+jwt", "application/at+JWT"} {
			if _, err := verify(t, v, raw(t, `{"alg":"RS256","kid":"rsa","typ":"`+typ+`"}`, compact(t, good()))); err != nil {
				t.Errorf("%s: %v", typ, err)
			}
		}
	})
}

// Roles are what the grants give for verified claims, and nothing else.
func TestGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := trusted()
		c.Tenant, c.TenantClaim = "", "org"
		v := running(t, newIDP(), c)
		for name, tt := range map[string]struct {
			claims map[string]any
			roles  []authz.Role
		}{
			"everyone":       {good(), []authz.Role{authz.RoleWriter}},
			"a list":         {with(good(), "groups", []string{"x", "support"}), []authz.Role{authz.RoleWriter, authz.RoleSupport}},
			"a text":         {with(good(), "groups", "support"), []authz.Role{authz.RoleWriter, authz.RoleSupport}},
			"part of one":    {with(good(), "groups", "support admin"), []authz.Role{authz.RoleWriter}},
			"a pointer":      {with(good(), "https://example.com/", map[string]any{"level": "high"}), []authz.Role{authz.RoleWriter, authz.RoleReader}},
			"roles, claimed": {with(good(), "roles", []string{"admin"}), []authz.Role{authz.RoleWriter}},
		} {
			id, err := verify(t, v, sign(t, "rsa", "RS256", with(tt.claims, "org", "acme")))
			if err != nil || id.Tenant != "acme" || !slices.Equal(id.Roles, tt.roles) {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
		}
		for name, org := range map[string]any{"none": nil, "empty": "", "a list": []string{"acme"}, "a number": 1} {
			if _, err := verify(t, v, sign(t, "rsa", "RS256", with(good(), "org", org))); !errors.Is(err, authz.ErrUnauthenticated) {
				t.Errorf("a tenant that is %s: %v", name, err)
			}
		}
	})
}

// Policies see the claims that the configuration names, as they were signed,
// remembered tokens' too; one of another type signs nobody in.
func TestClaimsForPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := trusted()
		c.Claims = []Claim{
			{Name: "department", Type: authz.ClaimString},
			{Name: "teams", Claim: "groups", Type: authz.ClaimStrings},
			{Name: "level", Claim: "/https:~1~1example.com~1/level", Type: authz.ClaimLong},
			{Name: "contractor", Type: authz.ClaimBool},
		}
		v := running(t, newIDP(), c)
		types, err := ClaimTypes(c)
		if err != nil {
			t.Fatal(err)
		}
		policies, err := types.ParsePolicies(map[string][]byte{"a.cedar": []byte(`@id("a") permit (principal, action, resource) when {
			principal.claims has department && principal.claims.department == "finance" && principal.claims has teams && principal.claims.teams.contains("a") &&
			principal.claims has level && principal.claims.level == 3 && !(principal.claims has contractor) };`)})
		if err != nil {
			t.Fatal(err)
		}
		full := func() map[string]any {
			return with(with(with(good(), "department", "finance"), "groups", []string{"a", "b"}), "https://example.com/", map[string]any{"level": 3})
		}
		allows := func(id authz.Identity) bool {
			p := authz.Principal{ID: id.ID, Roles: id.Roles, Claims: id.Claims}
			return policies.Decide(p, authz.Request{Action: authz.ActionAdmin}).Allowed
		}
		token := sign(t, "rsa", "RS256", full())
		if id, err := verify(t, v, token); err != nil || !allows(id) {
			t.Errorf("all claims: %v", err)
		}
		if id, ok := v.Recall(secret.NewText(token)); !ok || !allows(id) {
			t.Error("they are not remembered")
		}
		for name, claims := range map[string]map[string]any{
			"one missing": with(full(), "department", nil), "one null": with(full(), "groups", []string{}), "one more": with(full(), "contractor", false),
		} {
			if id, err := verify(t, v, sign(t, "rsa", "RS256", claims)); err != nil || allows(id) {
				t.Errorf("%s: allowed, or %v", name, err)
			}
		}
		for name, value := range map[string]any{"department": 1, "groups": []any{1}, "https://example.com/": map[string]any{"level": "3"}, "contractor": "no"} {
			if id, err := verify(t, v, sign(t, "rsa", "RS256", with(full(), name, value))); !errors.Is(err, authz.ErrUnauthenticated) {
				t.Errorf("%s of another type: %+v, %v", name, id, err)
			}
		}
	})
}

// An AWS principal's web identity is a token like others: an issuer of the
// account's own, the role's ARN as sub, the account in a namespaced claim.
func TestAWSWebIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := trusted()
		c.Name, c.Algorithms = "aws", []string{"ES384"}
		c.Grants = []Grant{{Claim: "/https:~1~1sts.amazonaws.com~1/aws_account", Value: "111122223333", Roles: []authz.Role{authz.RoleWriter}}}
		v := running(t, newIDP(), c)
		claims := with(good(), "sub", "arn:aws:iam::111122223333:role/shop")
		id, err := verify(t, v, sign(t, "p384", "ES384", with(claims, "https://sts.amazonaws.com/", map[string]any{"aws_account": "111122223333"})))
		if err != nil || id.ID != "oidc_aws_arn:aws:iam::111122223333:role~2fshop" || len(id.Roles) != 1 {
			t.Errorf("%+v, %v", id, err)
		}
	})
}

func TestSubjectIDs(t *testing.T) {
	for sub, want := range map[string]string{
		"alice": "alice", "auth0|5f": "auth0|5f", "a/b": "a~2fb", "a_b": "a~5fb", "~~": "~7e~7e", "é": "~c3~a9",
	} {
		if got := subjectID(sub); got != want {
			t.Errorf("%q: %q", sub, got)
		}
	}
	for _, sub := range []string{"alice@example.com", strings.Repeat("/", 100)} {
		if got := subjectID(sub); !strings.HasPrefix(got, "~~") || len(got) != 34 {
			t.Errorf("%q: %q", sub, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab~27f/@_#\x00é")), 0, 60, -1)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		if (subjectID(a) == subjectID(b)) != (a == b) {
			t.Fatalf("%q and %q are %q and %q", a, b, subjectID(a), subjectID(b))
		}
		if id := subjectID(a); len(id) > maxPlain || strings.ContainsAny(id, "/#@\x00") {
			t.Fatalf("%q is %q", a, id)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Issuer){
		"no name":             func(c *Issuer) { c.Name = "" },
		"a name with _":       func(c *Issuer) { c.Name = "a_b" },
		"http":                func(c *Issuer) { c.URL = "http://login.example.com" },
		"a query":             func(c *Issuer) { c.URL += "?a" },
		"a fragment":          func(c *Issuer) { c.URL += "#" },
		"a user":              func(c *Issuer) { c.URL = "https://a@b/" },
		"keys over http":      func(c *Issuer) { c.JWKSURL = "http://login.example.com/keys" },
		"no audience":         func(c *Issuer) { c.Audiences = nil },
		"an empty audience":   func(c *Issuer) { c.Audiences = []string{""} },
		"none":                func(c *Issuer) { c.Algorithms = []string{"none"} },
		"HS256":               func(c *Issuer) { c.Algorithms = []string{"RS256", "HS256"} },
		"two tenants":         func(c *Issuer) { c.TenantClaim = "org" },
		"no tenant":           func(c *Issuer) { c.Tenant = "" },
		"no grant":            func(c *Issuer) { c.Grants = nil },
		"a grant of no role":  func(c *Issuer) { c.Grants[0].Roles = nil },
		"a grant of no value": func(c *Issuer) { c.Grants[1].Value = "" },
		"an unknown role":     func(c *Issuer) { c.Grants[0].Roles = []authz.Role{"root"} },
		"a claim's bad name":  func(c *Issuer) { c.Claims = []Claim{{Name: "A", Type: authz.ClaimBool}} },
		"a claim of no type":  func(c *Issuer) { c.Claims = []Claim{{Name: "a"}} },
		"a claim twice":       func(c *Issuer) { c.Claims = []Claim{{"a", "x", authz.ClaimBool}, {"a", "y", authz.ClaimBool}} },
	} {
		c := trusted()
		change(&c)
		if _, err := New(Config{Issuers: []Issuer{c}, Now: time.Now}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := New(Config{Issuers: []Issuer{trusted(), trusted()}, Now: time.Now}); err == nil {
		t.Error("the same issuer twice")
	}
	one, two := trusted(), trusted()
	two.Name, two.URL = "two", "https://two.example"
	one.Claims, two.Claims = []Claim{{Name: "a", Type: authz.ClaimBool}}, []Claim{{Name: "a", Type: authz.ClaimLong}}
	if _, err := New(Config{Issuers: []Issuer{one, two}, Now: time.Now}); err == nil {
		t.Error("a claim of two types")
	}
}

func FuzzVerify(f *testing.F) {
	v, err := New(Config{Issuers: []Issuer{trusted()}, Transport: newIDP(), Now: time.Now, Logger: zerolog.Nop()})
	if err != nil {
		f.Fatal(err)
	}
	if err := v.list[0].keys.refresh(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9", "eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tLyJ9", "c2ln")
	f.Add("eyJhbGciOiJub25lIn0", "e30", "")
	f.Fuzz(func(t *testing.T, head, body, signature string) {
		if id, err := v.Verify(t.Context(), secret.NewText(head+"."+body+"."+signature)); err == nil {
			t.Errorf("accepted: %+v", id)
		}
	})
}
