package authz

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

// ErrUnauthenticated says that a credential opens nothing: the same for one
// that is malformed, unknown, wrong, expired or revoked.
var ErrUnauthenticated = errors.New("authz: unauthenticated")

const (
	// apiKey is Principal.Authentication of those who come with an API key.
	apiKey = "api_key"
	// keyPrincipal and a key's id are its principal's.
	keyPrincipal = "key_"
)

// KeysConfig configures Keys; Tables, Now and Random are required.
type KeysConfig struct {
	Tables    []RegionControl // the local one first
	Now       func() time.Time
	Random    io.Reader     // cryptographic
	PollEvery time.Duration // 0: two seconds
	Logger    zerolog.Logger
}

// Keys makes, revokes and checks API keys. It authenticates from memory: a
// snapshot of the local table's keys and revocations, which Run keeps fresh.
// All methods are safe for concurrent use.
type Keys struct {
	cfg  KeysConfig
	hash func(id, secretText string) digest // hashCredential; tests count its calls

	// mu is held while the table is read and while a new snapshot is stored, so
	// that a listing begun before a Create or Revoke cannot undo it.
	mu       sync.Mutex
	told     map[string]struct{}      // unreadable items that are logged; guarded by mu
	snapshot atomic.Pointer[snapshot] // nil until the first Refresh
	poll     poller
	noted    time.Time // when uses were last written; Run's alone
}

// NewKey is what a key is asked for with.
type NewKey struct {
	Name    string    // 1 to 128 bytes of printable UTF-8
	Roles   []Role    // of Roles()
	Expires time.Time // zero: never
	// Limits are the key's own; nil: the deployment's for every principal.
	Limits *PrincipalLimits
}

// KeyInfo describes a key without its secret. Times are Unix milliseconds, 0: never.
type KeyInfo struct {
	ID, Name                  string
	Roles                     []Role
	Created, Expires, Revoked int64
	Suspended                 int64            // since when
	LastUsed                  int64            // the hour's beginning, in any region that told this one
	Limits                    *PrincipalLimits // the key's own, if any
}

// NewKeys returns Keys that know none yet: Refresh reads them.
func NewKeys(cfg KeysConfig) *Keys {
	k := &Keys{cfg: cfg, hash: hashCredential, told: map[string]struct{}{}}
	k.poll = poller{
		every: cmp.Or(cfg.PollEvery, defaultPollEvery), refresh: k.polled, logger: cfg.Logger,
		fails: "reading the API keys fails", works: "reading the API keys works again",
	}
	return k
}

// Create makes a key of the tenant and returns its credential, which is shown
// this once: only a hash is stored, in every region's table. The key works
// here at once and elsewhere after a poll. An *InputError refuses the name,
// the roles or the time; nothing was written then.
func (k *Keys) Create(ctx context.Context, tenant string, req NewKey) (id string, cred secret.Text, notReached []string, err error) {
	body, err := k.newKeyBody(tenant, req)
	if err != nil {
		return "", secret.Text{}, nil, err
	}
	id, secretText, err := newCredential(k.cfg.Random)
	if err != nil {
		return "", secret.Text{}, nil, fmt.Errorf("create a key: %w", err)
	}
	hash := k.hash(id, secretText)
	body.Hash = base64.RawURLEncoding.EncodeToString(hash[:])
	notReached, err = insertBody(ctx, k.cfg.Tables, KindKey, id, body)
	if err != nil {
		return "", secret.Text{}, nil, fmt.Errorf("create a key: %w", err)
	}
	k.learn(func(s *snapshot) { s.keys[id] = newKnownKey(id, body, hash) })
	return id, credential(id, secretText), notReached, nil
}

