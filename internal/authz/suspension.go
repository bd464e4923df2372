package authz

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxLifts bounds what one reinstatement names, so that its item stays small.
const maxLifts = 64

// subject is a principal of a tenant. Tokens and certificates have no item of
// their own: a suspension may name one that was never here.
type subject struct{ tenant, principal string }

// suspensions of each principal, by their random ids: when each was made, 1
// where that cannot be read. Only those that nothing has lifted.
type suspensions map[subject]map[string]int64

// readSuspensions says what is in force. A suspension's presence suspends,
// even where its body cannot be read; a reinstatement that cannot be read
// lifts nothing. unreadable is told of such items.
func readSuspensions(suspended, reinstated []Item, unreadable func(Item)) suspensions {
	s := suspensions{}
	for _, item := range suspended {
		of, id, ok := parseSuspensionID(item.ID)
		body, err := decodeSuspensionBody(item.Body)
		if !ok || err != nil {
			unreadable(item)
		}
		if ok {
			s.add(of, id, max(body.Suspended, 1))
		}
	}
	for _, item := range reinstated {
		of, _, ok := parseSuspensionID(item.ID)
		body, err := decodeReinstatedBody(item.Body)
		if !ok || err != nil {
			unreadable(item)
			continue
		}
		s.lift(of, body.Lifts)
	}
	return s
}

func (s suspensions) add(of subject, id string, at int64) {
	if s[of] == nil {
		s[of] = map[string]int64{}
	}
	s[of][id] = at
}

func (s suspensions) lift(of subject, ids []string) {
	for _, id := range ids {
		delete(s[of], id)
	}
	if len(s[of]) == 0 {
		delete(s, of)
	}
}

// since is when a principal was suspended, 0 where it is not.
func (s suspensions) since(of subject) (at int64) {
	for _, t := range s[of] {
		if at == 0 || t < at {
			at = t
		}
	}
	return at
}

// clone shares nothing that add and lift change.
func (s suspensions) clone() suspensions {
	c := make(suspensions, len(s))
	for of, ids := range s {
		c[of] = maps.Clone(ids)
	}
	return c
}

func (of subject) itemID(id string) string { return of.tenant + "#" + of.principal + "#" + id }

func parseSuspensionID(itemID string) (of subject, id string, ok bool) {
	parts := strings.Split(itemID, "#")
	if len(parts) != 3 || !isID(parts[2]) {
		return subject{}, "", false
	}
	return subject{parts[0], parts[1]}, parts[2], true
}

// Suspended reports that a principal of a tenant is suspended, as far as is
// known here: see Ready.
func (k *Keys) Suspended(tenant, principal string) bool {
	s := k.snapshot.Load()
	return s != nil && len(s.suspended[subject{tenant, principal}]) > 0
}

// Suspend refuses a principal until it is reinstated: here at once, and on
// every instance whose region was reached within five seconds. id is an API
// key's id, or a principal's as audit entries have it: key_…, oidc_…, mtls_….
// Once more is success and reaches the regions that were not. A key that is
// unknown, or another tenant's, is ErrNotFound.
func (k *Keys) Suspend(ctx context.Context, tenant, id string) (notReached []string, err error) {
	of, err := k.principalOf(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	item, err := k.suspensionOf(ctx, of)
	if err == nil {
		notReached, err = InsertEverywhere(ctx, k.cfg.Tables, item)
	}
	if err != nil {
		return nil, fmt.Errorf("suspend: %w", err)
	}
	_, random, _ := parseSuspensionID(item.ID)
	body, _ := decodeSuspensionBody(item.Body) // an unreadable one counts as well
	k.learn(func(s *snapshot) { s.suspended.add(of, random, max(body.Suspended, 1)) })
	return notReached, nil
}

// suspensionOf is the suspension to write: the one that the local table has
// in force already, or a new one.
func (k *Keys) suspensionOf(ctx context.Context, of subject) (Item, error) {
	inForce := k.snapshot.Load().suspended[of]
	if len(inForce) > 0 {
		first := slices.Sorted(maps.Keys(inForce))[0]
		return k.cfg.Tables[0].Control.Get(ctx, KindSuspension, of.itemID(first))
	}
	random, err := randomBase32(k.cfg.Random, keyIDBytes)
	if err != nil {
		return Item{}, err
	}
	b, err := encodeBody(suspensionBody{bodyVersion, k.cfg.Now().UnixMilli()})
	return Item{KindSuspension, of.itemID(random), b}, err
}

// Reinstate lifts the suspensions of a principal that the local table has: a
// suspension that another region wrote and that has not arrived stays in
// force (design §5). id and errors as of Suspend. Once more is success, and
// reaches the regions that the last reinstatement did not.
func (k *Keys) Reinstate(ctx context.Context, tenant, id string) (notReached []string, err error) {
	of, err := k.principalOf(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	inForce := slices.Sorted(maps.Keys(k.snapshot.Load().suspended[of]))
	if len(inForce) == 0 {
		return k.reinstateAgain(ctx, of)
	}
	for lifts := range slices.Chunk(inForce, maxLifts) {
		random, err := randomBase32(k.cfg.Random, keyIDBytes)
		if err != nil {
			return nil, fmt.Errorf("reinstate: %w", err)
		}
		body := reinstatedBody{bodyVersion, k.cfg.Now().UnixMilli(), lifts}
		missed, err := insertBody(ctx, k.cfg.Tables, KindReinstated, of.itemID(random), body)
		if err != nil {
			return nil, fmt.Errorf("reinstate: %w", err)
		}
		notReached = inEither(k.cfg.Tables, notReached, missed)
		k.learn(func(s *snapshot) { s.suspended.lift(of, lifts) })
	}
	return notReached, nil
}

// reinstateAgain writes the principal's latest reinstatement once more.
func (k *Keys) reinstateAgain(ctx context.Context, of subject) ([]string, error) {
	items, err := listAll(ctx, k.cfg.Tables[0].Control, KindReinstated)
	if err != nil {
		return nil, fmt.Errorf("reinstate: %w", err)
	}
	var latest Item
	var at int64
	for _, item := range items {
		found, _, ok := parseSuspensionID(item.ID)
		if body, err := decodeReinstatedBody(item.Body); ok && err == nil && found == of && body.Reinstated > at {
			latest, at = item, body.Reinstated
		}
	}
	if at == 0 {
		return nil, nil // it never was suspended
	}
	notReached, err := InsertEverywhere(ctx, k.cfg.Tables, latest)
	if err != nil {
		return nil, fmt.Errorf("reinstate: %w", err)
	}
	return notReached, nil
}

// principalOf reads the local table and finds whom id means.
func (k *Keys) principalOf(ctx context.Context, tenant, id string) (subject, error) {
	if isID(id) {
		id = keyPrincipal + id
	}
	if !isPrincipalID(id) {
		return subject{}, ErrNotFound
	}
	if err := k.Refresh(ctx); err != nil {
		return subject{}, err
	}
	if keyID, isKey := strings.CutPrefix(id, keyPrincipal); isKey {
		key, known := k.snapshot.Load().keys[keyID]
		if !known || !key.readable || key.principal.Tenant != tenant {
			return subject{}, ErrNotFound
		}
	}
	return subject{tenant, id}, nil
}
