package crypto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"piivault/internal/secret"
)

// errCopyLost guards repair's promise; it cannot happen.
var errCopyLost = errors.New("crypto: a rewrap would lose a key copy")

// Rewrap adds the copies that a message lacks in this ring. The data key, its
// context and, byte for byte, every copy under a present key of its tenant's stay.
// Copies under other keys, former ones and those of regions that have left, go
// when every region has its own and not before, as far as a message has room
// for them: what opened in a region opens there still. The result is a new
// message under a fresh message id: a header is never tagged twice. It unwraps
// as a reveal does (a tenant secret: with any region's copy), and never sees a
// bound value.
//
// ErrNothingToAdd: no copy could be added, and there was none to drop from an
// otherwise complete message; the caller keeps what it has. (After a ring
// change its record may then take the ring's epoch, and what Copies says is
// missing, with the same message.)
func (s *Sealer) Rewrap(ctx context.Context, message []byte) (Sealed, error) {
	m, err := Parse(message)
	if err != nil {
		return Sealed{}, err
	}
	p := partition{string(m.lookup(contextTenant)), string(m.lookup(contextType))}
	if !m.belongs(p) {
		return Sealed{}, fmt.Errorf("%w: encryption context", ErrAuthentication)
	}
	keys := s.ring.For(p.tenant)
	if _, missing := keys.Copies(m); len(missing) == 0 && !keys.hasStranger(m) {
		return Sealed{}, ErrNothingToAdd
	}
	u := keys.unwrap(ctx, m, p.typ == tenantSecretType)
	if u.Err != nil {
		return Sealed{}, u.Err
	}
	defer u.Key.Wipe()
	content, err := m.open(u.Key)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(content)
	k, err := keys.extend(ctx, m, u.Key)
	if err != nil {
		return Sealed{}, err
	}
	if keys.loses(m.keys, k.wrapping.keys) {
		return Sealed{}, errCopyLost
	}
	return s.reseal(content, k)
}

func (s *Sealer) reseal(content []byte, k *dataKey) (Sealed, error) {
	d, err := newDraft(k.key, k.wrapping, len(content), s.random)
	if err != nil {
		return Sealed{}, err
	}
	copy(d.plaintext(), content)
	return s.ring.sealed(d.seal(), k), nil
}

// extend lists the copies under the ring's present keys, in its order, with new
// ones where there were none, then what must not be dropped yet.
func (ks *Keyset) extend(ctx context.Context, m *Message, key secret.Key) (*dataKey, error) {
	k := &dataKey{id: m.DataKey(), key: key}
	k.wrapping.context = m.context
	c := copying{key: key, ec: m.Context(), made: make([][]byte, len(ks.order))}
	ks.encryptMissing(ctx, m, c)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("crypto: rewrap: %w", err)
	}
	for _, g := range ks.regions {
		if err := k.keepOrAdd(copyUnder(m.keys, g.key), g, c.made[g.rank]); err != nil {
			return nil, err
		}
	}
	k.present, k.missing = ks.split(k.wrapping.keys)
	before, _ := ks.Copies(m)
	if len(k.present) == len(before) && (len(k.missing) > 0 || !ks.hasStranger(m)) {
		return nil, ErrNothingToAdd
	}
	if len(k.missing) > 0 {
		ks.keepOthers(k, m)
	}
	return k, nil
}

// keepOthers keeps the message's copies under other keys: those that a region
// of the ring needs, of which there is always room for one each, before the rest.
func (ks *Keyset) keepOthers(k *dataKey, m *Message) {
	for _, g := range ks.regions {
		if _, has := g.copyFor(m.keys); has != nil && copyUnder(k.wrapping.keys, g.key) == nil {
			k.keep(*has)
		}
	}
	for _, e := range m.keys {
		if len(k.wrapping.keys) < MaxCopies {
			k.keep(e)
		}
	}
}

// encryptMissing makes the copies that the message lacks where it can: all at
// once, or in a multi-Region ring the one that serves every region.
func (ks *Keyset) encryptMissing(ctx context.Context, m *Message, c copying) {
	var lacking []*region
	for _, g := range ks.order {
		if copyUnder(m.keys, g.key) == nil {
			lacking = append(lacking, g)
		}
	}
	if ks.ring.mode == Copies {
		c.ask(ctx, lacking, (*region).available)
		return
	}
	for _, g := range lacking {
		if c.ask(ctx, []*region{g}, (*region).available); c.made[g.rank] != nil {
			return
		}
	}
}

// keepOrAdd lists the copy under a region's present key, else a new one.
func (k *dataKey) keepOrAdd(has *encryptedKey, g *region, made []byte) error {
	switch {
	case has != nil:
		k.keep(*has)
	case made != nil:
		e, err := newEncryptedKey(g.key.text, made)
		if err != nil {
			return err
		}
		k.keep(e)
	}
	return nil
}

// keep lists a copy once: replicas of a multi-Region key share theirs.
func (k *dataKey) keep(e encryptedKey) {
	if !slices.ContainsFunc(k.wrapping.keys, func(other encryptedKey) bool { return bytes.Equal(other.raw, e.raw) }) {
		k.wrapping.keys = append(k.wrapping.keys, e)
	}
}

// loses reports a region that the copies served before and do not serve now.
func (ks *Keyset) loses(before, now []encryptedKey) bool {
	return slices.ContainsFunc(ks.regions, func(g *region) bool {
		_, had := g.copyFor(before)
		_, has := g.copyFor(now)
		return had != nil && has == nil
	})
}

// hasStranger reports a copy under a key that is not, or no longer, the ring's.
func (ks *Keyset) hasStranger(m *Message) bool {
	return slices.ContainsFunc(m.keys, func(k encryptedKey) bool {
		return !slices.ContainsFunc(ks.regions, func(g *region) bool { return k.isFor(g.key) })
	})
}
