// Package embedded keeps one region's control table in the embedded engine
// (internal/wal).
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"piivault/internal/authz"
	"piivault/internal/wal"
)

// tableID is the control table in the engine (format.md §8).
const tableID = 'C'

// Table is the control table's definition for wal.Open.
func Table() wal.Table { return wal.Table{ID: tableID} }

// Control is the control table of an engine. It implements authz.Control.
type Control struct{ e *wal.Engine }

var _ authz.Control = (*Control)(nil)

// New returns the control table of an engine that was opened with Table.
func New(e *wal.Engine) *Control { return &Control{e} }

// itemKey is kind, a zero byte, and the id: ids of a kind sort together.
func itemKey(kind authz.Kind, id string) []byte {
	return append(append([]byte(kind), 0), id...)
}

// fault says what an engine's error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrNotFound):
		err = authz.ErrNotFound
	case errors.Is(err, authz.ErrExists), errors.Is(err, authz.ErrConflict), errors.Is(err, wal.ErrCorrupt):
	default:
		err = fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return fmt.Errorf("control: %s: %w", doing, err)
}

// Insert implements authz.Control.
func (c *Control) Insert(ctx context.Context, item authz.Item) error {
	key := itemKey(item.Kind, item.ID)
	return fault("insert", c.e.Submit(func(tx *wal.Tx) error {
		_, found, err := tx.Get(tableID, key)
		if err != nil {
			return err
		}
		if found {
			return authz.ErrExists
		}
		tx.Put(tableID, key, item.Body)
		return nil
	}).Wait(ctx))
}

// Replace implements authz.Control.
func (c *Control) Replace(ctx context.Context, old, next authz.Item) error {
	key := itemKey(old.Kind, old.ID)
	return fault("replace", c.e.Submit(func(tx *wal.Tx) error {
		body, found, err := tx.Get(tableID, key)
		if err != nil {
			return err
		}
		if !found || !bytes.Equal(body, old.Body) {
			return authz.ErrConflict
		}
		tx.Put(tableID, key, next.Body)
		return nil
	}).Wait(ctx))
}

// Get implements authz.Control.
func (c *Control) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if err := ctx.Err(); err != nil {
		return authz.Item{}, fault("get", err)
	}
	body, err := c.e.Get(tableID, itemKey(kind, id))
	if err != nil {
		return authz.Item{}, fault("get", err)
	}
	return authz.Item{Kind: kind, ID: id, Body: body}, nil
}

// List implements authz.Control.
func (c *Control) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault("list", err)
	}
	prefix := itemKey(kind, "")
	// The first key greater than after's is after's with a zero byte.
	from := append(itemKey(kind, after), 0)
	if after == "" {
		from = prefix
	}
	to := append([]byte(kind), 1)
	var items []authz.Item
	err := c.e.Scan(tableID, from, to, func(key, body []byte) (bool, error) {
		if len(items) >= limit {
			return false, nil
		}
		items = append(items, authz.Item{Kind: kind, ID: string(key[len(prefix):]), Body: bytes.Clone(body)})
		return len(items) < limit, nil
	})
	return items, fault("list", err)
}
