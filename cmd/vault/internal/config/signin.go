package config

import (
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"time"

	"piivault/internal/authz"
	"piivault/internal/authz/oidc"
)

// SignIn is how callers prove who they are, besides API keys.
type SignIn struct {
	Failures     authz.FailureLimit
	Issuers      []oidc.Issuer           // key oidc
	Certificates []authz.CertificateRule // key mtls
}

func (l *loader) signIn() []field {
	s := &l.c.SignIn
	return []field{
		{"sign_in", true, l.nested([]field{{"failures", true, l.nested([]field{
			{"burst", false, into(&s.Failures.Burst, between(1, 1<<20))},
			{"per_minute", false, into(&s.Failures.PerMinute, between(1, 1<<20))},
		})}})},
		{"oidc", true, func(path string, v *value) error { return l.list(path, v, field{nested: true, set: l.issuer}) }},
		{"mtls", true, func(path string, v *value) error { return l.list(path, v, field{nested: true, set: l.certificateRule}) }},
	}
}

func (l *loader) issuer(path string, v *value) error {
	var i oidc.Issuer
	err := l.mapping(path, v, []field{
		{"name", false, into(&i.Name, textOf)},
		{"issuer", false, into(&i.URL, textOf)},
		{"jwks_url", false, into(&i.JWKSURL, textOf)},
		{"audiences", true, l.texts(&i.Audiences, textOf)},
		{"algorithms", true, l.texts(&i.Algorithms, oneOf(oidc.Algorithms()...))},
		{"tenant", false, into(&i.Tenant, textOf)},
		{"tenant_claim", false, into(&i.TenantClaim, textOf)},
		{"grants", true, func(path string, v *value) error {
			return l.list(path, v, field{nested: true, set: func(path string, v *value) error {
				var g oidc.Grant
				err := l.mapping(path, v, []field{
					{"claim", false, into(&g.Claim, textOf)},
					{"value", false, into(&g.Value, textOf)},
					{"roles", true, texts(l, &g.Roles, oneOf(authz.Roles()...))},
				})
				i.Grants = append(i.Grants, g)
				return err
			}})
		}},
		{"claims", true, func(path string, v *value) error {
			return l.list(path, v, field{nested: true, set: func(path string, v *value) error {
				var c oidc.Claim
				err := l.mapping(path, v, []field{
					{"name", false, into(&c.Name, textOf)},
					{"claim", false, into(&c.Claim, textOf)},
					{"type", false, into(&c.Type, oneOf(authz.AllClaimTypes()...))},
				})
				i.Claims = append(i.Claims, c)
				return err
			}})
		}},
		{"max_lifetime", false, into(&i.MaxLifetime, durationOf(time.Minute, 30*24*time.Hour))},
		{"refresh", false, into(&i.Refresh, durationOf(time.Minute, 24*time.Hour))},
		{"keep_for", false, into(&i.KeepFor, durationOf(time.Minute, 30*24*time.Hour))},
	})
	l.c.SignIn.Issuers = append(l.c.SignIn.Issuers, i)
	return err
}

func (l *loader) certificateRule(path string, v *value) error {
	var r authz.CertificateRule
	err := l.mapping(path, v, []field{
		{"uri", false, into(&r.URI, textOf)},
		{"tenant", false, into(&r.Tenant, textOf)},
		{"roles", true, texts(l, &r.Roles, oneOf(authz.Roles()...))},
	})
	l.c.SignIn.Certificates = append(l.c.SignIn.Certificates, r)
	return err
}

func (l *loader) texts(target *[]string, read func(string) (string, error)) fieldSetter {
	return texts(l, target, read)
}

// texts makes the setter of a list of scalars.
func texts[T any](l *loader, target *[]T, read func(string) (T, error)) fieldSetter {
	return func(path string, v *value) error {
		return l.list(path, v, field{set: func(_ string, v *value) error {
			var text T
			err := into(&text, read)("", v)
			*target = append(*target, text)
			return err
		}})
	}
}

// signsIn checks issuers, certificates and what they need of the listener.
func (l *loader) signsIn() error {
	c := l.c
	switch {
	case c.TLS.ClientCA != "" && c.TLS.Cert == "":
		return l.mistake("tls.client_ca", "client certificates need tls.cert and tls.key, too")
	case c.TLS.ClientAuth == tls.RequireAndVerifyClientCert && c.TLS.ClientCA == "":
		return l.mistake("tls.client_auth", "client_auth needs client_ca: who signs the certificates")
	case len(c.SignIn.Certificates) > 0 && c.TLS.ClientCA == "":
		return l.mistake("mtls", "mtls needs tls.client_ca: who signs the certificates")
	}
	for i, issuer := range c.SignIn.Issuers {
		if err := issuer.Validate(); err != nil {
			return l.mistake("oidc."+strconv.Itoa(i), strings.TrimPrefix(err.Error(), "oidc: "))
		}
	}
	if _, err := oidc.New(oidc.Config{Issuers: c.SignIn.Issuers}); err != nil {
		return l.mistake("oidc", strings.TrimPrefix(err.Error(), "oidc: "))
	}
	for i, r := range c.SignIn.Certificates {
		if err := r.Validate(); err != nil {
			return l.mistake("mtls."+strconv.Itoa(i), inputMessage(err))
		}
	}
	if _, err := authz.NewSignIn(authz.SignInConfig{Certificates: c.SignIn.Certificates}); err != nil {
		return l.mistake("mtls", inputMessage(err))
	}
	return nil
}

func inputMessage(err error) string {
	if input, ok := errors.AsType[*authz.InputError](err); ok {
		return input.Message
	}
	return "this cannot be used"
}

// clientAuthOf: whether a client without a certificate may connect. One whose
// certificate is wrong never may.
func clientAuthOf(text string) (tls.ClientAuthType, error) {
	text, err := oneOf("request", "require")(text)
	if text == "require" {
		return tls.RequireAndVerifyClientCert, err
	}
	return tls.VerifyClientCertIfGiven, err
}
