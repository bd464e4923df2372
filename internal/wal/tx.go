package wal

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Tx is what an op sees and writes: the engine's state with all of the group
// so far. It belongs to the committer and is valid until the op returns; keys
// and values that are passed in may be reused as soon as a call returns.
type Tx struct {
	e     *Engine
	now   time.Time
	batch *pebble.Batch
	iter  *pebble.Iterator // of the state before the group, opened by the first read
	clock clock            // the engine's, carried on to this group's writes

	// seen holds what the group wrote or read, by full key; nil: absent.
	seen map[string][]byte
	// The op under way, undone as a whole when it fails.
	writes []write
	undo   []undo
	err    error // the first fault of a call that returns none

	start clock  // the clock before the group
	key   []byte // scratch
	arena []byte // values in seen; reset with the group
}

// write is one row of the op under way, applied to the batch when it succeeds.
type write struct {
	key    string
	value  []byte
	delete bool
}

type undo struct {
	key   string
	value []byte
	had   bool
}

// arenaSize is what a Tx keeps for the next group: room for some batches.
const arenaSize = 1 << 20

// Now is the group's time.
func (tx *Tx) Now() time.Time { return tx.now }

// Get reads an item, as this group has left it so far.
func (tx *Tx) Get(table byte, key []byte) (value []byte, found bool, err error) {
	if _, err := tx.e.table(table); err != nil {
		return nil, false, err
	}
	raw, err := tx.load(table, key)
	if err != nil || raw == nil {
		return nil, false, err
	}
	it, err := parseItem(raw)
	if err != nil || it.grave {
		return nil, false, err
	}
	return it.value, true, nil
}

// Absent tells the group that there is no such item, which spares looking for
// it: for keys that were drawn at random just now.
func (tx *Tx) Absent(table byte, key []byte) {
	tx.key = appendKey(tx.key[:0], table, key)
	if _, known := tx.seen[string(tx.key)]; !known {
		tx.seen[string(tx.key)] = nil
	}
}

// GetLocal reads a local row, as this group has left it so far.
func (tx *Tx) GetLocal(key []byte) (value []byte, found bool, err error) {
	raw, err := tx.load(spaceLocal, key)
	return raw, raw != nil, err
}

// Put writes a replicated item.
func (tx *Tx) Put(table byte, key, value []byte) { tx.change(table, key, value, false) }

// Delete removes a replicated item, there or not, and leaves a stamped grave.
func (tx *Tx) Delete(table byte, key []byte) { tx.change(table, key, nil, true) }

// SetLocal writes a local row.
func (tx *Tx) SetLocal(key, value []byte) {
	tx.set(tx.name(spaceLocal, key), tx.keep(value))
}

// DeleteLocal removes a local row.
func (tx *Tx) DeleteLocal(key []byte) { tx.set(tx.name(spaceLocal, key), nil) }

// change writes an item with a fresh stamp, and its outbox row.
func (tx *Tx) change(table byte, key, value []byte, grave bool) {
	next := item{grave: grave, stamp: tx.nextStamp(), region: tx.e.region, value: value}
	start := len(tx.arena)
	tx.arena = appendItem(tx.arena, next)
	tx.replace(table, key, tx.arena[start:len(tx.arena):len(tx.arena)])
	if tx.e.outbox {
		tx.clock.seq++
		tx.writes = append(tx.writes, write{key: outboxKey(tx.clock.seq), value: appendKey(nil, table, key)})
	}
}

// replace writes an envelope and what follows from it.
func (tx *Tx) replace(table byte, key, raw []byte) {
	t, err := tx.e.table(table)
	if err == nil && t.Index != nil {
		err = tx.reindex(t, key, raw)
	}
	if err == nil {
		tx.set(tx.name(table, key), raw)
	}
	if err == nil && t.Changed != nil {
		err = tx.changed(t, key, raw)
	}
	if err != nil {
		tx.fail(err)
	}
}

// reindex keeps the table's derived rows in step with an item.
func (tx *Tx) reindex(t Table, key, raw []byte) error {
	old, err := tx.load(t.ID, key)
	if err != nil {
		return err
	}
	before, err := indexRows(t, key, old)
	if err != nil {
		return fmt.Errorf("index of the item to replace: %w", err)
	}
	after, err := indexRows(t, key, raw)
	if err != nil {
		return fmt.Errorf("index of the new item: %w", err)
	}
	has := func(rows [][]byte, row []byte) bool {
		return slices.ContainsFunc(rows, func(r []byte) bool { return bytes.Equal(r, row) })
	}
	space := t.ID + indexSpace
	for _, row := range before {
		if !has(after, row) {
			tx.writes = append(tx.writes, write{key: tx.name(space, row), delete: true})
		}
	}
	for _, row := range after {
		if !has(before, row) {
			tx.writes = append(tx.writes, write{key: tx.name(space, row)})
		}
	}
	return nil
}

