package vault

import (
	"context"
	"errors"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
)

// CreateKey makes an API key of the caller's own tenant. The credential is in
// the answer and nowhere else. NotReached names regions whose table could not
// be written: they learn of the key by replication.
func (v *Vault) CreateKey(ctx context.Context, c Call, req NewKeyRequest) (NewKeyResult, error) {
	if err := v.admin(ctx, c, actionCreateKey); err != nil {
		return NewKeyResult{}, err
	}
	key := authz.NewKey{Name: req.Name, Roles: req.Roles, Limits: v.limits(req.Budget)}
	if req.Expires != "" {
		at, err := time.Parse(time.RFC3339, req.Expires)
		if err != nil || !at.After(v.Now()) {
			return NewKeyResult{}, invalid("invalid_expires_at", "expires_at must be an RFC 3339 time in the future.")
		}
		key.Expires = at
	}
	id, credential, missed, err := v.Keys.Create(ctx, c.Principal.Tenant, key)
	if input := (*authz.InputError)(nil); errors.As(err, &input) {
		return NewKeyResult{}, invalid(keyCode(input.Code), "The key cannot be made: "+input.Message+".")
	}
	if err != nil {
		return NewKeyResult{}, unavailable("unavailable", err)
	}
	return NewKeyResult{ID: id, Key: credential, NotReached: missed}, nil
}

// limits are a key's own, completed by the deployment's; nil for none.
func (v *Vault) limits(b *KeyBudget) *authz.PrincipalLimits {
	if b == nil {
		return nil
	}
	l := v.Budgets.Limits().Principal
	for _, k := range []struct{ own, of *Limit }{
		{b.Plain, &l.Plain}, {b.Masked, &l.Masked}, {b.Misses, &l.Misses}, {b.Guesses, &l.Guesses}, {b.Subjects, &l.Subjects},
	} {
		if k.own != nil {
			*k.of = *k.own
		}
	}
	return &l
}

// keyCode is the contract's code for what authz refuses about a key.
func keyCode(code string) string {
	switch code {
	case "no_roles", "unknown_role":
		return "invalid_roles"
	case "bad_expiry":
		return "invalid_expires_at"
	case "bad_budget":
		return "invalid_budget"
	default:
		return "invalid_name"
	}
}

// ListKeys lists the API keys of the caller's tenant, without their secrets.
func (v *Vault) ListKeys(ctx context.Context, c Call) ([]KeyInfo, error) {
	if err := v.admin(ctx, c, actionListKeys); err != nil {
		return nil, err
	}
	keys, err := v.Keys.List(ctx, c.Principal.Tenant)
	if err != nil {
		return nil, unavailable("unavailable", err)
	}
	return keys, nil
}

// RevokeKey ends an API key for good. It is in force here at once and on every
// other instance at its next poll; NotReached names regions that will learn of
// it by replication only.
func (v *Vault) RevokeKey(ctx context.Context, c Call, id string) (RevokeResult, error) {
	if err := v.admin(ctx, c, actionRevokeKey); err != nil {
		return RevokeResult{}, err
	}
	missed, err := v.Keys.Revoke(ctx, c.Principal.Tenant, id)
	return RevokeResult{NotReached: missed}, keyError(err)
}

// RotateKey replaces an API key by one of the same name, roles and budget; the
// old one ends after the overlap.
func (v *Vault) RotateKey(ctx context.Context, c Call, id string, overlap time.Duration) (RotateKeyResult, error) {
	if err := v.admin(ctx, c, actionRotateKey); err != nil {
		return RotateKeyResult{}, err
	}
	r, err := v.Keys.Rotate(ctx, c.Principal.Tenant, id, overlap)
	if errors.Is(err, authz.ErrNotActive) {
		return RotateKeyResult{}, &Error{Kind: ErrConflict, Code: "key_not_active", Message: "The key is revoked, suspended or over: it has no successor."}
	}
	if input := (*authz.InputError)(nil); errors.As(err, &input) {
		return RotateKeyResult{}, invalid("invalid_overlap", "overlap_seconds must be 0 to 2592000.")
	}
	if err := keyError(err); err != nil {
		return RotateKeyResult{}, err
	}
	return RotateKeyResult{ID: r.ID, Key: r.Credential, Expires: r.Expires, OldExpires: r.OldEnds, NotReached: r.NotReached}, nil
}

// SuspendKey refuses a key, or another principal of the caller's tenant, until
// ReinstateKey. NotReached as of RevokeKey.
func (v *Vault) SuspendKey(ctx context.Context, c Call, id string) (RevokeResult, error) {
	if err := v.admin(ctx, c, actionSuspend); err != nil {
		return RevokeResult{}, err
	}
	missed, err := v.Keys.Suspend(ctx, c.Principal.Tenant, id)
	return RevokeResult{NotReached: missed}, keyError(err)
}

// ReinstateKey lifts the suspensions of a principal that this region knows of.
func (v *Vault) ReinstateKey(ctx context.Context, c Call, id string) (RevokeResult, error) {
	if err := v.admin(ctx, c, actionReinstate); err != nil {
		return RevokeResult{}, err
	}
	missed, err := v.Keys.Reinstate(ctx, c.Principal.Tenant, id)
	return RevokeResult{NotReached: missed}, keyError(err)
}

// keyError is what authz says of a key that was named.
func keyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, authz.ErrNotFound):
		return &Error{Kind: ErrNotFound, Code: "not_found", Message: "There is no such key."}
	}
	return unavailable("unavailable", err)
}

// admin allows and audits an administrative action before it is done.
func (v *Vault) admin(ctx context.Context, c Call, action string) error {
	if err := v.allow(ctx, c, authz.ActionAdmin); err != nil {
		return err
	}
	return v.permitted(ctx, c, authz.ActionAdmin, action)
}

// permitted decides an action that concerns no record, and audits it.
func (v *Vault) permitted(ctx context.Context, c Call, action authz.Action, label string) error {
	d := v.Policies.Current().Decide(c.Principal, authz.Request{Action: action, Time: v.Now().Unix()})
	e := v.entry(c, label, audit.Authorized)
	decided(&e, d)
	if !d.Allowed {
		e.Outcome = audit.Denied
	}
	if _, err := v.note(ctx, e); err != nil {
		return err
	}
	if !d.Allowed {
		return forbidden()
	}
	return nil
}
