package oidc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// fetchTimeout bounds one request to an issuer, and so what a caller with
	// a key id that is not known yet waits for.
	fetchTimeout = 5 * time.Second
	// maxAnswer bounds what is read of its answer.
	maxAnswer = 256 << 10
)

var (
	errIssuerDown = errors.New("oidc: the issuer cannot be reached, or does not answer 200")
	errTooLarge   = errors.New("oidc: the issuer's answer is too large")
	errDiscovery  = errors.New("oidc: the discovery document is not this issuer's, or names no https key set")
)

// fetcher reads from issuers.
type fetcher struct{ client *http.Client }

// newFetcher follows no redirects: where keys are is configured, or said by
// the issuer's own document.
func newFetcher(transport http.RoundTripper) *fetcher {
	return &fetcher{&http.Client{
		Transport:     transport, // nil: http.DefaultTransport
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// keySet reads the text of an issuer's JWK set.
func (f *fetcher) keySet(ctx context.Context, c Issuer) ([]byte, error) {
	at := c.JWKSURL
	if at == "" {
		var err error
		if at, err = f.discover(ctx, c.URL); err != nil {
			return nil, err
		}
	}
	return f.get(ctx, at)
}

// discover finds the key set's URL (OpenID Connect Discovery 1.0 §4): the
// document must name the very issuer (§4.3).
func (f *fetcher) discover(ctx context.Context, issuer string) (string, error) {
	text, err := f.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if json.Unmarshal(text, &document) != nil || document.Issuer != issuer || !secureURL(document.Keys) {
		return "", errDiscovery
	}
	return document.Keys, nil
}

// get reads an answer in full. Errors of net/http are not passed on: they quote.
func (f *fetcher) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errIssuerDown
	}
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, errIssuerDown
	}
	defer func() { _ = resp.Body.Close() }() // it was read as far as is wanted
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil || resp.StatusCode != http.StatusOK:
		return nil, errIssuerDown
	case len(text) > maxAnswer:
		return nil, errTooLarge
	}
	return text, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
