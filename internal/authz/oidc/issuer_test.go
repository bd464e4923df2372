package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/secret"
)

const (
	issuerURL = "https://login.example.com/"
	jwksURL   = "https://login.example.com/keys"
)

// keys are made once: RSA keys take long.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{}
	for _, kid := range []string{"rsa", "rsa-next"} {
		made[kid], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	for kid, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		made[kid], _ = ecdsa.GenerateKey(curve, rand.Reader)
	}
	_, made["ed"], _ = ed25519.GenerateKey(rand.Reader)
	return made
})

// idp is an issuer whose answers tests choose, and which counts requests.
type idp struct {
	mu       sync.Mutex // guards the rest
	kids     []string
	answer   func(*http.Request) (*http.Response, error) // nil: the key set
	requests int
}

func (p *idp) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.requests++
	answer, kids := p.answer, p.kids
	p.mu.Unlock()
	if answer != nil {
		return answer(r)
	}
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		return respond(200, `{"issuer":"`+issuerURL+`","jwks_uri":"`+jwksURL+`","extra":[1]}`), nil
	}
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: keys()[kid].Public(), KeyID: kid, Use: "sig"})
	}
	b, err := json.Marshal(set)
	return respond(200, string(b)), err
}

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}
}

func (p *idp) answers(a func(*http.Request) (*http.Response, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = a
}

func (p *idp) publishes(kids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kids = kids
}

func (p *idp) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func newIDP() *idp {
	return &idp{kids: []string{"rsa", "p256", "p384", "p521", "ed"}}
}

func trusted() Issuer {
	return Issuer{
		Name: "corp", URL: issuerURL, Audiences: []string{"vault", "vault-2"}, JWKSURL: jwksURL, Tenant: "default", Algorithms: Algorithms(),
		Grants: []Grant{
			{Roles: []authz.Role{authz.RoleWriter}},
			{Claim: "groups", Value: "support", Roles: []authz.Role{authz.RoleSupport}},
			{Claim: "/https:~1~1example.com~1/level", Value: "high", Roles: []authz.Role{authz.RoleReader, authz.RoleWriter}},
		},
	}
}

// running starts Issuers of one issuer, in a synctest bubble, and waits until
// its keys were read.
func running(t *testing.T, p *idp, c Issuer) *Issuers {
	t.Helper()
	v, err := New(Config{Issuers: []Issuer{c}, Transport: p, Now: time.Now, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { v.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return v
}

// good are claims that hold for an hour.
func good() map[string]any {
	now := time.Now().Unix()
	return map[string]any{"iss": issuerURL, "sub": "alice", "aud": "vault", "exp": now + 3600, "nbf": now, "iat": now}
}

func with(claims map[string]any, name string, value any) map[string]any {
	if claims[name] = value; value == nil {
		delete(claims, name)
	}
	return claims
}

// sign makes a token by go-jose, whose signing is not what is tested.
func sign(t *testing.T, kid, algorithm string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signText(t, map[string]any{"alg": algorithm, "kid": kid, "typ": "JWT"}, keys()[kid], payload)
}

func signText(t *testing.T, header map[string]any, key any, payload []byte) string {
	t.Helper()
	algorithm, _ := header["alg"].(string)
	o := &jose.SignerOptions{}
	for name, v := range header {
		if name != "alg" {
			o.WithHeader(jose.HeaderKey(name), v)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// raw signs header and payload as they are spelled, RS256 of the key rsa.
func raw(t *testing.T, header, payload string) string {
	t.Helper()
	b := base64.RawURLEncoding
	text := b.EncodeToString([]byte(header)) + "." + b.EncodeToString([]byte(payload))
	sum := crypto.SHA256.New()
	sum.Write([]byte(text))
	signature, err := keys()["rsa"].Sign(rand.Reader, sum.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b.EncodeToString(signature)
}

func verify(t *testing.T, v *Issuers, token string) (authz.Identity, error) {
	t.Helper()
	return v.Verify(t.Context(), secret.NewText(token))
}

func compact(t *testing.T, claims map[string]any) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(claims); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}
