// Package oidc signs callers in by JSON Web Tokens (RFC 7519) of issuers that
// the configuration pins: OpenID providers, and AWS STS web identities.
//
// It follows RFC 8725: an issuer has a list of signature algorithms and none
// is symmetric; lengths are bounded before anything is parsed; a key comes from
// the issuer's own key set and never from the token; exp is required; repeated
// members are refused. Tenant and roles come from verified claims and the
// configuration alone. What unknown callers send makes a bounded number of
// requests to an issuer, and an issuer that is down costs nobody whose key is
// known (see Issuer.KeepFor).
package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
)

// Authentication is the Identity's, and so the Principal's.
const Authentication = "oidc"

// Algorithms are those that an issuer may be trusted with (RFC 7518 §3.1, RFC 8037):
// asymmetric all.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Grant gives roles to those whose claim is a value, or a list that holds it.
type Grant struct {
	// Claim is a member of the claims or, where it begins with /, a JSON
	// pointer to one (RFC 6901). "": everyone whom the issuer signs for.
	Claim string
	Value string
	Roles []authz.Role
}

// Claim shows a claim to policies.
type Claim struct {
	Name  string // in policies: authz.ClaimTypes
	Claim string // as Grant.Claim; "": that of this name
	Type  authz.ClaimType
}

// Issuer is one that is trusted, and with what.
type Issuer struct {
	Name       string // in principals' ids: 1 to 32 of a-z 0-9 -
	URL        string // as in iss, byte for byte
	Audiences  []string
	Algorithms []string // default RS256
	JWKSURL    string   // "": from the issuer's discovery document

	// One of them: a tenant's id or alias, or the claim that has it (as Grant.Claim).
	Tenant, TenantClaim string
	Grants              []Grant
	// Claims are shown to policies, as principal.claims.
	Claims []Claim

	// MaxLifetime refuses tokens that end later than so from now. Default 24 h.
	MaxLifetime time.Duration
	// Refresh is how often the key set is read. Default 5 minutes.
	Refresh time.Duration
	// KeepFor is how long the last key set serves while the issuer cannot be
	// read; then its tokens are refused with ErrUnavailable. Default 24 h.
	KeepFor time.Duration
}

// Config of Issuers. Now is required.
type Config struct {
	Issuers   []Issuer
	Transport http.RoundTripper // default http.DefaultTransport
	Now       func() time.Time
	Logger    zerolog.Logger
}

var errConfig = errors.New("oidc")

// Issuers verify the tokens of all of them: an authz.Tokens. Its methods are
// safe for concurrent use.
type Issuers struct {
	now       func() time.Time
	byURL     map[string]*issuer
	list      []*issuer // as configured
	verified  cache
	semaphore chan struct{} // a place for each signature that is being checked
}

// issuer is one of them with its keys.
type issuer struct {
	Issuer
	keys  *source
	types authz.ClaimTypes // of its Claims
}

// ClaimTypes declares the claims that any of the issuers shows to policies. An
// error says, without quoting, what is wrong with them.
func ClaimTypes(issuers ...Issuer) (authz.ClaimTypes, error) {
	types := authz.ClaimTypes{}
	for _, i := range issuers {
		mine := map[string]bool{}
		for _, c := range i.Claims {
			if before, declared := types[c.Name]; mine[c.Name] || declared && before != c.Type {
				return nil, fmt.Errorf("%w: a claim has one type, and an issuer takes it from one place", errConfig)
			}
			mine[c.Name], types[c.Name] = true, c.Type
		}
	}
	if err := types.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return types, nil
}

// New checks the configuration and calls nobody: Run reads the key sets.
func New(cfg Config) (*Issuers, error) {
	v := &Issuers{now: cfg.Now, byURL: map[string]*issuer{}, verified: newCache(), semaphore: make(chan struct{}, maxVerifying)}
	for _, c := range cfg.Issuers {
		if len(c.Algorithms) == 0 {
			c.Algorithms = []string{string(jose.RS256)}
		}
		c.MaxLifetime = cmp.Or(c.MaxLifetime, 24*time.Hour)
		c.Refresh, c.KeepFor = cmp.Or(c.Refresh, 5*time.Minute), cmp.Or(c.KeepFor, 24*time.Hour)
		if err := c.Validate(); err != nil {
			return nil, err
		}
		if v.byURL[c.URL] != nil || slices.ContainsFunc(v.list, func(i *issuer) bool { return i.Name == c.Name }) {
			return nil, fmt.Errorf("%w: two issuers have the same name or URL", errConfig)
		}
		types, err := ClaimTypes(c)
		if err != nil {
			return nil, err
		}
		i := &issuer{Issuer: c, keys: newSource(c, cfg), types: types}
		v.byURL[c.URL], v.list = i, append(v.list, i)
	}
	if _, err := ClaimTypes(cfg.Issuers...); err != nil {
		return nil, err
	}
	return v, nil
}

// Run keeps the key sets fresh until ctx ends.
func (v *Issuers) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, i := range v.list {
		wg.Go(func() { i.keys.run(ctx) })
	}
	wg.Wait()
}

// Validate says what is wrong with an issuer's configuration, without quoting it.
func (c *Issuer) Validate() error {
	mistake := func(what string) error { return fmt.Errorf("%w: %s", errConfig, what) }
	switch {
	case !isIssuerName(c.Name):
		return mistake("an issuer's name is 1 to 32 of a-z 0-9 -")
	case !isIssuerURL(c.URL):
		return mistake("issuer must be an https URL without a query (http on a loopback address, for trying out)")
	case c.JWKSURL != "" && !secureURL(c.JWKSURL):
		return mistake("jwks_url must be an https URL")
	case len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return mistake("audiences is missing: whom the issuer's tokens must be meant for")
	case (c.Tenant == "") == (c.TenantClaim == ""):
		return mistake("give either tenant or tenant_claim")
	case len(c.Grants) == 0:
		return mistake("grants is missing: without it nobody has a role")
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return mistake("algorithms are some of " + strings.Join(Algorithms(), ", "))
		}
	}
	for _, g := range c.Grants {
		if err := g.validate(); err != nil {
			return mistake(err.Error())
		}
	}
	return nil
}

func (g *Grant) validate() error {
	if (g.Claim == "") != (g.Value == "") {
		return errors.New("a grant has both a claim and its value, or neither: everyone then")
	}
	if _, err := authz.CanonicalRoles(g.Roles); err != nil {
		return errors.New("a grant has roles, and only such as exist")
	}
	return nil
}

func isIssuerName(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// isIssuerURL: OpenID Connect Core 1.0 §2, iss.
func isIssuerURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && secureURL(s) && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && !strings.Contains(s, "#")
}

// secureURL is one of https, or of this machine.
func secureURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())
}

// Status is how an issuer's key set does.
type Status struct {
	Issuer  string
	Keys    int
	Read    time.Time // when it was last read, zero for never
	Fetches uint64    // that were begun
	Failed  uint64    // of them
}

// Status of every issuer, as configured.
func (v *Issuers) Status() []Status {
	out := make([]Status, len(v.list))
	for n, i := range v.list {
		out[n] = i.keys.status()
	}
	return out
}
