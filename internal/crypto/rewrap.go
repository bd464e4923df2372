package crypto

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"piivault/internal/secret"
)

// errCopyLost guards repair's promise; it cannot happen.
var errCopyLost = errors.New("crypto: a rewrap would lose a key copy")

// Rewrap adds the copies that a message lacks in this ring: the data key, its
// context and, byte for byte, every copy under a present key of the ring stay;
// copies under keys that have left it go. The result is a new message under a
// fresh message id: a header is never tagged twice. It unwraps as a reveal
// does (a tenant secret: with any region's copy), and never sees a bound value.
//
// ErrNothingToAdd: no copy could be added, and there was none to drop from an
// otherwise complete message; the caller keeps what it has.
func (s *Sealer) Rewrap(ctx context.Context, message []byte) (Sealed, error) {
	m, err := Parse(message)
	if err != nil {
		return Sealed{}, err
	}
	p := partition{string(m.lookup(contextTenant)), string(m.lookup(contextType))}
	if !m.belongs(p) {
		return Sealed{}, fmt.Errorf("%w: encryption context", ErrAuthentication)
	}
	before, missing := s.ring.Copies(m)
	if len(missing) == 0 && !s.ring.hasStranger(m) {
		return Sealed{}, ErrNothingToAdd
	}
	u := s.ring.unwrap(ctx, m, p.typ == tenantSecretType)
	if u.Err != nil {
		return Sealed{}, u.Err
	}
	defer u.Key.Wipe()
	content, err := m.open(u.Key)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(content)
	k, err := s.ring.extend(ctx, m, u.Key)
	if err != nil {
		return Sealed{}, err
	}
	if !containsAll(k.present, before) {
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

// extend lists the copies of the message's data key that the ring still has
// keys for, in its order, with new ones where there were none.
func (r *Ring) extend(ctx context.Context, m *Message, key secret.Key) (*dataKey, error) {
	k := &dataKey{id: m.DataKey(), key: key}
	k.wrapping.context = m.context
	added := make([][]byte, len(r.order))
	switch {
	case r.mode == Copies:
		for _, g := range r.regions {
			if m.copyOf(g) != nil {
				added[g.rank] = []byte{} // present: not to be asked
			}
		}
		r.encryptAll(ctx, key, m.Context(), added, 0)
	case m.copyOf(r.order[0]) == nil: // which serves every region
		r.encryptOne(ctx, key, m.Context(), added)
	}
	for _, g := range r.regions {
		if err := k.keepOrAdd(m.copyOf(g), g, added[g.rank]); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("crypto: rewrap: %w", err)
	}
	return k, r.worthwhile(k, m)
}

// encryptOne makes the one copy of a multi-Region ring.
func (r *Ring) encryptOne(ctx context.Context, key secret.Key, ec map[string]string, added [][]byte) {
	for _, g := range r.order {
		if !g.available() {
			continue
		}
		if c, err := g.encrypt(ctx, key, ec); err == nil {
			added[g.rank] = c
			return
		}
	}
}

// copyOf is the copy under the region's present key, nil where there is none.
func (m *Message) copyOf(g *region) *encryptedKey {
	i := slices.IndexFunc(m.keys, func(k encryptedKey) bool { return k.isFor(g.key) })
	if i < 0 {
		return nil
	}
	return &m.keys[i]
}

// keepOrAdd lists the copy that the message has for a region, else a new one.
func (k *dataKey) keepOrAdd(has *encryptedKey, g *region, ciphertext []byte) error {
	switch {
	case has != nil:
		// Replicas of a multi-Region key share a copy.
		if !slices.ContainsFunc(k.wrapping.keys, func(e encryptedKey) bool { return string(e.raw) == string(has.raw) }) {
			k.wrapping.keys = append(k.wrapping.keys, *has)
		}
	case len(ciphertext) > 0:
		e, err := newEncryptedKey(g.key.text, ciphertext)
		if err != nil {
			return err
		}
		k.wrapping.keys = append(k.wrapping.keys, e)
	}
	return nil
}

// worthwhile counts the copies, and refuses what is no better than the message.
func (r *Ring) worthwhile(k *dataKey, m *Message) error {
	before, _ := r.Copies(m)
	k.present, k.missing = r.split(func(g *region) bool {
		return slices.ContainsFunc(k.wrapping.keys, func(e encryptedKey) bool { return e.isFor(g.key) })
	})
	if len(k.present) == len(before) && (len(k.missing) > 0 || !r.hasStranger(m)) {
		return ErrNothingToAdd
	}
	return nil
}

// hasStranger reports a copy under a key that is not, or no longer, the ring's.
func (r *Ring) hasStranger(m *Message) bool {
	return slices.ContainsFunc(m.keys, func(k encryptedKey) bool {
		return !slices.ContainsFunc(r.regions, func(g *region) bool { return k.isFor(g.key) })
	})
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(name string) bool { return !slices.Contains(have, name) })
}
