package vault

import (
	"context"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
)

// Inspect tells a record's metadata; nothing in the answer is derived from
// the value, and no key is unwrapped. Every item has its own outcome.
func (v *Vault) Inspect(ctx context.Context, c Call, tokens []secret.Text) ([]Inspected, error) {
	if err := v.allow(ctx, c, authz.ActionInspect); err != nil {
		return nil, err
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return nil, err
	}
	l := v.newLookup(c, authz.ActionInspect, len(tokens))
	for i, token := range tokens {
		l.add(i, token, keys)
	}
	if err := l.find(ctx); err != nil {
		return nil, err
	}
	if err := l.spend(ctx, true); err != nil {
		return nil, err
	}
	if _, err := v.note(ctx, l.entries(false)...); err != nil {
		return nil, err
	}
	out := make([]Inspected, len(tokens))
	for i := range l.items {
		out[i] = l.inspect(&l.items[i])
	}
	return out, nil
}

func (l *lookup) inspect(s *sought) Inspected {
	if s.outcome != audit.Authorized {
		return Inspected{Err: s.refusal()}
	}
	in := Inspected{
		Type: s.record.Type, Created: s.record.Created, Expires: s.record.Expires, Generation: s.record.Generation,
		Bound: s.typ.Bound, RingEpoch: s.record.RingEpoch, HomeRegion: s.record.Home,
		DataKey: s.message.DataKey(), DataKeyReused: s.typ.DataKey.Reuse,
	}
	in.Copies.Present, in.Copies.Missing = l.v.Ring.Copies(s.message)
	return in
}
