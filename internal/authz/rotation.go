package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"piivault/internal/secret"
)

// MaxOverlap is the longest that a rotated key lives on.
const MaxOverlap = 30 * 24 * time.Hour

// ErrNotActive says that a key is revoked, suspended or over: it has no successor.
var ErrNotActive = errors.New("authz: the key is not active")

// Rotated is a key's successor.
type Rotated struct {
	ID         string
	Credential secret.Text
	Expires    int64 // of the new key, Unix ms; 0: never
	OldEnds    int64 // when the old one ends, Unix ms
	NotReached []string
}

// Rotate makes a key of the same name, roles and limits, and ends the old one
// after the overlap, 0 to MaxOverlap. The new one lives as long from now as
// the old one was made to. The end is in force on every instance whose region
// was reached within five seconds or when the overlap is over, if that is
// later. ErrNotFound: the tenant has no such key; ErrNotActive: it is
// revoked, suspended or over; an *InputError refuses the overlap. A rotation
// that fails leaves the old key as it was, and at most a new one that nobody
// holds; one whose answer was lost may be repeated while the old key lives.
func (k *Keys) Rotate(ctx context.Context, tenant, id string, overlap time.Duration) (Rotated, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return Rotated{}, &InputError{"bad_overlap", "the overlap is 0 to 30 days"}
	}
	key, err := k.activeKey(ctx, tenant, id)
	if err != nil {
		return Rotated{}, fmt.Errorf("rotate a key: %w", err)
	}
	now := k.cfg.Now()
	next := NewKey{Name: key.principal.Name, Roles: key.principal.Roles, Limits: key.principal.Limits}
	if key.expires != 0 {
		next.Expires = now.Add(time.Duration(key.expires-key.created) * time.Millisecond)
	}
	ends := now.Add(overlap).UnixMilli()
	if key.expires != 0 {
		ends = min(ends, key.expires)
	}
	newID, credential, lacksKey, err := k.Create(ctx, tenant, next)
	if err != nil {
		return Rotated{}, err
	}
	lacksEnd, err := insertBody(ctx, k.cfg.Tables, KindRetirement, id+"#"+newID, retirementBody{bodyVersion, ends})
	if err != nil {
		return Rotated{}, fmt.Errorf("rotate a key: %w", err)
	}
	k.learn(func(s *snapshot) { s.retire(id, ends) })
	r := Rotated{ID: newID, Credential: credential, OldEnds: ends, NotReached: inEither(k.cfg.Tables, lacksKey, lacksEnd)}
	if !next.Expires.IsZero() {
		r.Expires = next.Expires.UnixMilli()
	}
	return r, nil
}

// activeKey reads the local table and finds a key that opens something now.
func (k *Keys) activeKey(ctx context.Context, tenant, id string) (*knownKey, error) {
	if err := k.Refresh(ctx); err != nil {
		return nil, err
	}
	s := k.snapshot.Load()
	key, known := s.keys[id]
	if !known || !key.readable || key.principal.Tenant != tenant {
		return nil, ErrNotFound
	}
	if s.refuses(id, key, k.cfg.Now().UnixMilli()) {
		return nil, ErrNotActive
	}
	return key, nil
}

// readRetirements says when rotated keys end. One whose body cannot be read
// has ended.
func (s *snapshot) readRetirements(items []Item, unreadable func(Item)) {
	for _, item := range items {
		id, _, _ := strings.Cut(item.ID, "#")
		body, err := decodeRetirementBody(item.Body)
		if err != nil {
			unreadable(item)
		}
		s.retire(id, max(body.Ends, 1))
	}
}

// retire ends a key: the earliest end counts.
func (s *snapshot) retire(id string, ends int64) {
	if known := s.retired[id]; known == 0 || ends < known {
		s.retired[id] = ends
	}
}

// ends is when a key ends by its expiry or its rotation, 0 for never.
func (s *snapshot) ends(id string, key *knownKey) int64 {
	retired := s.retired[id]
	if key.expires == 0 || retired != 0 && retired < key.expires {
		return retired
	}
	return key.expires
}

// refuses reports that a key opens nothing at a time: it is revoked, suspended or over.
func (s *snapshot) refuses(id string, key *knownKey, now int64) bool {
	_, revoked := s.revoked[id]
	ends := s.ends(id, key)
	return revoked || ends != 0 && now >= ends || len(s.suspended[subject{key.principal.Tenant, key.principal.ID}]) > 0
}
