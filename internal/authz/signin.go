package authz

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

// Credentials are what a caller presents. Bearer is looked at before URI.
type Credentials struct {
	Bearer  secret.Text // of Authorization (RFC 6750 §2.1), if any
	URI     string      // the one of a client certificate that TLS has verified, if any
	Address string      // the peer's network address
}

// Identity is who a token or a certificate says that it is.
type Identity struct {
	ID, Name       string
	Tenant         string // its id or alias
	Roles          []Role // canonical, maybe none
	Authentication string // oidc, mtls
	Claims         Claims // for policies
}

// Tokens verify the tokens of others; *oidc.Issuers does.
type Tokens interface {
	// Recall tells, at no cost to speak of, who holds a token that was
	// verified before and still holds.
	Recall(token secret.Text) (Identity, bool)
	// Verify checks a token's signature and claims: ErrUnauthenticated, or
	// ErrUnavailable while that cannot be decided.
	Verify(ctx context.Context, token secret.Text) (Identity, error)
}

// SignInConfig configures a SignIn; Keys, Tenants and Now are required.
type SignInConfig struct {
	Keys         *Keys
	Tenants      Control           // the local table
	Tokens       Tokens            // nil: no tokens but API keys
	Certificates []CertificateRule // none: no certificates
	Failures     FailureLimit      // of one address
	Now          func() time.Time
	Logger       zerolog.Logger
}

// SignIn turns credentials into Principals. Its methods are safe for
// concurrent use.
type SignIn struct {
	keys     *Keys
	tokens   Tokens
	rules    certificateRules
	failures *failures
	tenants  *tenantIDs
	counts   signInCounts
}

// TooManyFailuresError refuses a caller whose address failed too often, before
// its credential was looked at any closer.
type TooManyFailuresError struct{ RetryAfter time.Duration }

func (*TooManyFailuresError) Error() string { return "authz: too many failed sign-ins" }

// NewSignIn checks the certificates' rules.
func NewSignIn(cfg SignInConfig) (*SignIn, error) {
	rules, err := newCertificateRules(cfg.Certificates)
	if err != nil {
		return nil, err
	}
	return &SignIn{
		keys: cfg.Keys, tokens: cfg.Tokens, rules: rules,
		failures: newFailures(cfg.Failures, cfg.Now), tenants: newTenantIDs(cfg.Tenants, cfg.Now),
		counts: signInCounts{now: cfg.Now, logger: cfg.Logger},
	}, nil
}

// Authenticate says who presents the credentials. ErrUnauthenticated: nobody
// known, or one who is suspended; ErrUnavailable: that cannot be known now; a
// *TooManyFailuresError: the address has failed too often to be given what
// costs, the check of a signature. API keys and tokens that were verified
// before cost little and pass all the same, so that nobody can lock out those
// who share his address.
func (s *SignIn) Authenticate(ctx context.Context, c Credentials) (Principal, error) {
	method, authenticate := byKey, s.byKey
	switch {
	case c.Bearer.IsZero():
		method, authenticate = byCertificate, s.byCertificate
	case s.tokens != nil && !strings.HasPrefix(c.Bearer.Reveal(), credentialPrefix):
		method, authenticate = byToken, s.byToken
	}
	p, err := authenticate(ctx, c)
	s.counts.note(method, err)
	return p, err
}

func (s *SignIn) byKey(_ context.Context, c Credentials) (Principal, error) {
	p, err := s.keys.Authenticate(c.Bearer)
	return p, s.charged(c, err)
}

func (s *SignIn) byCertificate(ctx context.Context, c Credentials) (Principal, error) {
	identity, ok := s.rules.identify(c.URI)
	if !ok {
		return Principal{}, s.charged(c, ErrUnauthenticated)
	}
	p, err := s.principal(ctx, identity)
	return p, s.charged(c, err)
}

func (s *SignIn) byToken(ctx context.Context, c Credentials) (Principal, error) {
	if identity, ok := s.tokens.Recall(c.Bearer); ok {
		return s.principal(ctx, identity)
	}
	if err := s.failures.take(c.Address); err != nil {
		return Principal{}, err
	}
	identity, err := s.tokens.Verify(ctx, c.Bearer)
	if !errors.Is(err, ErrUnauthenticated) {
		s.failures.giveBack(c.Address)
	}
	if err != nil {
		return Principal{}, err
	}
	return s.principal(ctx, identity)
}

// charged counts a failure that cost little against the address.
func (s *SignIn) charged(c Credentials, err error) error {
	if !errors.Is(err, ErrUnauthenticated) {
		return err
	}
	return cmp.Or(s.failures.take(c.Address), err)
}

// principal is an identity in a tenant that is active, not suspended there.
// While suspensions cannot be known, nobody is.
func (s *SignIn) principal(ctx context.Context, id Identity) (Principal, error) {
	if err := s.keys.Ready(); err != nil {
		return Principal{}, err
	}
	tenant, err := s.tenants.find(ctx, id.Tenant)
	if err != nil {
		return Principal{}, err
	}
	if s.keys.Suspended(tenant, id.ID) {
		return Principal{}, ErrUnauthenticated
	}
	return Principal{Tenant: tenant, ID: id.ID, Name: id.Name, Roles: id.Roles, Authentication: id.Authentication, Claims: id.Claims}, nil
}

// CanonicalRoles returns roles once each in their canonical order. An
// *InputError refuses none and unknown ones.
func CanonicalRoles(roles []Role) ([]Role, error) { return canonicalRoles(roles) }

// isPrincipalID reports the shape of every principal's id: no # or /.
func isPrincipalID(id string) bool {
	kind, _, ok := strings.Cut(id, "_")
	return ok && slices.Contains([]string{"key", "oidc", "mtls"}, kind) && len(id) <= maxPrincipalID &&
		!strings.ContainsFunc(id, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:|~-", r)
		})
}

// maxPrincipalID is the longest principal's id, in bytes.
const maxPrincipalID = 256
