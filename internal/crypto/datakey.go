package crypto

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
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

func (p partition) compare(o partition) int {
	return cmp.Or(strings.Compare(p.tenant, o.tenant), strings.Compare(p.typ, o.typ))
}

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

// newDataKeyID draws the id of a data key. Who makes several at once draws
// all ids before, in order: a simulation then repeats itself.
func newDataKeyID(random io.Reader) (string, error) {
	var id [dataKeyIDSize]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("crypto: draw a data key id: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(id[:]), nil
}

// newDataKey makes a data key in the first region that can, local first, and
// wraps it in all others at once. A region that fails, or that is not tried
// because its breaker is open, has no copy; below minCopies there is no key.
func (ks *Keyset) newDataKey(ctx context.Context, id string, p partition) (*dataKey, error) {
	ec := p.context(id)
	made, at, err := ks.generate(ctx, ec)
	if err != nil {
		return nil, err
	}
	c := copying{key: made.key, ec: ec, made: make([][]byte, len(ks.order))}
	c.made[at] = made.ciphertext
	if ks.ring.mode == Copies {
		c.ask(ctx, ks.order[at+1:], (*region).available) // those before have just failed
		if !c.enough(ks.ring.minCopies) {
			c.ask(ctx, ks.order, (*region).recovering) // rather than refuse
		}
	}
	k := &dataKey{id: id, key: made.key}
	k.wrapping.context = p.serialize(id)
	// A caller that gave up gets no key, rather than one with copies missing.
	if err = ctx.Err(); err == nil {
		err = ks.collect(k, c.made)
	}
	if err != nil {
		made.key.Wipe()
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	return k, nil
}

// generate returns a new data key and the index, in order, of the region that
// made it: one that is available, else one that seems to recover.
func (ks *Keyset) generate(ctx context.Context, ec map[string]string) (dataKeyPair, int, error) {
	cause := ErrUnreachable
	for _, ready := range [...]func(*region) bool{(*region).available, (*region).recovering} {
		for i, g := range ks.order {
			if !ready(g) {
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
	}
	return dataKeyPair{}, 0, fmt.Errorf("%w: %w", ErrTooFewCopies, cause)
}

// copying makes the copies of one data key; made are those so far, by rank.
type copying struct {
	key  secret.Key
	ec   map[string]string
	made [][]byte
}

// ask fills in the copies of those regions that are ready and have none.
// Where KMS is remote, all at once.
func (c copying) ask(ctx context.Context, regions []*region, ready func(*region) bool) {
	var wait sync.WaitGroup
	for _, g := range regions {
		if c.made[g.rank] != nil || !ready(g) {
			continue
		}
		// What went wrong is noted by the region; here it is a missing copy.
		if g.prompt() {
			c.made[g.rank], _ = g.encrypt(ctx, c.key, c.ec)
		} else {
			wait.Go(func() { c.made[g.rank], _ = g.encrypt(ctx, c.key, c.ec) })
		}
	}
	wait.Wait()
}

// enough reports that n regions have a copy.
func (c copying) enough(n int) bool {
	for _, m := range c.made {
		if m != nil {
			n--
		}
	}
	return n <= 0
}

// collect lists the copies in the ring's order and says who is missing.
func (ks *Keyset) collect(k *dataKey, copies [][]byte) error {
	k.wrapping.keys = make([]encryptedKey, 0, len(copies))
	for _, g := range ks.regions {
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
	return ks.count(k)
}

// count says which regions the copies serve.
func (ks *Keyset) count(k *dataKey) error {
	if ks.ring.mode == MultiRegion || len(k.wrapping.keys) == len(ks.regions) {
		k.present = ks.ring.sorted
		return nil
	}
	k.present, k.missing = ks.split(k.wrapping.keys)
	if len(k.present) < ks.ring.minCopies {
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
// is unreachable, throttling or timed out, or has no copy, the next region's;
// where none can, that of a region which seems to recover. A local denial is
// final, whoever else could, unless anyRegion.
func (ks *Keyset) unwrap(ctx context.Context, m *Message, anyRegion bool) Unwrapped {
	u, final := ks.unwrapBy(ctx, m, anyRegion, (*region).available)
	if final {
		return u
	}
	if second, final := ks.unwrapBy(ctx, m, anyRegion, (*region).recovering); final {
		return second
	}
	return u
}

// unwrapBy asks the regions that are ready, in order, until one's answer is final.
func (ks *Keyset) unwrapBy(ctx context.Context, m *Message, anyRegion bool, ready func(*region) bool) (u Unwrapped, final bool) {
	ec := m.Context()
	fault := ErrNoCopy
	for i, g := range ks.order {
		c, found := g.copyFor(m.keys)
		binding := i == 0 && !anyRegion
		// A denial stands while the region cannot be asked again.
		if binding && g.refuses() && (found == nil || !g.available()) {
			return Unwrapped{Err: ErrDenied}, true
		}
		if found == nil {
			continue
		}
		if !ready(g) {
			fault = ErrUnreachable
			continue
		}
		key, err := g.decrypt(ctx, c, ec, false)
		switch {
		case err == nil:
			return Unwrapped{Key: key, Region: g.name}, true
		case ctx.Err() != nil:
			return Unwrapped{Err: err}, true
		case errors.Is(err, ErrInvalidCiphertext):
			return Unwrapped{Err: fmt.Errorf("%w: key copy: %w", ErrAuthentication, err)}, true
		case isDenial(err) && binding:
			return Unwrapped{Err: fmt.Errorf("%w: by the local key: %w", ErrDenied, err)}, true
		case !isDenial(err) || errors.Is(fault, ErrNoCopy):
			fault = err // what may pass outweighs what was decided
		}
	}
	return Unwrapped{Err: fault}, false
}
