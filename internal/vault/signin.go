package vault

import (
	"context"
	"errors"
	"fmt"

	"piivault/internal/authz"
)

// Credentials are what a caller presents: an API key, a token or a certificate.
type Credentials = authz.Credentials

// Authenticate turns credentials into a Principal. ErrUnauthenticated: they
// are nobody's, or of one who is revoked or suspended; ErrOverBudget: the
// address has failed too often; ErrUnavailable: revocations, or an issuer's
// keys, cannot be known.
func (v *Vault) Authenticate(ctx context.Context, c Credentials) (Principal, error) {
	p, err := v.SignIn.Authenticate(ctx, c)
	if err == nil {
		return p, nil
	}
	var many *authz.TooManyFailuresError
	switch {
	case errors.As(err, &many):
		return Principal{}, &Error{
			Kind: ErrOverBudget, Code: "too_many_failures", RetryAfter: many.RetryAfter,
			Message: "Too many sign-ins from this address failed; this one was not looked at.",
		}
	case errors.Is(err, authz.ErrUnauthenticated):
		return Principal{}, &Error{Kind: ErrUnauthenticated, Code: "unauthenticated", Message: "The credential is missing, unknown, expired or revoked."}
	}
	return Principal{}, unavailable("unavailable", err)
}

// setSignIn is the default.
func (c *Config) setSignIn() (err error) {
	if c.SignIn == nil {
		c.SignIn, err = authz.NewSignIn(authz.SignInConfig{Keys: c.Keys, Tenants: c.Controls[0].Control, Now: c.Now, Logger: c.Logger})
	}
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	return nil
}
