package authz

import (
	"context"
	"errors"
)

// Sentinels of every Control implementation.
var (
	ErrExists      = errors.New("authz: the item exists")
	ErrNotFound    = errors.New("authz: no such item")
	ErrConflict    = errors.New("authz: the item is not what was read")
	ErrUnavailable = errors.New("authz: control table unavailable")
)

// Kind is a class of control items.
type Kind string

// The kinds of items in the control table.
const (
	KindTenant       Kind = "tenant"
	KindTenantAlias  Kind = "alias"
	KindTenantSecret Kind = "secret"
	KindKey          Kind = "key"        // API keys
	KindRevocation   Kind = "revocation" // of API keys
	KindRetirement   Kind = "retirement" // of rotated API keys; ID = old key's id + "#" + new key's
	KindSuspension   Kind = "suspension" // ID = tenant + "#" + principal's id + "#" + random id
	KindReinstated   Kind = "reinstated" // ID as a suspension's
	KindLastUse      Kind = "lastuse"    // ID = key's id + "#" + region; replaced once an hour at most, by its region
	KindStop         Kind = "stop"       // of the kill switch
	KindResume       Kind = "resume"     // names the stops that it lifts
	KindRing         Kind = "ring"       // ring epochs
	KindRingDone     Kind = "ringdone"   // no record of an older epoch is left; ID = ring's ID + "#" + region
	KindShare        Kind = "share"      // of budgets; ID = ring's ID: its regions; and "#" + region: since when no older ring counts there
	KindEraseJob     Kind = "erase"
	KindEraseConfirm Kind = "erased" // ID = job id + "#" + region
)

// Item is one row: small, insert-only (but for a tenant secret's message and last uses).
type Item struct {
	Kind Kind
	ID   string
	Body []byte
}

// Control is one region's control table, a global table. All methods are safe
// for concurrent use and strongly consistent inside the region.
type Control interface {
	// Insert is durable when it returns nil; ErrExists when Kind and ID are
	// there, whatever the body. After ErrUnavailable it may have been applied.
	Insert(ctx context.Context, item Item) error
	Get(ctx context.Context, kind Kind, id string) (Item, error)
	// List returns items of a kind whose ID is greater than after, in order of ID.
	List(ctx context.Context, kind Kind, after string, limit int) ([]Item, error)
	// Replace swaps the body if it still is old's, else ErrConflict.
	Replace(ctx context.Context, old, next Item) error
}
