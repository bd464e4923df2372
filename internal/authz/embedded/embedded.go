// Package embedded keeps one region's control table in the embedded engine
// (internal/wal): conditions are checked in the same op as their write, and
// every answer is durable.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"piivault/internal/authz"
	"piivault/internal/wal"
)

const (
	// tableID is the control table in the engine (format.md §8).
	tableID = 'C'
	// bodyVersion begins every row's value (format.md §6).
	bodyVersion = 1
	maxKind     = 255
)

// errInvalid refuses what has no encoding: a caller's mistake.
var errInvalid = errors.New("not a valid item")

// Table is the control table's definition for wal.Open.
func Table() wal.Table { return wal.Table{ID: tableID} }

// Control is the control table of an engine. It implements authz.Control.
type Control struct{ e *wal.Engine }

var _ authz.Control = (*Control)(nil)

// New returns the control table of an engine that was opened with Table.
func New(e *wal.Engine) *Control { return &Control{e} }

// fault says what an engine's error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrNotFound):
		return fmt.Errorf("authz: %s: %w", doing, authz.ErrNotFound)
	case errors.Is(err, authz.ErrExists), errors.Is(err, authz.ErrConflict), errors.Is(err, wal.ErrCorrupt), errors.Is(err, errInvalid):
		return fmt.Errorf("authz: %s: %w", doing, err)
	default:
		return fmt.Errorf("authz: %s: %w: %w", doing, authz.ErrUnavailable, err)
	}
}

// prefix begins the keys of a kind: its length and its name.
func prefix(kind authz.Kind) ([]byte, error) {
	if kind == "" || len(kind) > maxKind {
		return nil, fmt.Errorf("%w: a kind has 1 to 255 bytes", errInvalid)
	}
	return append([]byte{byte(len(kind))}, kind...), nil
}

func rowKey(kind authz.Kind, id string) ([]byte, error) {
	p, err := prefix(kind)
	if err == nil && id == "" {
		err = fmt.Errorf("%w: no id", errInvalid)
	}
	return append(p, id...), err
}

func encodeBody(body []byte) []byte { return append([]byte{bodyVersion}, body...) }

// decodeBody copies the body out of a row's value.
func decodeBody(value []byte) ([]byte, error) {
	if len(value) == 0 || value[0] != bodyVersion {
		return nil, fmt.Errorf("control row: %w", wal.ErrCorrupt)
	}
	return bytes.Clone(value[1:]), nil
}

// Insert implements authz.Control.
func (c *Control) Insert(ctx context.Context, item authz.Item) error {
	key, err := rowKey(item.Kind, item.ID)
	if err != nil {
		return fault("insert", err)
	}
	value := encodeBody(item.Body)
	return fault("insert", c.e.Submit(func(tx *wal.Tx) error {
		_, found, err := tx.Get(tableID, key)
		if err != nil {
			return err
		}
		if found {
			return authz.ErrExists
		}
		tx.Put(tableID, key, value)
		return nil
	}).Wait(ctx))
}

// Get implements authz.Control.
func (c *Control) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if err := ctx.Err(); err != nil {
		return authz.Item{}, fault("get", err)
	}
	key, err := rowKey(kind, id)
	if err != nil {
		return authz.Item{}, fault("get", err)
	}
	value, err := c.e.Get(tableID, key)
	if err != nil {
		return authz.Item{}, fault("get", err)
	}
	body, err := decodeBody(value)
	return authz.Item{Kind: kind, ID: id, Body: body}, fault("get", err)
}

// List implements authz.Control.
func (c *Control) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault("list", err)
	}
	p, err := prefix(kind)
	if err == nil && limit < 1 {
		err = fmt.Errorf("%w: a list needs a limit of at least 1", errInvalid)
	}
	if err != nil {
		return nil, fault("list", err)
	}
	from := append(bytes.Clone(p), after...)
	if after != "" {
		from = append(from, 0) // the first key behind it
	}
	var items []authz.Item
	err = c.e.Scan(tableID, from, end(p), func(key, value []byte) (bool, error) {
		body, err := decodeBody(value)
		if err != nil {
			return false, err
		}
		items = append(items, authz.Item{Kind: kind, ID: string(key[len(p):]), Body: body})
		return len(items) < limit, nil
	})
	if err != nil {
		return nil, fault("list", err)
	}
	return items, nil
}

// end is the first key behind a kind's. A kind begins with its length, which
// is not 0xff where its name could carry over into it.
func end(prefix []byte) []byte {
	e := bytes.Clone(prefix)
	for i := len(e) - 1; i >= 0; i-- {
		if e[i]++; e[i] != 0 {
			return e[:i+1]
		}
	}
	return nil
}

// Replace implements authz.Control.
func (c *Control) Replace(ctx context.Context, old, next authz.Item) error {
	key, err := rowKey(old.Kind, old.ID)
	if err == nil && (old.Kind != next.Kind || old.ID != next.ID) {
		err = fmt.Errorf("%w: the key of another item", errInvalid)
	}
	if err != nil {
		return fault("replace", err)
	}
	was, becomes := encodeBody(old.Body), encodeBody(next.Body)
	return fault("replace", c.e.Submit(func(tx *wal.Tx) error {
		value, found, err := tx.Get(tableID, key)
		if err != nil {
			return err
		}
		if !found || !bytes.Equal(value, was) {
			return authz.ErrConflict
		}
		tx.Put(tableID, key, becomes)
		return nil
	}).Wait(ctx))
}
