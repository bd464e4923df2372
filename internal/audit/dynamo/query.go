package dynamo

import (
	"context"
	"fmt"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

const (
	// maxExamined bounds the entries that one call of Query reads.
	maxExamined = 10_000
	// maxScanned bounds the postings that one call goes through, to within one second's.
	maxScanned = 200_000
	// examinedAtOnce bounds the entries whose blocks are read together.
	examinedAtOnce = 64
)

// Query implements audit.Reader. It walks the most selective index backwards,
// second by second, and believes none of it: the entry is read from its block
// and every filter is checked on it.
func (l *Log) Query(ctx context.Context, q audit.Query) (found []audit.Found, next string, err error) {
	s, err := newSearch(&q)
	if err != nil {
		return nil, "", err
	}
	s.log = l
	if from, to := s.bounds(); from <= to {
		err = l.Client.Query(ctx, dynamo.Query{
			Table: l.config.Index, Where: "pk = :pk AND sk BETWEEN :from AND :to", Backward: true,
			Values: dynamo.Item{":pk": dynamo.String(s.pk), ":from": dynamo.String(from), ":to": dynamo.String(to)},
		}, func(item dynamo.Item) (bool, error) { return s.row(ctx, item) })
	}
	if err == nil && !s.done {
		err = s.endSecond(ctx)
	}
	if err != nil {
		return nil, "", fault("query", err)
	}
	return s.found, s.next, nil
}

// search is one call of Query.
type search struct {
	log      *Log
	q        *audit.Query
	after    *audit.Position // the cursor's
	from, to int64           // ms, exclusive
	pk       string

	second     int64 // whose rows are being gathered
	candidates []candidate
	scanned    int
	examined   int
	last       audit.Position // examined
	blocks     map[dynamo.Key]audit.Block

	found []audit.Found
	next  string
	done  bool
}

func newSearch(q *audit.Query) (*search, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	s := &search{q: q}
	s.from, s.to = q.Times()
	after, ok, err := q.After()
	if err != nil {
		return nil, err
	}
	if ok {
		s.after = &after
	}
	kind, value := byte(rowTime), ""
	switch {
	case q.Record != "":
		kind, value = rowRecord, q.Record
	case q.Subject != "":
		kind, value = rowSubject, q.Subject
	case q.Actor != "":
		kind, value = rowActor, q.Actor
	}
	s.pk = indexPartition(kind, q.Tenant, value)
	return s, nil
}

// bounds are the rows to look at: whole seconds.
func (s *search) bounds() (from, to string) {
	newest := s.to
	if s.after != nil {
		newest = min(newest, s.after.LatestBefore())
	}
	first, _ := floor(s.from)
	last, _ := floor(newest)
	return secondKey(first), secondKey(last) + "~"
}

// row gathers a row's candidates; rows of one second are neighbours, and its
// entries are in order once all of them are there.
func (s *search) row(ctx context.Context, item dynamo.Item) (more bool, err error) {
	sec, found, err := parseRow(item)
	if err != nil {
		return false, err
	}
	if sec != s.second {
		if err := s.endSecond(ctx); err != nil || s.done {
			return false, err
		}
		if s.scanned > maxScanned {
			s.stop(audit.Position{Time: s.second * second})
			return false, nil
		}
		s.second = sec
	}
	s.scanned += len(found)
	for _, c := range found {
		if s.from <= c.at.Time && c.at.Time < s.to && (s.after == nil || c.at.Compare(*s.after) < 0) {
			s.candidates = append(s.candidates, c)
		}
	}
	return true, nil
}

// stop ends the call where more may follow.
func (s *search) stop(at audit.Position) { s.next, s.done = s.q.EncodeCursor(at), true }

// endSecond looks at the candidates of a second, newest first. One may be
// there twice: blocks are indexed again after a crash.
func (s *search) endSecond(ctx context.Context) error {
	slices.SortFunc(s.candidates, func(a, b candidate) int { return b.at.Compare(a.at) })
	rest := slices.Compact(s.candidates)
	for len(rest) > 0 {
		n := min(len(rest), examinedAtOnce, max(s.q.Limit-len(s.found), 1))
		if err := s.fetch(ctx, rest[:n]); err != nil {
			return err
		}
		for _, c := range rest[:n] {
			if len(s.found) == s.q.Limit || s.examined == maxExamined {
				s.stop(s.last)
				return nil
			}
			if err := s.examine(c); err != nil {
				return err
			}
		}
		rest = rest[n:]
	}
	s.candidates = s.candidates[:0]
	return nil
}

// fetch reads the blocks of some candidates in one go; neighbours in time share them.
func (s *search) fetch(ctx context.Context, some []candidate) error {
	blocks := make(map[dynamo.Key]audit.Block, len(some))
	asked := make(map[dynamo.Key]bool, len(some))
	var ask []dynamo.Key
	for _, c := range some {
		key := blockKey(c.at.Log, c.block)
		if b, ok := s.blocks[key]; ok {
			blocks[key] = b
		} else if !asked[key] {
			asked[key] = true
			ask = append(ask, key)
		}
	}
	s.blocks = blocks
	return s.log.Client.BatchGet(ctx, s.log.Table, ask, "", func(item dynamo.Item) error {
		number, raw, err := readBlock(item)
		if err != nil || raw == nil {
			return err
		}
		b, err := audit.ParseBlock(raw)
		key := dynamo.Read(item).Key()
		if err != nil || b.Number != number || blockKey(b.Log, number) != key {
			return fmt.Errorf("block %d: %w", number, audit.ErrCorrupt)
		}
		blocks[key] = b
		return nil
	})
}

// examine reads the entry that a candidate points to, if it does.
func (s *search) examine(c candidate) error {
	s.examined++
	s.last = c.at
	block, ok := s.blocks[blockKey(c.at.Log, c.block)]
	if !ok {
		return nil
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
