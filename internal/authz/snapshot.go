package authz

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

const (
	defaultPollEvery = 2 * time.Second
	// staleAfter is how old the keys may be while Run polls: an instance that
	// cannot learn of a revocation for so long serves nobody. Together with
	// the table's strong consistency that is what "in force within five
	// seconds" rests on.
	staleAfter = 5 * time.Second
)

// maxTold bounds the items that are known to be logged.
const maxTold = 1000

// snapshot is what the local table held when it was read; immutable once stored.
type snapshot struct {
	keys      map[string]*knownKey
	revoked   map[string]knownRevocation
	retired   map[string]int64 // when rotated keys end, Unix ms
	suspended suspensions
	nobody    *knownKey // compared with where an id is unknown
}

// knownKey is one key. An item that cannot be read stays here, not readable,
// so that it is reported once: its hash is zero and proves nothing.
type knownKey struct {
	body             []byte // as stored
	readable         bool
	hash             digest
	principal        Principal
	created, expires int64
	used             atomic.Int64 // the hour of the last use here
	noted            int64        // the one that the table has; Run's alone
}

// knownRevocation is one revocation. The item's presence revokes, even where
// its body cannot be read: at is 1 then, so that nobody takes it for none.
type knownRevocation struct {
	body []byte
	at   int64
}

func newSnapshot() *snapshot {
	return &snapshot{
		keys:      make(map[string]*knownKey),
		revoked:   make(map[string]knownRevocation),
		retired:   make(map[string]int64),
		suspended: make(suspensions),
		nobody:    new(knownKey),
	}
}

func newKnownKey(id string, body keyBody, hash digest) *knownKey {
	return &knownKey{
		readable: true, hash: hash, created: body.Created, expires: body.Expires,
		principal: Principal{
			Tenant: body.Tenant, ID: keyPrincipal + id, Name: body.Name,
			Roles: slices.Clip(body.Roles), Authentication: apiKey, Limits: body.Budget.limits(),
		},
	}
}

func newKnownRevocation(stored []byte) knownRevocation {
	at := int64(1)
	if body, err := decodeRevocationBody(stored); err == nil {
		at = body.Revoked
	}
	return knownRevocation{stored, at}
}

// proves compares in constant time; readable is no secret.
func (key *knownKey) proves(hash digest) bool {
	return subtle.ConstantTimeCompare(key.hash[:], hash[:]) == 1 && key.readable
}

// Run polls the local table until ctx ends, so that a revocation is in force
// within five seconds of being in that table: while polls fail for longer,
// Authenticate answers ErrUnavailable. It also writes when keys were used.
func (k *Keys) Run(ctx context.Context) { k.poll.run(ctx) }

// polled is one poll, and once a minute what was used since.
func (k *Keys) polled(ctx context.Context) error {
	if err := k.Refresh(ctx); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(k.noted) >= noteEvery {
		k.noted = now
		k.noteUses(ctx)
	}
	return nil
}

// Ready is nil while Authenticate can answer, else ErrUnavailable.
func (k *Keys) Ready() error {
	if k.snapshot.Load() == nil || k.poll.stale.Load() {
		return ErrUnavailable
	}
	return nil
}

// Refresh reads the local table once, now. On an error what was known stays.
func (k *Keys) Refresh(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	local := k.cfg.Tables[0].Control
	items := map[Kind][]Item{}
	for _, kind := range []Kind{KindKey, KindRevocation, KindRetirement, KindSuspension, KindReinstated} {
		var err error
		if items[kind], err = listAll(ctx, local, kind); err != nil {
			return fmt.Errorf("read the %ss: %w", kind, err)
		}
	}
	known := k.snapshot.Load()
	if known == nil {
		known = newSnapshot()
	}
	next := newSnapshot()
	for _, item := range items[KindKey] {
		next.keys[item.ID] = k.knownKey(known, item)
	}
	for _, item := range items[KindRevocation] {
		next.revoked[item.ID] = k.knownRevocation(known, item)
	}
	next.readRetirements(items[KindRetirement], k.unreadable)
	next.suspended = readSuspensions(items[KindSuspension], items[KindReinstated], k.unreadable)
	k.snapshot.Store(next)
	return nil
}

// unreadable tells the log, once for each item, of one that fails closed: a
// key is over, a suspension is in force.
func (k *Keys) unreadable(item Item) {
	if _, told := k.told[item.ID]; told || len(k.told) >= maxTold {
		return
	}
	k.told[item.ID] = struct{}{}
	k.cfg.Logger.Error().Str("kind", string(item.Kind)).Str("item", item.ID).Msg("a control item cannot be read and counts against its principal")
}

// knownKey decodes an item unless it was known as it is.
func (k *Keys) knownKey(known *snapshot, item Item) *knownKey {
	if key, ok := known.keys[item.ID]; ok && bytes.Equal(key.body, item.Body) {
		return key
	}
	body, hash, err := decodeKeyBody(item.Body)
	if err != nil {
		k.cfg.Logger.Error().Str("key", item.ID).Msg("an API key cannot be read and opens nothing")
		return &knownKey{body: item.Body}
	}
	key := newKnownKey(item.ID, body, hash)
	key.body = item.Body
	return key
}

func (k *Keys) knownRevocation(known *snapshot, item Item) knownRevocation {
	if r, ok := known.revoked[item.ID]; ok && bytes.Equal(r.body, item.Body) {
		return r
	}
	if _, err := decodeRevocationBody(item.Body); err != nil {
		k.cfg.Logger.Error().Str("key", item.ID).Msg("the revocation of an API key cannot be read and is in force")
	}
	return newKnownRevocation(item.Body)
}

// learn stores a changed copy of the snapshot, where there is one.
func (k *Keys) learn(change func(*snapshot)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.snapshot.Load()
	if known == nil {
		return
	}
	next := &snapshot{maps.Clone(known.keys), maps.Clone(known.revoked), maps.Clone(known.retired), known.suspended.clone(), known.nobody}
	change(next)
	k.snapshot.Store(next)
}
