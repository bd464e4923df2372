package crypto

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"piivault/internal/secret"
)

// maxConcurrent bounds the KMS calls of one batch that are under way at once.
const maxConcurrent = 64

// Value is one value to seal. Plaintext stays the caller's to wipe.
type Value struct {
	Place     Place
	Plaintext secret.Plaintext
	Token     secret.Text // binds the value: it opens with this token only. Zero: not bound
	Policy    Policy
}

// Sealed is a value at rest. Its slices are shared: they are not to be changed.
type Sealed struct {
	Message          []byte
	DataKey          string   // pv-key, as in the log of every KMS
	Present, Missing []string // regions with and without a key copy; sorted, Missing nil if none is
	RingEpoch        uint64
}

// Unwrapped is a message's data key, the caller's to wipe, or why there is none.
type Unwrapped struct {
	Key    secret.Key
	Region string // whose copy it was
	Err    error
}

// Sealer seals values into messages and opens them. It is safe for concurrent use.
type Sealer struct {
	ring   *Ring
	now    func() time.Time
	random io.Reader
	reuse  reuse
	ahead  *prefetch // nil: no keys are made ahead
}

// NewSealer seals under the ring's keys. A nil now is time.Now; a nil random
// is crypto/rand, and any other must be safe for concurrent use.
func NewSealer(ring *Ring, now func() time.Time, random io.Reader) *Sealer {
	if now == nil {
		now = time.Now
	}
	if random == nil {
		random = rand.Reader
	}
	return &Sealer{ring: ring, now: now, random: random}
}

// Close wipes the data keys kept for reuse; those made ahead are gone when Run
// returns. The sealer is usable afterwards.
func (s *Sealer) Close() { s.reuse.clear() }

// Seal seals a batch, all of it or nothing, in the order given. ErrTooFewCopies:
// fewer than min_copies regions can wrap a key now; it may pass.
func (s *Sealer) Seal(ctx context.Context, values []Value) ([]Sealed, error) {
	for _, v := range values {
		if err := v.check(); err != nil {
			return nil, err
		}
	}
	b := newBatch(s, values)
	defer b.finish()
	if err := b.provide(ctx); err != nil {
		return nil, err
	}
	sealed := make([]Sealed, len(values))
	for i, v := range values {
		message, err := s.seal(v, b.keys[i])
		if err != nil {
			return nil, err
		}
		sealed[i] = s.ring.sealed(message, b.keys[i])
	}
	return sealed, nil
}

func (v Value) check() error {
	if innerSize(v.Place, v.Plaintext.Len(), !v.Token.IsZero()) > MaxMessage {
		return ErrTooLarge
	}
	return v.Place.check()
}

func (r *Ring) sealed(message []byte, k *dataKey) Sealed {
	return Sealed{Message: message, DataKey: k.id, Present: k.present, Missing: k.missing, RingEpoch: r.epoch}
}

func (s *Sealer) seal(v Value, k *dataKey) ([]byte, error) {
	d, err := newDraft(k.key, k.wrapping, innerSize(v.Place, v.Plaintext.Len(), !v.Token.IsZero()), s.random)
	if err != nil {
		return nil, err
	}
	if err := sealInner(d.plaintext(), v, s.random); err != nil {
		d.wipe()
		return nil, err
	}
	return d.seal(), nil
}

// Unwrap opens the data key of each message of a tenant's, in the order given:
// with the local region's copy, or the next region's where that KMS is
// unreachable, throttling or timed out. ErrDenied: the local key refuses,
// whoever else would not; ErrUnreachable and ErrThrottled may pass; ErrNoCopy:
// repair has work to do; ErrAuthentication: the copy is not for this context,
// or the message another tenant's, whose keys are not asked. Messages that
// share a data key cost one KMS call together.
func (s *Sealer) Unwrap(ctx context.Context, tenant string, messages []*Message) []Unwrapped {
	if len(messages) == 1 {
		return []Unwrapped{s.ring.unwrap(ctx, tenant, messages[0], false)}
	}
	out := make([]Unwrapped, len(messages))
	first := make(map[string]int, len(messages))
	leaders := make([]int, 0, len(messages))
	for i, m := range messages {
		if _, ok := first[string(m.wrapping)]; !ok {
			first[string(m.wrapping)] = i
			leaders = append(leaders, i)
		}
	}
	_ = s.ring.each(len(leaders), func(n int) error {
		i := leaders[n]
		out[i] = s.ring.unwrap(ctx, tenant, messages[i], false)
		return nil
	})
	for i, m := range messages {
		if leader := first[string(m.wrapping)]; leader != i {
			out[i] = out[leader]
			out[i].Key = out[leader].Key.Clone()
		}
	}
	return out
}

// unwrap asks the tenant's keys, and nobody's for a message of another tenant.
func (r *Ring) unwrap(ctx context.Context, tenant string, m *Message, anyRegion bool) Unwrapped {
	if string(m.lookup(contextTenant)) != tenant {
		return Unwrapped{Err: fmt.Errorf("%w: another tenant's message", ErrAuthentication)}
	}
	return r.For(tenant).unwrap(ctx, m, anyRegion)
}

// each runs fn for 0 to n-1: in line where no KMS waits for anything, else
// concurrently. It returns the first error after all have ended.
func (r *Ring) each(n int, fn func(int) error) error {
	if n == 1 || r.prompt() {
		for i := range n {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	}
	var group errgroup.Group
	var next atomic.Int64
	for range min(n, maxConcurrent) { // and not n: a goroutine's stack grows deep once
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := fn(int(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait() //nolint:wrapcheck // fn's own error
}

// Open returns the value of a message under its data key, the caller's to
// wipe. ErrAuthentication: it was not sealed with this key, for this place,
// under this token, or is not what was sealed. A value that is not bound needs
// no token.
func (s *Sealer) Open(key secret.Key, m *Message, place Place, token secret.Text) (secret.Plaintext, error) {
	if !m.belongs(partition{place.Tenant, place.Type}) || place.check() != nil {
		return secret.Plaintext{}, fmt.Errorf("%w: encryption context", ErrAuthentication)
	}
	content, err := m.open(key)
	if err != nil {
		return secret.Plaintext{}, err
	}
	value, err := openInner(content, place, token)
	if err != nil {
		clear(content)
	}
	return value, err
}

// belongs compares the whole encryption context with the one a data key of p has.
func (m *Message) belongs(p partition) bool {
	id := m.lookup(contextKey)
	return len(id) > 0 && string(p.serialize(string(id))) == string(m.context)
}
