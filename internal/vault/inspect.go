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
	out, _, err := v.look(ctx, c, tokens)
	return out, err
}

// explainPurpose stands for whatever purpose a reader would give: none at all is refused.
const explainPurpose = "explain"

// Explain is Inspect, and says which default roles may read each value now, if
// they give some purpose and no ticket: policies that ask for more permit more.
func (v *Vault) Explain(ctx context.Context, c Call, tokens []secret.Text) ([]Inspected, error) {
	out, l, err := v.look(ctx, c, tokens)
	for i := range out {
		if out[i].Err == nil {
			out[i].Readers = l.readers(&l.items[i])
		}
	}
	return out, err
}

// readers asks the policies for each default role alone.
func (l *lookup) readers(s *sought) (readers []Reader) {
	for _, role := range authz.Roles() {
		p := Principal{ID: actorInternal, Tenant: l.c.Principal.Tenant, Roles: []Role{role}}
		for _, reveal := range []Reveal{Plain, Masked} {
			d := l.decider.policies.Decide(p, authz.Request{
				Action: authz.ActionDetokenize, Reveal: reveal, Purpose: explainPurpose, Time: l.now.Unix(),
				Type: s.record.Type, Subject: s.record.Subject, AgeDays: (l.now.UnixMilli() - s.record.Created) / dayMillis,
			})
			if d.Allowed {
				readers = append(readers, Reader{role, d.Reveal, d.Policies})
				break
			}
		}
	}
	return readers
}

func (v *Vault) look(ctx context.Context, c Call, tokens []secret.Text) ([]Inspected, *lookup, error) {
	if err := v.allow(ctx, c, authz.ActionInspect); err != nil {
		return nil, nil, err
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	l := v.newLookup(c, authz.ActionInspect, len(tokens))
	for i, token := range tokens {
		l.add(i, token, keys)
	}
	if err := l.find(ctx); err != nil {
		return nil, nil, err
	}
	if err := l.spend(ctx, true); err != nil {
		return nil, nil, err
	}
	if _, err := v.note(ctx, l.entries(false)...); err != nil {
		return nil, nil, err
	}
	out := make([]Inspected, len(tokens))
	for i := range l.items {
		out[i] = l.inspect(&l.items[i])
	}
	return out, l, nil
}

func (l *lookup) inspect(s *sought) Inspected {
	if s.outcome != audit.Authorized {
		return Inspected{Err: s.refusal()}
	}
	in := Inspected{
		Type: s.record.Type, Created: s.record.Created, Expires: s.record.Expires, Generation: s.record.Generation,
		Bound: s.typ.Bound, RingEpoch: s.record.RingEpoch, HomeRegion: s.record.Home,
		DataKey: s.message.DataKey(), DataKeyReused: s.typ.DataKey.Reuse, MaxFields: max(1, s.typ.DataKey.MaxMessages),
	}
	in.Copies.Present, in.Copies.Missing = l.v.Ring.Copies(s.message)
	return in
}
