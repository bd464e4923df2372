package httpapi_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// uri is the certificate's that the fake vault knows.
const uri = "spiffe://example.org/shop"

// A certificate counts only where TLS verified it, for as long as it holds,
// with one URI, and where no other credential is sent.
func TestClientCertificates(t *testing.T) {
	h := newHarness(t)
	now := time.Now()
	certificate := func(ends time.Time, uris ...string) *x509.Certificate {
		c := &x509.Certificate{NotAfter: ends}
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, parsed)
		}
		return c
	}
	good := certificate(now.Add(time.Hour), uri)
	verified := func(c *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	}
	for name, tt := range map[string]struct {
		state  *tls.ConnectionState
		bearer []string
		status int
	}{
		"verified":                  {verified(good), nil, http.StatusOK},
		"no TLS":                    {nil, nil, http.StatusUnauthorized},
		"no certificate":            {&tls.ConnectionState{}, nil, http.StatusUnauthorized},
		"not verified":              {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{good}}, nil, http.StatusUnauthorized},
		"ended since the handshake": {verified(certificate(now.Add(-time.Hour), uri)), nil, http.StatusUnauthorized},
		"no URI":                    {verified(certificate(now.Add(time.Hour))), nil, http.StatusUnauthorized},
		"two URIs":                  {verified(certificate(now.Add(time.Hour), uri, "spiffe://example.org/admin")), nil, http.StatusUnauthorized},
		"an escaped URI":            {verified(certificate(now.Add(time.Hour), "spiffe://example.org/%73hop")), nil, http.StatusUnauthorized},
		"a wrong key besides":       {verified(good), []string{"Bearer " + canary}, http.StatusUnauthorized},
		"two keys besides":          {verified(good), []string{"Bearer " + key, "Bearer " + key}, http.StatusUnauthorized},
		"an empty header besides":   {verified(good), []string{""}, http.StatusUnauthorized},
		"a good key besides":        {verified(good), []string{"Bearer " + key}, http.StatusOK},
	} {
		r := request(http.MethodGet, "/v1/types", "")
		delete(r.Header, "Authorization")
		if r.TLS = tt.state; tt.bearer != nil {
			r.Header["Authorization"] = tt.bearer
		}
		if w := h.do(r); w.Code != tt.status {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if h.vault.credentials.Address == "" {
		t.Error("the domain is not told the address")
	}
}
