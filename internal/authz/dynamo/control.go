// Package dynamo keeps one region's control table in a DynamoDB global table:
// an item for each authz.Item, all of a kind in one partition, inserted by
// conditional puts and read strongly consistent.
package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"piivault/internal/authz"
	"piivault/internal/dynamo"
)

// Attributes besides the keys (docs/design/format.md §6).
const (
	attrVersion = "v"
	attrBody    = "body"

	itemVersion = 1
	maxKey      = 1024 // bytes of a sort key
)

// errInvalid refuses what has no encoding: a caller's mistake.
var errInvalid = errors.New("not a valid item")

// Control is a control table. It implements authz.Control.
type Control struct {
	db    *dynamo.Client
	table string
}

var _ authz.Control = (*Control)(nil)

// New returns the control table of that name, defined as dynamo.CreateTables does.
func New(client *dynamo.Client, table string) *Control { return &Control{client, table} }

// fault says what an error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dynamo.ErrCondition):
		return fmt.Errorf("authz: %s: %w", doing, authz.ErrConflict)
	case errors.Is(err, dynamo.ErrCorrupt), errors.Is(err, dynamo.ErrInvalid), errors.Is(err, errInvalid):
		return fmt.Errorf("authz: %s: %w", doing, err)
	default:
		return fmt.Errorf("authz: %s: %w: %w", doing, authz.ErrUnavailable, err)
	}
}

func keyOf(kind authz.Kind, id string) (dynamo.Key, error) {
	if kind == "" || id == "" || len(kind) > maxKey || len(id) > maxKey {
		return dynamo.Key{}, fmt.Errorf("%w: kind and id have 1 to 1024 bytes", errInvalid)
	}
	return dynamo.Key{PK: string(kind), SK: id}, nil
}

func encode(item authz.Item) (dynamo.Item, error) {
	key, err := keyOf(item.Kind, item.ID)
	if err != nil {
		return nil, err
	}
	row := key.Item()
	row[attrVersion] = dynamo.Int(itemVersion)
	row[attrBody] = dynamo.Bytes(append([]byte{}, item.Body...)) // empty, never null
	return row, nil
}

// decode is encode's strict inverse.
func decode(row dynamo.Item) (authz.Item, error) {
	f := dynamo.Read(row)
	key := f.Key()
	item := authz.Item{Kind: authz.Kind(key.PK), ID: key.SK, Body: f.Bytes(attrBody)}
	if version := f.Int(attrVersion); f.Err() == nil && version != itemVersion {
		return authz.Item{}, fmt.Errorf("version of a control item: %w", dynamo.ErrCorrupt)
	}
	return item, f.Err()
}

// Insert implements authz.Control. After an attempt without an answer, the
// same item there counts as its own.
func (c *Control) Insert(ctx context.Context, item authz.Item) error {
	row, err := encode(item)
	if err != nil {
		return fault("insert", err)
	}
	there, again, err := c.db.PutNew(ctx, c.table, row)
	if err != nil || there == nil {
		return fault("insert", err)
	}
	found, err := decode(there)
	if again && err == nil && bytes.Equal(found.Body, item.Body) {
		return nil
	}
	return fmt.Errorf("authz: insert: %w", authz.ErrExists)
}

// Get implements authz.Control.
func (c *Control) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	key, err := keyOf(kind, id)
	if err != nil {
		return authz.Item{}, fault("get", err)
	}
	row, err := c.db.Get(ctx, c.table, key)
	if err != nil {
		return authz.Item{}, fault("get", err)
	}
	if row == nil {
		return authz.Item{}, fmt.Errorf("authz: get: %w", authz.ErrNotFound)
	}
	item, err := decode(row)
	return item, fault("get", err)
}

// List implements authz.Control.
func (c *Control) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	key, err := keyOf(kind, "-")
	if err == nil && (limit < 1 || len(after) > maxKey) {
		err = fmt.Errorf("%w: a list needs a limit of at least 1", errInvalid)
	}
	if err != nil {
		return nil, fault("list", err)
	}
	q := dynamo.Query{
		Table: c.table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(key.PK)}, Consistent: true, Limit: int32(min(limit, 1<<20)),
	}
	if after != "" {
		q.Where += " AND sk > :after"
		q.Values[":after"] = dynamo.String(after)
	}
	var items []authz.Item
	err = c.db.Query(ctx, q, func(row dynamo.Item) (bool, error) {
		item, err := decode(row)
		items = append(items, item)
		return len(items) < limit, err
	})
	if err != nil {
		return nil, fault("list", err)
	}
	return items, nil
}

// Replace implements authz.Control. After an attempt without an answer, the
// next body there counts as its own.
func (c *Control) Replace(ctx context.Context, old, next authz.Item) error {
	row, err := encode(next)
	if err == nil && (old.Kind != next.Kind || old.ID != next.ID) {
		err = fmt.Errorf("%w: the key of another item", errInvalid)
	}
	if err != nil {
		return fault("replace", err)
	}
	again, err := c.db.Put(ctx, c.table, row, dynamo.Condition{
		Expression: attrBody + " = :old AND " + attrVersion + " = :v",
		Values:     dynamo.Item{":old": dynamo.Bytes(append([]byte{}, old.Body...)), ":v": dynamo.Int(itemVersion)},
	})
	if again && errors.Is(err, dynamo.ErrCondition) {
		found, getErr := c.Get(ctx, next.Kind, next.ID)
		if getErr != nil {
			return getErr
		}
		if bytes.Equal(found.Body, next.Body) {
			return nil
		}
	}
	return fault("replace", err)
}
