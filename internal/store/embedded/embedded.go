// Package embedded keeps one region's records table in the embedded engine
// (internal/wal). Every condition is checked in the same op as its write, so
// conditions hold under any concurrency; listings read derived rows that are
// written with the items, so they lag behind nothing.
package embedded

import (
	"context"
	"errors"
	"fmt"

	"piivault/internal/store"
	"piivault/internal/wal"
)

// tableID is the records table in the engine (format.md §8).
const tableID = 'R'

// Table is the records table's definition for wal.Open.
func Table() wal.Table {
	return wal.Table{ID: tableID, Index: indexRows, Changed: trackSweep}
}

// Store is the records table of an engine. It implements store.Store.
type Store struct{ e *wal.Engine }

var _ store.Store = (*Store)(nil)

// New returns the records table of an engine that was opened with Table.
func New(e *wal.Engine) *Store { return &Store{e} }

// fault says what an engine's error means to the caller.
func fault(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrConflict), errors.Is(err, wal.ErrCorrupt), errors.Is(err, errInvalid):
		return fmt.Errorf("store: %s: %w", doing, err)
	default:
		return fmt.Errorf("store: %s: %w: %w", doing, store.ErrUnavailable, err)
	}
}

// Read implements store.Store. A record's R and X are read as of one moment.
func (s *Store) Read(ctx context.Context, refs []store.Ref) ([]store.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault("read", err)
	}
	states := make([]store.State, len(refs))
	keys, err := readKeys(refs)
	if err != nil {
		return nil, fault("read", err)
	}
	more := false
	err = s.e.GetMany(tableID, keys, func(i int, value []byte) error {
		n := i / 2
		if i%2 == 0 {
			return setRecord(&states[n], refs[n], 0, value)
		}
		buried, err := isTombstone(value)
		if buried {
			states[n] = store.State{Generation: 1}
			more = more || refs[n].Generations
		}
		return err
	})
	for i := range refs {
		if err == nil && more && refs[i].Generations && states[i].Erased() {
			states[i], err = s.readOn(refs[i])
		}
	}
	if err != nil {
		return nil, fault("read", err)
	}
	return states, nil
}

// readKeys are R#0 and X#0 of every ref, in turn.
func readKeys(refs []store.Ref) ([][]byte, error) {
	keys := make([][]byte, 0, 2*len(refs))
	size := 0
	for _, r := range refs {
		size += 2 * keySize(r.Tenant, r.ID)
	}
	buf := make([]byte, 0, size)
	for _, r := range refs {
		if err := checkKey(r.Tenant, r.ID); err != nil {
			return nil, err
		}
		key := store.Key{Tenant: r.Tenant, ID: r.ID}
		for _, kind := range []byte{kindRecord, kindTombstone} {
			start := len(buf)
			buf = appendRow(buf, key, kind, "")
			keys = append(keys, buf[start:len(buf):len(buf)])
		}
	}
	return keys, nil
}

func setRecord(state *store.State, ref store.Ref, generation uint32, value []byte) error {
	if value == nil {
		return nil
	}
	r, err := decodeRecord(store.Key{Tenant: ref.Tenant, ID: ref.ID, Generation: generation}, value)
	if err != nil {
		return err
	}
	state.Record = r
	return nil
}

// readOn finds the lowest generation without a tombstone, and its record.
func (s *Store) readOn(ref store.Ref) (store.State, error) {
	state := store.State{}
	err := s.scanID(ref, func(k rowKey, value []byte) (bool, error) {
		switch {
		case k.kind == kindTombstone && k.generation == state.Generation:
			state = store.State{Generation: state.Generation + 1}
		case k.kind == kindRecord && k.generation == state.Generation:
			return true, setRecord(&state, ref, k.generation, value)
		}
		return k.generation <= state.Generation, nil
	})
	return state, err
}

// scanID calls fn for every row of a record id, in order of generation and,
// within one, links before the record before the tombstone.
func (s *Store) scanID(ref store.Ref, fn func(k rowKey, value []byte) (bool, error)) error {
	if err := checkKey(ref.Tenant, ref.ID); err != nil {
		return err
	}
	from := appendID(nil, ref.Tenant, ref.ID)
	return s.e.Scan(tableID, from, after(from), func(row, value []byte) (bool, error) {
		k, err := parseRow(row)
		if err != nil {
			return false, err
		}
		return fn(k, value)
	})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (record *store.Record, buried bool, err error) {
	err = ctx.Err()
	if err == nil {
		err = checkKey(key.Tenant, key.ID)
	}
	if err != nil {
		return nil, false, fault("get", err)
	}
	rows := [][]byte{appendRow(nil, key, kindRecord, ""), appendRow(nil, key, kindTombstone, "")}
	err = s.e.GetMany(tableID, rows, func(i int, value []byte) (err error) {
		if i == 1 {
			buried, err = isTombstone(value)
		} else if value != nil {
			record, err = decodeRecord(key, value)
		}
		return err
	})
	if err != nil {
		return nil, false, fault("get", err)
	}
	return record, buried, nil
}

// Seen implements store.Store.
func (s *Store) Seen(ctx context.Context, refs []store.Ref) ([]store.Key, error) {
	var keys []store.Key
	for _, ref := range refs {
		err := ctx.Err()
		if err == nil {
			err = s.scanID(ref, func(k rowKey, _ []byte) (bool, error) {
				key, last := k.key(), len(keys)-1
				same := last >= 0 && keys[last] == key
				switch {
				case k.kind == kindTombstone && same:
					keys = keys[:last]
				case k.kind != kindTombstone && !same:
					keys = append(keys, key)
				}
				return true, nil
			})
		}
		if err != nil {
			return nil, fault("list generations", err)
		}
	}
	return keys, nil
}
