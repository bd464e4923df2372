package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// issuer is an OpenID provider on this machine.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	answer := func(path string, v func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := json.MarshalWrite(w, v()); err != nil {
				t.Error(err)
			}
		})
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}
	})
	public, err := jose.JSONWebKey{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys":[%s]}`, public)
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, sub, aud string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	claims, err := json.Marshal(map[string]any{"iss": i.URL, "sub": sub, "aud": aud, "exp": now + 300, "iat": now})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// clientCA signs clients' certificates.
type clientCA struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newClientCA(t *testing.T) *clientCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := &clientCA{key: key}
	if c.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *clientCA) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw}))
}

// client returns a client with a certificate of the URIs, and of the usage.
func (c *clientCA) client(t *testing.T, trusts *http.Client, ends time.Time, usage x509.ExtKeyUsage, uris ...string) *http.Client {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "admin"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: ends,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.certificate, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	base, ok := trusts.Transport.(*http.Transport)
	if !ok {
		t.Fatal("not a transport")
	}
	transport := base.Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	transport.ForceAttemptHTTP2 = true
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: trusts.Timeout}
}

// Tokens of an issuer and client certificates sign in at a running instance,
// through real handshakes; what is wrong does not, and a suspension ends it.
func TestServeSignsIn(t *testing.T) {
	r, _ := newDutyRig(t)
	idp, ca := newIssuer(t), newClientCA(t)
	writeFile(t, filepath.Join(r.dir, "clients.pem"), ca.pem())
	config := strings.Replace(readFile(t, r.file), "tls: {", "tls: {client_ca: "+r.dir+"/clients.pem, ", 1)
	writeFile(t, r.file, config+fmt.Sprintf(`oidc:
  - {name: corp, issuer: %q, audiences: [vault], algorithms: [ES256], tenant: acme, grants: [{roles: [writer]}]}
mtls:
  - {uri: "spiffe://example.org/prod/*", tenant: acme, roles: [writer]}
`, idp.URL))
	admin := r.must(t, "key", "create", "--name", "all", "--roles", "admin", "--tenant", "acme")
	r.during(t, nil, func(s *served) {
		ask := func(client *http.Client, bearer string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at["api"]+"/v1/types", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if bearer != "" {
				req.Header.Set("Authorization", "Bearer "+bearer)
			}
			resp, err := client.Do(req)
			if err != nil {
				return 0, ""
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, resp.Proto + " " + string(body)
		}
		soon, client := time.Now().Add(30*time.Minute), x509.ExtKeyUsageClientAuth
		alice := idp.token(t, "alice", "vault")
		shop := ca.client(t, r.client, soon, client, "spiffe://example.org/prod/shop")
		for name, tt := range map[string]struct {
			client *http.Client
			bearer string
			status int // 0: no connection
		}{
			"a token":                   {r.client, alice, 200},
			"of another audience":       {r.client, idp.token(t, "alice", "other"), 401},
			"of another issuer":         {r.client, newIssuer(t).token(t, "alice", "vault"), 401},
			"nothing":                   {r.client, "", 401},
			"a certificate":             {shop, "", 200},
			"a token and a certificate": {shop, alice, 200},
			"a wrong token, and one":    {shop, alice + "x", 401},
			"another URI":               {ca.client(t, r.client, soon, client, "spiffe://example.org/dev/shop"), "", 401},
			"two URIs":                  {ca.client(t, r.client, soon, client, "spiffe://example.org/prod/a", "spiffe://example.org/prod/b"), "", 401},
			"no URI":                    {ca.client(t, r.client, soon, client), "", 401},
			"another CA":                {newClientCA(t).client(t, r.client, soon, client, "spiffe://example.org/prod/shop"), "", 0},
			"one that has ended":        {ca.client(t, r.client, time.Now().Add(-time.Hour), client, "spiffe://example.org/prod/shop"), "", 0},
			"a server's":                {ca.client(t, r.client, soon, x509.ExtKeyUsageServerAuth, "spiffe://example.org/prod/shop"), "", 0},
		} {
			if status, body := ask(tt.client, tt.bearer); status != tt.status {
				t.Errorf("%s: %d %s", name, status, body)
			}
		}
		if _, body := ask(shop, ""); !strings.HasPrefix(body, "HTTP/2.0 ") {
			t.Errorf("with a client CA HTTP/2 is lost: %s", body)
		}
		for id, tt := range map[string]struct {
			client *http.Client
			bearer string
		}{"oidc_corp_alice": {r.client, alice}, "mtls_spiffe:example.org:prod:shop": {shop, ""}} {
			r.wantStatus(t, s, admin, "/v1/keys/suspend", fmt.Sprintf(`{"id":%q}`, id), http.StatusOK, `"not_reached":[]`)
			if status, _ := ask(tt.client, tt.bearer); status != http.StatusUnauthorized {
				t.Errorf("%s is suspended, and answered %d", id, status)
			}
			r.wantStatus(t, s, admin, "/v1/keys/reinstate", fmt.Sprintf(`{"id":%q}`, id), http.StatusOK, `"not_reached":[]`)
			if status, _ := ask(tt.client, tt.bearer); status != http.StatusOK {
				t.Errorf("%s is reinstated, and answered %d", id, status)
			}
		}
	})
}
