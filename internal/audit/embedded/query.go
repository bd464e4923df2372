package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

const (
	// maxExamined bounds the entries that one call of Query reads.
	maxExamined = 10_000
	// maxScanned bounds the bytes of index rows that one call goes through,
	// to within one second's.
	maxScanned = 8 << 20
	// maxHeldBlocks bounds the blocks that a query keeps at hand.
	maxHeldBlocks = 8
)

// Query implements audit.Reader. It walks the most selective index backwards,
// second by second, and believes none of it: the entry is read from its block
// and every filter is checked on it.
func (l *Log) Query(ctx context.Context, q audit.Query) (found []audit.Found, next string, err error) {
	s, err := newSearch(ctx, l.engine, &q)
	if err != nil {
		return nil, "", err
	}
	from, to := s.bounds()
	if bytes.Compare(from, to) < 0 {
		err = l.engine.ScanLocal(from, to, true, s.row)
	}
	if err == nil && !s.done {
		err = s.endSecond()
	}
	switch {
	case err == nil:
		return s.found, s.next, nil
	case errors.Is(err, audit.ErrCorrupt):
		return nil, "", fmt.Errorf("audit: query: %w", err)
	}
	return nil, "", fmt.Errorf("audit: query: %w: %w", audit.ErrUnavailable, err)
}

// search is one call of Query.
type search struct {
	ctx      context.Context // lives as long as the call
	engine   *wal.Engine
	q        *audit.Query
	after    *audit.Position // the cursor's
	from, to int64           // ms, exclusive
	kind     byte
	digest   digest

	second     int64 // whose rows are being gathered
	candidates []candidate
	scanned    int
	examined   int
	last       audit.Position // examined
	blocks     map[blockID]audit.Block

	found []audit.Found
	next  string
	done  bool
}

type blockID struct {
	log    audit.LogName
	number uint64
}

func newSearch(ctx context.Context, e *wal.Engine, q *audit.Query) (*search, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	s := &search{ctx: ctx, engine: e, q: q, kind: rowTime}
	s.from, s.to = q.Times()
	if after, ok, err := q.After(); err != nil {
		return nil, err
	} else if ok {
		s.after = &after
	}
	value := ""
	switch {
	case q.Record != "":
		s.kind, value = rowRecord, q.Record
	case q.Subject != "":
		s.kind, value = rowSubject, q.Subject
	case q.Actor != "":
		s.kind, value = rowActor, q.Actor
	}
	s.digest = digestOf(s.kind, q.Tenant, value)
	return s, nil
}

// bounds are the rows to look at: whole seconds.
func (s *search) bounds() (from, to []byte) {
	newest := s.to
	if s.after != nil {
		newest = min(newest, s.after.LatestBefore())
	}
	first, _ := floor(s.from)
	last, _ := floor(newest)
	bucket := appendBucket(nil, s.kind, s.digest)
	return audit.AppendTime(bytes.Clone(bucket), first), audit.AppendTime(bytes.Clone(bucket), last+1)
}

// row gathers a row's candidates; rows of one second are neighbours, and its
// entries are in order once all of them are there.
func (s *search) row(key, value []byte) (more bool, err error) {
	sec, err := rowSecond(key)
	if err != nil {
		return false, err
	}
	if sec != s.second {
		if err := s.endSecond(); err != nil || s.done {
			return false, err
		}
		if s.scanned > maxScanned {
			s.stop(audit.Position{Time: s.second * second})
			return false, nil
		}
		s.second = sec
	}
	s.scanned += len(key) + len(value)
	start := len(s.candidates)
	err = parseRow(key, value, s.digest, func(c candidate) {
		if s.from <= c.at.Time && c.at.Time < s.to && (s.after == nil || c.at.Compare(*s.after) < 0) {
			s.candidates = append(s.candidates, c)
		}
	})
	slices.Reverse(s.candidates[start:]) // nearly sorted already
	return err == nil, err
}

// stop ends the call where more may follow.
func (s *search) stop(at audit.Position) { s.next, s.done = s.q.EncodeCursor(at), true }

// endSecond looks at the candidates of a second, newest first. One may be
// there twice: blocks are indexed again after a crash.
func (s *search) endSecond() error {
	slices.SortFunc(s.candidates, func(a, b candidate) int { return b.at.Compare(a.at) })
	for i, c := range s.candidates {
		if i > 0 && c == s.candidates[i-1] {
			continue
		}
		if len(s.found) == s.q.Limit || s.examined == maxExamined {
			s.stop(s.last)
			return nil
		}
		if err := s.examine(c); err != nil {
			return err
		}
	}
	s.candidates = s.candidates[:0]
	return s.ctx.Err()
}

// examine reads the entry that a candidate points to, if it does.
func (s *search) examine(c candidate) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.examined++
	s.last = c.at
	block, ok, err := s.block(blockID{c.at.Log, c.block})
	if err != nil || !ok {
		return err
	}
	leaf := block.Leaf(c.at.Index)
	if !audit.IsEntry(leaf) {
		return nil
	}
	e, err := audit.DecodeEntry(leaf)
	if err != nil {
		return err
	}
	if e.Time == c.at.Time && s.q.Match(&e) {
		s.found = append(s.found, audit.Found{Ref: audit.Ref{Log: c.at.Log.String(), Index: c.at.Index}, Entry: e})
	}
	return nil
}

// block reads a block, or has it at hand: neighbours in time share blocks.
func (s *search) block(id blockID) (audit.Block, bool, error) {
	if b, ok := s.blocks[id]; ok {
		return b, true, nil
	}
	raw, err := s.engine.Get(tableID, blockKey(id.log, id.number))
	if errors.Is(err, wal.ErrNotFound) {
		return audit.Block{}, false, nil
	}
	if err != nil {
		return audit.Block{}, false, err
	}
	b, err := audit.ParseBlock(raw)
	if err != nil || b.Log != id.log || b.Number != id.number {
		return audit.Block{}, false, fmt.Errorf("block %d of log %v: %w", id.number, id.log, audit.ErrCorrupt)
	}
	if s.blocks == nil || len(s.blocks) == maxHeldBlocks {
		s.blocks = make(map[blockID]audit.Block, maxHeldBlocks)
	}
	s.blocks[id] = b
	return b, true, nil
}