func (k *Keys) newKeyBody(tenant string, req NewKey) (keyBody, error) {
	now := k.cfg.Now()
	roles, err := canonicalRoles(req.Roles)
	if err == nil {
		err = checkName(req.Name)
	}
	if err == nil && !req.Expires.IsZero() && !req.Expires.After(now) {
		err = &InputError{"bad_expiry", "a key must expire in the future"}
	}
	if err == nil && tenant == "" {
		err = &InputError{"bad_tenant", "a key needs a tenant"}
	}
	if err == nil && req.Limits != nil {
		err = req.Limits.Validate()
	}
	body := keyBody{
		Version: bodyVersion, Tenant: tenant, Name: req.Name, Roles: roles, Created: now.UnixMilli(), Budget: newBudgetBody(req.Limits),
	}
	if !req.Expires.IsZero() {
		body.Expires = req.Expires.UnixMilli()
	}
	return body, err
}

// List returns the tenant's keys as the local table has them now, oldest
// first; revoked and expired ones too. A rotated key expires when its overlap ends.
func (k *Keys) List(ctx context.Context, tenant string) ([]KeyInfo, error) {
	if err := k.Refresh(ctx); err != nil {
		return nil, err
	}
	uses, err := k.lastUses(ctx)
	if err != nil {
		return nil, fmt.Errorf("read last uses: %w", err)
	}
	s := k.snapshot.Load()
	var infos []KeyInfo
	for id, key := range s.keys {
		if key.readable && key.principal.Tenant == tenant {
			infos = append(infos, KeyInfo{
				ID: id, Name: key.principal.Name, Roles: slices.Clone(key.principal.Roles),
				Created: key.created, Expires: s.ends(id, key), Revoked: s.revoked[id].at, Limits: key.principal.Limits,
				Suspended: s.suspended.since(subject{tenant, key.principal.ID}), LastUsed: uses[id],
			})
		}
	}
	slices.SortFunc(infos, func(a, b KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	return infos, nil
}

// Revoke ends a key for good: here at once, and on every instance whose
// region was reached within five seconds. Revoking again is success and
// reaches the regions that were not. A key that is unknown, or another
// tenant's, is ErrNotFound.
func (k *Keys) Revoke(ctx context.Context, tenant, id string) (notReached []string, err error) {
	if !isID(id) {
		return nil, ErrNotFound
	}
	revocation, err := k.revocationOf(ctx, tenant, id)
	if err != nil {
		return nil, fmt.Errorf("revoke a key: %w", err)
	}
	notReached, err = InsertEverywhere(ctx, k.cfg.Tables, revocation)
	if errors.Is(err, ErrExists) {
		// Another instance was faster; the regions that it missed are its answer's.
		notReached, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("revoke a key: %w", err)
	}
	k.learn(func(s *snapshot) { s.revoked[id] = newKnownRevocation(revocation.Body) })
	return notReached, nil
}

// revocationOf is the revocation to write for a key: the one that the local
// table has already, or a new one.
func (k *Keys) revocationOf(ctx context.Context, tenant, id string) (Item, error) {
	local := k.cfg.Tables[0].Control
	item, err := local.Get(ctx, KindKey, id)
	if err != nil {
		return Item{}, err
	}
	key, _, err := decodeKeyBody(item.Body)
	if err != nil {
		return Item{}, err
	}
	if key.Tenant != tenant {
		return Item{}, ErrNotFound
	}
	item, err = local.Get(ctx, KindRevocation, id)
	if !errors.Is(err, ErrNotFound) {
		return item, err
	}
	b, err := encodeBody(revocationBody{bodyVersion, tenant, k.cfg.Now().UnixMilli()})
	return Item{KindRevocation, id, b}, err
}

// Authenticate says who holds the credential, or ErrUnauthenticated; while
// the keys were not read for too long, ErrUnavailable. It compares in constant
// time and does the same work for a known and an unknown id. The Principal's
// Roles are shared: they must not be changed.
func (k *Keys) Authenticate(cred secret.Text) (Principal, error) {
	s := k.snapshot.Load()
	if s == nil || k.poll.stale.Load() {
		return Principal{}, ErrUnavailable
	}
	id, secretText, ok := parseCredential(cred.Reveal())
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	key, known := s.keys[id]
	if !known {
		key = s.nobody
	}
	now := k.cfg.Now()
	if refused := s.refuses(id, key, now.UnixMilli()); !key.proves(k.hash(id, secretText)) || refused {
		return Principal{}, ErrUnauthenticated
	}
	key.use(now)
	return key.principal, nil
}
