package wal

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// Outbox lists at most limit changes that were written here, after the given
// sequence number, oldest first. The same item may be listed more than once.
func (e *Engine) Outbox(after uint64, limit int) (changes []Change, err error) {
	if limit <= 0 || after+1 == 0 {
		return nil, nil
	}
	from := []byte(outboxKey(after + 1))[1:]
	err = e.scan(spaceOutbox, from, nil, false, func(key, value []byte) (bool, error) {
		if len(key) != 8 || len(value) == 0 {
			return false, fmt.Errorf("outbox row: %w", ErrCorrupt)
		}
		changes = append(changes, Change{
			Seq:   binary.BigEndian.Uint64(key),
			Table: value[0],
			Key:   slices.Clone(value[1:]),
		})
		return len(changes) < limit, nil
	})
	return changes, err
}

// Export reads the items of changes as they are now, each once, and returns
// when what it read is durable: a region must never hold what another could
// still lose.
func (e *Engine) Export(ctx context.Context, changes []Change) ([]Replica, error) {
	var replicas []Replica
	err := e.Submit(func(tx *Tx) error {
		done := make(map[string]bool, len(changes))
		for _, c := range changes {
			name := tx.name(c.Table, c.Key)
			if done[name] {
				continue
			}
			done[name] = true
			raw, err := tx.load(c.Table, c.Key)
			if err != nil {
				return err
			}
			if raw == nil {
				return fmt.Errorf("export an item: %w", ErrNotFound)
			}
			replicas = append(replicas, Replica{Table: c.Table, Key: slices.Clone(c.Key), Item: slices.Clone(raw)})
		}
		return nil
	}).Wait(ctx)
	if err != nil {
		return nil, err
	}
	return replicas, nil
}

// Apply takes items of other regions over, each where its stamp wins, and is
// durable when it returns. They are not exported again. Applying a replica
// twice, or late, changes nothing.
func (e *Engine) Apply(ctx context.Context, replicas []Replica) error {
	return e.Submit(func(tx *Tx) error {
		for _, r := range replicas {
			if err := tx.applyReplica(r); err != nil {
				return err
			}
		}
		return nil
	}).Wait(ctx)
}

func (tx *Tx) applyReplica(r Replica) error {
	if _, err := tx.e.table(r.Table); err != nil {
		return err
	}
	next, err := parseItem(r.Item)
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	raw, err := tx.load(r.Table, r.Key)
	if err != nil {
		return err
	}
	if raw != nil {
		have, err := parseItem(raw)
		if err != nil {
			return fmt.Errorf("item under a replica: %w", err)
		}
		if !next.newer(have) {
			return nil
		}
	}
	tx.clock.stamp = max(tx.clock.stamp, next.stamp)
	tx.replace(r.Table, r.Key, tx.keep(r.Item))
	return tx.err
}

// Ack drops the outbox rows up to and including a sequence number.
func (e *Engine) Ack(ctx context.Context, through uint64) error {
	var rows []string
	err := e.scan(spaceOutbox, nil, []byte(outboxKey(through))[1:], false, func(key, _ []byte) (bool, error) {
		rows = append(rows, outboxKey(binary.BigEndian.Uint64(key)))
		return true, nil
	})
	if err != nil {
		return err
	}
	rows = append(rows, outboxKey(through))
	return e.Submit(func(tx *Tx) error {
		for _, row := range rows {
			tx.writes = append(tx.writes, write{key: row, delete: true})
		}
		return nil
	}).Wait(ctx)
}

// Changed is signalled after a commit with outbox rows. It is one channel
// with room for one signal: the reader lists until it finds nothing new.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

func (e *Engine) signalChange() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}
