package crypto

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"piivault/internal/secret"
)

// Sentinels of the ring; see also those of KMS.
var (
	// ErrTooFewCopies: fewer regions than min_copies could wrap a data key.
	ErrTooFewCopies = errors.New("crypto: too few regions can wrap a data key")
	// ErrNoCopy: no region of the ring has a copy of the message's data key.
	ErrNoCopy = errors.New("crypto: no key copy for this ring")
	// ErrNothingToAdd: a rewrap could not add a copy.
	ErrNothingToAdd = errors.New("crypto: no key copy to add")
)

// The encryption context of every data key, opaque because CloudTrail shows
// it. The keys sort as a message must list them.
const (
	contextKey    = "pv-key"
	contextTenant = "pv-tenant"
	contextType   = "pv-type"

	// Types that no configured type can be called: theirs match [a-z][a-z0-9_]*.
	tenantSecretType = "!tenant-secret"
	probeType        = "!probe"

	dataKeyIDSize = 16
)

// dataKey is a data key with its copies. Its owner wipes it.
type dataKey struct {
	id               string
	wrapping         wrapping
	key              secret.Key
	present, missing []string
}

func (k *dataKey) degraded() bool { return len(k.missing) > 0 }

// partition is what a data key may be shared within.
type partition struct{ tenant, typ string }

func (p partition) context(id string) map[string]string {
	return map[string]string{contextKey: id, contextTenant: p.tenant, contextType: p.typ}
}

// serialize writes the context as message-header.md orders it.
func (p partition) serialize(id string) []byte {
	pairs := [...]string{contextKey, id, contextTenant, p.tenant, contextType, p.typ}
	size := 2
	for _, s := range pairs {
		size += 2 + len(s)
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(len(pairs)/2))
	for _, s := range pairs {
		b = appendField16(b, s)
	}
	return b
}

// newDataKey makes a data key in the first region that can, local first, and
// wraps it in all others at once. A region that fails, or that is not tried
// because its breaker is open, has no copy; below minCopies there is no key.
func (r *Ring) newDataKey(ctx context.Context, p partition) (*dataKey, error) {
	var random [dataKeyIDSize]byte
	if _, err := io.ReadFull(r.random, random[:]); err != nil {
		return nil, fmt.Errorf("crypto: draw a data key id: %w", err)
	}
	id := base64.RawURLEncoding.EncodeToString(random[:])
	ec := p.context(id)
	made, at, err := r.generate(ctx, ec)
	if err != nil {
		return nil, err
	}
	copies := make([][]byte, len(r.order))
	copies[at] = made.ciphertext
	if r.mode == Copies {
		r.encryptAll(ctx, made.key, ec, r.order[at+1:], copies) // those before have just failed
	}
	k := &dataKey{id: id, key: made.key}
	k.wrapping.context = p.serialize(id)
	// A caller that gave up gets no key, rather than one with copies missing.
	if err = ctx.Err(); err == nil {
		err = r.collect(k, copies)
	}
	if err != nil {
		made.key.Wipe()
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	return k, nil
}

// generate returns a new data key and the index, in order, of the region that made it.
func (r *Ring) generate(ctx context.Context, ec map[string]string) (dataKeyPair, int, error) {
	cause := ErrUnreachable
	for i, g := range r.order {
		if !g.available() {
			continue
		}
		made, err := g.generate(ctx, ec, false)
		if err == nil {
			return made, i, nil
		}
		if ctx.Err() != nil {
			return dataKeyPair{}, 0, err
		}
		cause = err
	}
	return dataKeyPair{}, 0, fmt.Errorf("%w: %w", ErrTooFewCopies, cause)
}

// encryptAll fills in the copies of the given regions, leaving out those that
// are not to be asked now. Where KMS is remote, all at once.
func (r *Ring) encryptAll(ctx context.Context, key secret.Key, ec map[string]string, regions []*region, copies [][]byte) {
	var wait sync.WaitGroup
	for _, g := range regions {
		if !g.available() {
			continue
		}
		// What went wrong is noted by the region; here it is a missing copy.
		if g.newCall(false).inline {
			copies[g.rank], _ = g.encrypt(ctx, key, ec)
		} else {
			wait.Go(func() { copies[g.rank], _ = g.encrypt(ctx, key, ec) })
		}
	}
	wait.Wait()
}

// collect lists the copies in the ring's order and says who is missing.
func (r *Ring) collect(k *dataKey, copies [][]byte) error {
	k.wrapping.keys = make([]encryptedKey, 0, len(copies))
	for _, g := range r.regions {
		ciphertext := copies[g.rank]
		if ciphertext == nil {
			continue
		}
		e, err := newEncryptedKey(g.key.text, ciphertext)
		if err != nil {
			return err
		}
		k.wrapping.keys = append(k.wrapping.keys, e)
	}
	return r.count(k)
}

// count says which regions the copies serve.
func (r *Ring) count(k *dataKey) error {
	if r.mode == MultiRegion || len(k.wrapping.keys) == len(r.regions) {
		k.present = r.sorted
		return nil
	}
	k.present, k.missing = r.split(k.wrapping.keys)
	if len(k.present) < r.minCopies {
		return ErrTooFewCopies
	}
	return nil
}

// keyCopy is a key copy with the name by which its region opens it.
type keyCopy struct {
	arn        string
	ciphertext []byte
}

// copyFor finds the region's copy: under its present key, else under a former one.
func (g *region) copyFor(keys []encryptedKey) (c keyCopy, raw *encryptedKey) {
	if k := copyUnder(keys, g.key); k != nil {
		return keyCopy{g.key.text, k.ciphertext}, k
	}
	for _, former := range g.former {
		if k := copyUnder(keys, former); k != nil {
			return keyCopy{former.text, k.ciphertext}, k
		}
	}
	return keyCopy{}, nil
}

// unwrap opens a copy of the message's data key: the local one; where its KMS
// is unreachable, throttling or timed out, or has no copy, the next region's.
// A local denial is final, whoever else could, unless anyRegion.
func (r *Ring) unwrap(ctx context.Context, m *Message, anyRegion bool) Unwrapped {
	ec := m.Context()
	fault := ErrNoCopy
	for i, g := range r.order {
		c, found := g.copyFor(m.keys)
		final := i == 0 && !anyRegion
		// A denial stands while the region cannot be asked again.
		if final && g.refuses() && (found == nil || !g.available()) {
			return Unwrapped{Err: ErrDenied}
		}
		if found == nil {
			continue
		}
		if !g.available() {
			fault = ErrUnreachable
			continue
		}
		key, err := g.decrypt(ctx, c, ec, false)
		switch {
		case err == nil:
			return Unwrapped{Key: key, Region: g.name}
		case ctx.Err() != nil:
			return Unwrapped{Err: err}
		case errors.Is(err, ErrInvalidCiphertext):
			return Unwrapped{Err: fmt.Errorf("%w: key copy: %w", ErrAuthentication, err)}
		case isDenial(err) && final:
			return Unwrapped{Err: fmt.Errorf("%w: by the local key: %w", ErrDenied, err)}
		case !isDenial(err) || errors.Is(fault, ErrNoCopy):
			fault = err // what may pass outweighs what was decided
		}
	}
	return Unwrapped{Err: fault}
}
