package embedded

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"piivault/internal/store"
	"piivault/internal/wal"
)

// encoded is a New as it is stored, made before the op so that the committer
// only looks up and copies.
type encoded struct {
	record, tombstone, value []byte
	links                    [][]byte
	fresh                    bool
}

func encode(n store.New) (e encoded, err error) {
	r := n.Record
	if r == nil {
		return e, fmt.Errorf("%w: no record", errInvalid)
	}
	if err := checkRecord(r); err != nil {
		return e, err
	}
	size := keySize(r.Tenant, r.ID)
	buf := make([]byte, 0, 3*size+recordFixed+8+len(r.Type)+len(r.Subject)+len(r.Home)+len(r.Message))
	buf = appendRow(buf, r.Key, kindRecord, "")
	buf = appendRow(buf, r.Key, kindTombstone, "")
	buf = appendRecord(buf, r)
	e.record, e.tombstone, e.value = buf[:size:size], buf[size:2*size:2*size], buf[2*size:]
	e.fresh = n.Fresh
	for _, subject := range n.Links {
		if subject == "" || len(subject) > maxName {
			return e, fmt.Errorf("%w: a link has no subject of 1 to 255 bytes", errInvalid)
		}
		e.links = append(e.links, appendRow(nil, r.Key, kindLink, subject))
	}
	return e, nil
}

// rowOverhead is about what a row takes beside its value.
const rowOverhead = 200

// Insert implements store.Store. All of it is one op: durable together, with
// whatever was submitted to the engine before.
func (s *Store) Insert(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	rows := make([]encoded, len(records))
	for i, n := range records {
		var err error
		if rows[i], err = encode(n); err != nil {
			return nil, fault("insert", err)
		}
	}
	outcomes := make([]store.Outcome, len(records))
	size := 0
	for i := range rows {
		size += len(rows[i].value) + rowOverhead
	}
	err := s.e.SubmitSized(size, func(tx *wal.Tx) (err error) {
		for i := range rows {
			if outcomes[i], err = rows[i].insert(tx); err != nil {
				return err
			}
		}
		return nil
	}).Wait(ctx)
	if err != nil {
		return nil, fault("insert", err)
	}
	return outcomes, nil
}

func (e *encoded) insert(tx *wal.Tx) (store.Outcome, error) {
	if e.fresh {
		tx.Absent(tableID, e.tombstone)
		tx.Absent(tableID, e.record)
	}
	buried, err := has(tx, e.tombstone)
	if err != nil || buried {
		return store.Buried, err
	}
	for _, link := range e.links {
		linked, err := has(tx, link)
		if err != nil {
			return 0, err
		}
		if !linked {
			tx.Put(tableID, link, bareValue())
		}
	}
	exists, err := has(tx, e.record)
	if err != nil || exists {
		return store.Exists, err
	}
	tx.Put(tableID, e.record, e.value)
	return store.Inserted, nil
}

func has(tx *wal.Tx, row []byte) (bool, error) {
	_, found, err := tx.Get(tableID, row)
	return found, err
}

// Bury implements store.Store.
func (s *Store) Bury(ctx context.Context, keys []store.Key) error {
	rows := make([][]byte, len(keys))
	for i, key := range keys {
		if err := checkKey(key.Tenant, key.ID); err != nil {
			return fault("bury", err)
		}
		rows[i] = appendRow(nil, key, kindTombstone, "")
	}
	return fault("bury", s.e.Submit(func(tx *wal.Tx) error {
		for _, row := range rows {
			buried, err := has(tx, row)
			if err != nil {
				return err
			}
			if !buried {
				tx.Put(tableID, row, bareValue())
			}
		}
		return nil
	}).Wait(ctx))
}

// Replace implements store.Store.
func (s *Store) Replace(ctx context.Context, old, next *store.Record) error {
	was, err := encode(store.New{Record: old})
	if err != nil {
		return fault("replace", err)
	}
	becomes, err := encode(store.New{Record: next})
	if err != nil {
		return fault("replace", err)
	}
	if old.Key != next.Key {
		return fault("replace", fmt.Errorf("%w: the key of another record", errInvalid))
	}
	return fault("replace", s.e.Submit(func(tx *wal.Tx) error {
		buried, err := has(tx, was.tombstone)
		if err != nil {
			return err
		}
		value, found, err := tx.Get(tableID, was.record)
		if err != nil {
			return err
		}
		if buried || !found || !bytes.Equal(value, was.value) {
			return store.ErrConflict
		}
		tx.Put(tableID, becomes.record, becomes.value)
		return nil
	}).Wait(ctx))
}

// Delete implements store.Store. What it does not see, a link that arrives
// meanwhile, is listed by Swept again.
func (s *Store) Delete(ctx context.Context, keys []store.Key) error {
	rows, err := s.sweepable(keys)
	if err != nil {
		return fault("delete", err)
	}
	return fault("delete", s.e.Submit(func(tx *wal.Tx) error {
		for _, row := range rows {
			there, err := has(tx, row)
			if err != nil {
				return err
			}
			if there {
				tx.Delete(tableID, row)
			}
		}
		return nil
	}).Wait(ctx))
}

// sweepable lists the R and L rows of the keys that have a tombstone, which
// is permanent, so that it need not be looked at again.
func (s *Store) sweepable(keys []store.Key) (rows [][]byte, err error) {
	tombstones := make([][]byte, len(keys))
	for i, key := range keys {
		if err := checkKey(key.Tenant, key.ID); err != nil {
			return nil, err
		}
		tombstones[i] = appendRow(nil, key, kindTombstone, "")
	}
	err = s.e.GetMany(tableID, tombstones, func(i int, value []byte) error {
		buried, err := isTombstone(value)
		if err != nil || !buried {
			return err
		}
		found, err := s.generation(keys[i])
		rows = append(rows, found...)
		return err
	})
	return rows, err
}

// generation lists the R and L rows of a generation.
func (s *Store) generation(key store.Key) (rows [][]byte, err error) {
	from := appendKey(nil, key)
	err = s.e.Scan(tableID, from, append(slices.Clip(from), kindTombstone), func(row, _ []byte) (bool, error) {
		rows = append(rows, bytes.Clone(row))
		return true, nil
	})
	return rows, err
}
