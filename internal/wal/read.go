package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Reads see all committed groups and may see one whose fsync is under way: an
// op submitted after such a read is committed after what was read, so it is
// durable only together with it.

// gate counts the calls inside Pebble, so that it is closed behind the last.
type gate struct {
	calls atomic.Int64 // negative once shut
	idle  chan struct{}
}

const gateShut = math.MinInt64 / 2

func newGate() *gate { return &gate{idle: make(chan struct{}, 1)} }

// enter reports whether the call may use the database; leave must follow.
func (g *gate) enter() bool {
	if g.calls.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.calls.Add(-1) == gateShut {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// shut refuses new calls and waits for those inside.
func (g *gate) shut() {
	for n := g.calls.Add(gateShut); n != gateShut; n = g.calls.Load() {
		<-g.idle
	}
}

// read runs fn inside the gate; what it read is not to be used on an error.
func (e *Engine) read(fn func() error) error {
	if !e.gate.enter() {
		if err := e.fence.err(); err != nil {
			return err
		}
		return ErrClosed
	}
	defer e.gate.leave()
	if err := e.fence.err(); err != nil {
		return err
	}
	err := fn()
	if fault := e.fence.err(); fault != nil {
		return fault
	}
	return err
}

// readError gives Pebble's corruption our sentinel.
func (e *Engine) readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("wal: read: %w", err)
}

// Get returns a copy of an item's value, or ErrNotFound.
func (e *Engine) Get(table byte, key []byte) (value []byte, err error) {
	err = e.GetMany(table, [][]byte{key}, func(_ int, v []byte) error {
		if v == nil {
			return ErrNotFound
		}
		value = append(make([]byte, 0, len(v)), v...)
		return nil
	})
	return value, err
}

// GetMany reads items as of one moment and calls fn for each key in the order
// given, with nil where there is none. The value is valid until fn returns.
func (e *Engine) GetMany(table byte, keys [][]byte, fn func(i int, value []byte) error) error {
	if _, err := e.table(table); err != nil {
		return err
	}
	return e.read(func() error {
		iter, err := e.pointIter()
		if err != nil {
			return e.readError(err)
		}
		return errors.Join(e.seekAll(iter, table, keys, fn), e.closeIter(iter))
	})
}

// keySpace holds most full keys without an allocation.
const keySpace = 96

// pointIter looks up single keys with SeekPrefixGE. Unlike pebble.DB.Get it
// asks the filters of the last level too, where most keys are: what is looked
// for is often absent (a tombstone, a record to insert), and a filter spares
// the read of a block. It also sets up once what Get does for every key.
func (e *Engine) pointIter() (*pebble.Iterator, error) {
	return e.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
}

// seek finds a key; nil: it is not there. The value is valid until the next seek.
func (e *Engine) seek(iter *pebble.Iterator, key []byte) ([]byte, error) {
	if !iter.SeekPrefixGE(key) || !bytes.Equal(iter.Key(), key) {
		if err := iter.Error(); err != nil {
			return nil, e.readError(err)
		}
		return nil, nil
	}
	raw, err := iter.ValueAndErr()
	if err != nil {
		return nil, e.readError(err)
	}
	return raw, nil
}

func (e *Engine) seekAll(iter *pebble.Iterator, table byte, keys [][]byte, fn func(int, []byte) error) error {
	key := make([]byte, 0, keySpace)
	for i := range keys {
		key = appendKey(key[:0], table, keys[i])
		raw, err := e.seek(iter, key)
		if err == nil && raw == nil {
			err = fn(i, nil)
		} else if err == nil {
			err = visit(raw, i, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// visit hands an item's value to fn, nil for a grave.
func visit(raw []byte, i int, fn func(int, []byte) error) error {
	it, err := parseItem(raw)
	if err != nil {
		return err
	}
	if it.grave {
		return fn(i, nil)
	}
	return fn(i, it.value)
}

// Scan calls fn for the items of a table with from <= key < to, in order of
// key, until it returns false or an error; to nil: to the end. Key and value
// are valid until fn returns.
func (e *Engine) Scan(table byte, from, to []byte, fn func(key, value []byte) (more bool, err error)) error {
	if _, err := e.table(table); err != nil {
		return err
	}
	return e.scan(table, from, to, false, func(key, raw []byte) (bool, error) {
		it, err := parseItem(raw)
		if err != nil {
			return false, err
		}
		if it.grave {
			return true, nil
		}
		return fn(key, it.value)
	})
}

// ScanIndex calls fn for a table's derived rows, as Scan does for its items.
func (e *Engine) ScanIndex(table byte, from, to []byte, fn func(row []byte) (more bool, err error)) error {
	if _, err := e.table(table); err != nil {
		return err
	}
	return e.scan(table+indexSpace, from, to, false, func(row, _ []byte) (bool, error) { return fn(row) })
}

// GetLocal returns a copy of a local row, or ErrNotFound.
func (e *Engine) GetLocal(key []byte) (value []byte, err error) {
	err = e.read(func() error {
		value, err = e.getRaw(appendKey(nil, spaceLocal, key))
		return err
	})
	return value, err
}

func (e *Engine) getRaw(key []byte) ([]byte, error) {
	raw, closer, err := e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, e.readError(err)
	}
	value := append(make([]byte, 0, len(raw)), raw...)
	return value, closer.Close()
}

// ScanLocal calls fn for local rows as Scan does for items; reverse begins
// with the greatest key below to.
func (e *Engine) ScanLocal(from, to []byte, reverse bool, fn func(key, value []byte) (more bool, err error)) error {
	return e.scan(spaceLocal, from, to, reverse, fn)
}

func (e *Engine) scan(space byte, from, to []byte, reverse bool, fn func(key, value []byte) (bool, error)) error {
	lower, upper := bounds(space, from, to)
	return e.read(func() error {
		iter, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return e.readError(err)
		}
		return errors.Join(e.walk(iter, reverse, fn), e.closeIter(iter))
	})
}

func (e *Engine) walk(iter *pebble.Iterator, reverse bool, fn func(key, value []byte) (bool, error)) error {
	begin, step := iter.First, iter.Next
	if reverse {
		begin, step = iter.Last, iter.Prev
	}
	for ok := begin(); ok; ok = step() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return e.readError(err)
		}
		more, err := fn(iter.Key()[1:], value)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// closeIter reports the iterator's own error: a scan that ended early by a
// fault must not look like one that reached its end.
func (e *Engine) closeIter(iter *pebble.Iterator) error {
	if err := iter.Close(); err != nil {
		return e.readError(err)
	}
	return nil
}

// SetLocalBatch writes local rows together and does not wait for the disk: a
// crash may lose them, so they must be rebuildable. No op may read them.
func (e *Engine) SetLocalBatch(rows []KV) error {
	return e.read(func() error {
		batch := e.db.NewBatch()
		for _, row := range rows {
			key := appendKey(nil, spaceLocal, row.Key)
			set := func() error { return batch.Set(key, row.Value, nil) }
			if row.Value == nil {
				set = func() error { return batch.Delete(key, nil) }
			}
			if err := set(); err != nil {
				return errors.Join(err, batch.Close())
			}
		}
		if err := e.db.Apply(batch, pebble.NoSync); err != nil {
			return err
		}
		return batch.Close()
	})
}
