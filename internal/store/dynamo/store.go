// Package dynamo keeps one region's records in a DynamoDB global table.
//
// R, X and L are items of their own, and each write is conditional on its own
// item at most: a condition over two of them would be a transaction, at four
// times the price of a put. It is not needed, because nothing that reads
// trusts an R alone: every read takes R and X, so a tombstone counts whenever
// it comes. Insert looks for tombstones before it puts; an X that arrives in
// between is a concurrent erasure, which wins, and the sweeper takes the R.
// Only Replace is a transaction: repair is rare, and must not touch what was
// buried.
package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// Config of a store.
type Config struct {
	Client *dynamo.Client
	Table  string // defined as dynamo.CreateTables does
	Now    func() time.Time
	// TTL lets the table's TTL remove expired records, at no cost, within days
	// and without a tombstone. Otherwise Expired lists them for the sweeper.
	TTL bool
}

// Store is a records table. It implements store.Store.
type Store struct {
	db    *dynamo.Client
	table string
	now   func() time.Time
	ttl   bool
}

var _ store.Store = (*Store)(nil)

// New returns the records table.
func New(c Config) *Store { return &Store{db: c.Client, table: c.Table, now: c.Now, ttl: c.TTL} }

// fault says what an error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dynamo.ErrCondition):
		return fmt.Errorf("store: %s: %w", doing, store.ErrConflict)
	case errors.Is(err, dynamo.ErrCorrupt), errors.Is(err, dynamo.ErrInvalid), errors.Is(err, errInvalid):
		return fmt.Errorf("store: %s: %w", doing, err)
	default:
		return fmt.Errorf("store: %s: %w: %w", doing, store.ErrUnavailable, err)
	}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (record *store.Record, buried bool, err error) {
	err = checkKey(key.Tenant, key.ID)
	if err == nil {
		keys := []dynamo.Key{rowKey(key, kindRecord), rowKey(key, kindTombstone)}
		err = s.db.BatchGet(ctx, s.table, keys, "", func(item dynamo.Item) error {
			row, err := parseRow(item)
			switch {
			case err != nil:
				return err
			case row.kind == kindTombstone:
				buried = true
			default:
				record, err = decodeRecord(row.Key, item)
			}
			return err
		})
	}
	if err != nil {
		return nil, false, fault("get", err)
	}
	return record, buried, nil
}

// rows lists the rows of a record id, in order of kind and generation: links,
// records, tombstones. Strongly consistent. Of a tombstone it tells when it
// was written, of nothing the content.
func (s *Store) rows(ctx context.Context, pk string) (rows []row, err error) {
	err = s.db.Query(ctx, dynamo.Query{
		Table: s.table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(pk)},
		Names: map[string]string{"#at": attrAt}, Attributes: "pk,sk,#at", Consistent: true,
	}, func(item dynamo.Item) (bool, error) {
		r, err := parseRow(item)
		if err == nil && r.kind == kindTombstone {
			r.at, err = tombstoneTime(item)
		}
		rows = append(rows, r)
		return true, err
	})
	return rows, err
}

// Seen implements store.Store.
func (s *Store) Seen(ctx context.Context, refs []store.Ref) ([]store.Key, error) {
	pks := newSet[string](len(refs))
	for _, r := range refs {
		if err := checkKey(r.Tenant, r.ID); err != nil {
			return nil, fault("list generations", err)
		}
		pks.add(partition(r.Tenant, r.ID))
	}
	found := make([][]row, len(pks.list))
	err := dynamo.Each(ctx, len(pks.list), func(ctx context.Context, i int) (err error) {
		found[i], err = s.rows(ctx, pks.list[i])
		return err
	})
	if err != nil {
		return nil, fault("list generations", err)
	}
	var keys []store.Key
	for _, rows := range found {
		keys = append(keys, unburied(rows)...)
	}
	return keys, nil
}

// unburied are the generations that have an R or an L and no X.
func unburied(rows []row) []store.Key {
	there, buried := newSet[store.Key](1), newSet[store.Key](0)
	for _, r := range rows {
		if r.kind == kindTombstone {
			buried.add(r.Key)
		} else {
			there.add(r.Key)
		}
	}
	var keys []store.Key
	for _, k := range there.list {
		if !buried.has(k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// set keeps the order in which things were added.
type set[K comparable] struct {
	list []K
	at   map[K]int
}

func newSet[K comparable](size int) set[K] { return set[K]{at: make(map[K]int, size)} }

func (s *set[K]) has(k K) bool {
	_, ok := s.at[k]
	return ok
}

// add returns the place of k, and whether it is new.
func (s *set[K]) add(k K) (int, bool) {
	if i, ok := s.at[k]; ok {
		return i, false
	}
	s.at[k] = len(s.list)
	s.list = append(s.list, k)
	return len(s.list) - 1, true
}
