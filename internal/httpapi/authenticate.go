package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"piivault/internal/secret"
	"piivault/internal/vault"
)

// authenticate takes the credential of RFC 6750 §2.1: one header, any case of
// the scheme's name. Without that header the client's certificate counts,
// where TLS has verified one.
func (s *server) authenticate(ctx context.Context, r *http.Request) (vault.Principal, error) {
	c := vault.Credentials{Address: clientOf(r)}
	sent := r.Header["Authorization"]
	if len(sent) == 0 {
		if c.URI = certificateURI(r, s.Now()); c.URI == "" {
			return vault.Principal{}, problemUnauthenticated()
		}
		return s.Vault.Authenticate(ctx, c)
	}
	scheme, credential, found := strings.Cut(sent[0], " ")
	if len(sent) > 1 || !found || credential == "" || !strings.EqualFold(scheme, "Bearer") {
		return vault.Principal{}, problemUnauthenticated()
	}
	c.Bearer = secret.NewText(credential)
	return s.Vault.Authenticate(ctx, c)
}

// certificateURI is the URI of the client's certificate, if it has exactly one
// (as X.509-SVID §2 demands). The handshake has verified the chain; that the
// certificate has not ended since is checked for every request of a connection.
func certificateURI(r *http.Request, now time.Time) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return ""
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if len(leaf.URIs) != 1 || now.After(leaf.NotAfter) {
		return ""
	}
	return leaf.URIs[0].String()
}
