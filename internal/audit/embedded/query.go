package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

const (
	// maxExamined bounds the index rows that one call of Query looks at.
	maxExamined = 10_000
	// maxHeldBlocks bounds the blocks that a query keeps at hand.
	maxHeldBlocks = 8
)

// Query implements audit.Reader. It walks the rows of the most selective
// index backwards and believes none: the entry is read from its block and
// every filter is checked on it.
func (l *Log) Query(ctx context.Context, q audit.Query) (found []audit.Found, next string, err error) {
	if err := q.Validate(); err != nil {
		return nil, "", err
	}
	s := search{engine: l.engine, q: &q, ctx: ctx}
	from, to, err := s.bounds()
	if err == nil && bytes.Compare(from, to) < 0 {
		err = l.engine.ScanLocal(from, to, true, s.row)
	}
	switch {
	case err == nil:
		return s.found, s.next, nil
	case errors.Is(err, audit.ErrCorrupt) || errors.Is(err, audit.ErrCursor):
		return nil, "", fmt.Errorf("audit: query: %w", err)
	}
	return nil, "", fmt.Errorf("audit: query: %w: %w", audit.ErrUnavailable, err)
}

// search is one call of Query.
type search struct {
	ctx      context.Context // lives as long as the call
	engine   *wal.Engine
	q        *audit.Query
	found    []audit.Found
	next     string
	last     audit.Position // of the last row that was examined
	examined int
	blocks   map[string]audit.Block // by key
}

// bounds are the rows to look at, of the index with the fewest.
func (s *search) bounds() (from, to []byte, err error) {
	kind, value := byte(rowTime), ""
	switch {
	case s.q.Record != "":
		kind, value = rowRecord, s.q.Record
	case s.q.Subject != "":
		kind, value = rowSubject, s.q.Subject
	case s.q.Actor != "":
		kind, value = rowActor, s.q.Actor
	}
	prefix := appendRowPrefix(make([]byte, 0, 128), kind, s.q.Tenant, value)
	earliest, latest := s.q.Times()
	from = audit.AppendTime(bytes.Clone(prefix), earliest)
	to = audit.AppendTime(bytes.Clone(prefix), latest)
	after, ok, err := s.q.After()
	if ok {
		if key := after.AppendKey(prefix); bytes.Compare(key, to) < 0 {
			to = key
		}
	}
	return from, to, err
}

// row looks at one index row.
func (s *search) row(key, place []byte) (more bool, err error) {
	if err := s.ctx.Err(); err != nil {
		return false, err
	}
	if len(s.found) == s.q.Limit || s.examined == maxExamined {
		s.next = s.q.EncodeCursor(s.last)
		return false, nil
	}
	at, err := audit.ParsePosition(key[rowPrefixSize:])
	if err != nil || len(place) != 8 {
		return false, fmt.Errorf("index row: %w", audit.ErrCorrupt)
	}
	s.examined++
	s.last = at
	e, ok, err := s.entry(at, binary.BigEndian.Uint64(place))
	if err != nil {
		return false, err
	}
	if ok && e.Time == at.Time && s.q.Match(&e) {
		s.found = append(s.found, audit.Found{Ref: audit.Ref{Log: at.Log.String(), Index: at.Index}, Entry: e})
	}
	return true, nil
}

// entry reads an entry from its block; ok is false where a row points nowhere.
func (s *search) entry(at audit.Position, number uint64) (e audit.Entry, ok bool, err error) {
	block, ok, err := s.block(at.Log, number)
	if err != nil || !ok {
		return audit.Entry{}, false, err
	}
	leaf := block.Leaf(at.Index)
	if !audit.IsEntry(leaf) {
		return audit.Entry{}, false, nil
	}
	e, err = audit.DecodeEntry(leaf)
	return e, err == nil, err
}

// block reads a block, or has it at hand: neighbours in time share blocks.
func (s *search) block(log audit.LogName, number uint64) (audit.Block, bool, error) {
	key := blockKey(log, number)
	if b, ok := s.blocks[string(key)]; ok {
		return b, true, nil
	}
	raw, err := s.engine.Get(tableID, key)
	if errors.Is(err, wal.ErrNotFound) {
		return audit.Block{}, false, nil
	}
	if err != nil {
		return audit.Block{}, false, err
	}
	b, err := audit.ParseBlock(raw)
	if err != nil || b.Log != log || b.Number != number {
		return audit.Block{}, false, fmt.Errorf("block %d of log %v: %w", number, log, audit.ErrCorrupt)
	}
	if s.blocks == nil || len(s.blocks) == maxHeldBlocks {
		s.blocks = make(map[string]audit.Block, maxHeldBlocks)
	}
	s.blocks[string(key)] = b
	return b, true, nil
}