func indexRows(t Table, key, raw []byte) ([][]byte, error) {
	if raw == nil {
		return nil, nil
	}
	it, err := parseItem(raw)
	if err != nil || it.grave {
		return nil, err
	}
	return t.Index(key, it.value)
}

func (tx *Tx) changed(t Table, key, raw []byte) error {
	it, err := parseItem(raw)
	if err != nil {
		return err
	}
	value := it.value
	if it.grave {
		value = nil
	}
	return t.Changed(tx, key, value)
}

// nextStamp is the group's time, pushed forward past every stamp that this
// engine gave out or applied: a later write wins wherever it is compared.
func (tx *Tx) nextStamp() uint64 {
	tx.clock.stamp = max(tx.clock.stamp+1, uint64(max(tx.now.UnixNano(), 0)))
	return tx.clock.stamp
}

// load gives the row of a space as the group sees it, nil where there is none.
func (tx *Tx) load(space byte, key []byte) ([]byte, error) {
	tx.key = appendKey(tx.key[:0], space, key)
	if raw, ok := tx.seen[string(tx.key)]; ok {
		return raw, nil
	}
	if tx.iter == nil {
		iter, err := tx.e.pointIter()
		if err != nil {
			return nil, tx.e.readError(err)
		}
		tx.iter = iter
	}
	raw, err := tx.e.seek(tx.iter, tx.key)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		raw = tx.keep(raw)
	}
	tx.seen[string(tx.key)] = raw
	return raw, nil
}

// set notes a write of the op under way; a nil value deletes.
func (tx *Tx) set(key string, value []byte) {
	prev, had := tx.seen[key]
	tx.undo = append(tx.undo, undo{key, prev, had})
	tx.seen[key] = value
	tx.writes = append(tx.writes, write{key: key, value: value, delete: value == nil})
}

// name makes the full key of a row.
func (tx *Tx) name(space byte, key []byte) string {
	tx.key = appendKey(tx.key[:0], space, key)
	return string(tx.key)
}

// keep copies a value into the group's arena; the result is never nil.
func (tx *Tx) keep(value []byte) []byte {
	start := len(tx.arena)
	tx.arena = append(tx.arena, value...)
	return tx.arena[start:len(tx.arena):len(tx.arena)]
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// begin makes the Tx that of a new group.
func (tx *Tx) begin(now time.Time, batch *pebble.Batch) {
	tx.now, tx.batch = now, batch
	tx.start = tx.clock
	clear(tx.seen)
	if cap(tx.arena) > 2*arenaSize {
		tx.arena = make([]byte, 0, arenaSize)
	}
	tx.arena = tx.arena[:0]
}

// run runs one op: all of its writes enter the batch, or none.
func (tx *Tx) run(op func() error) error {
	opened := tx.clock
	tx.writes, tx.undo, tx.err = tx.writes[:0], tx.undo[:0], nil
	err := op()
	if err == nil {
		err = tx.err
	}
	if err == nil {
		err = tx.flush()
	}
	if err != nil {
		tx.clock = opened
		tx.rollback()
	}
	return err
}

func (tx *Tx) rollback() {
	for _, u := range slices.Backward(tx.undo) {
		if u.had {
			tx.seen[u.key] = u.value
		} else {
			delete(tx.seen, u.key)
		}
	}
}

// flush moves the op's writes into the batch. A batch in memory does not
// refuse a write; if one did, the group could not be committed.
func (tx *Tx) flush() error {
	for _, w := range tx.writes {
		if w.delete {
			op := tx.batch.DeleteDeferred(len(w.key))
			copy(op.Key, w.key)
			if err := op.Finish(); err != nil {
				return err
			}
			continue
		}
		op := tx.batch.SetDeferred(len(w.key), len(w.value))
		copy(op.Key, w.key)
		copy(op.Value, w.value)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// finish ends reading, and adds the clock's row where the group has moved it.
func (tx *Tx) finish() error {
	if tx.iter != nil {
		_ = tx.iter.Close() // repeats what the last seek has told its op
		tx.iter = nil
	}
	if tx.clock == tx.start {
		return nil
	}
	return tx.batch.Set([]byte(metaClock), tx.clock.row(), nil)
}
