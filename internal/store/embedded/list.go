package embedded

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"piivault/internal/store"
	"piivault/internal/wal"
)

// Derived rows (format.md §5): a letter, what is looked for, and the key.
const (
	bySubject  = 's' // name subject: of R with a subject, and of every L
	byGap      = 'g' // name region: of R, for each missing region
	byDegraded = 'd' // of R with a missing region, once
	byExpiry   = 'e' // 8 bytes: of R that expires
)

// sweepSpace begins local rows: then the key, kind and subject of a row that
// is, or may be, to be swept.
const sweepSpace = "Rw"

// indexRows is the table's wal.Table.Index.
func indexRows(row, value []byte) (rows [][]byte, err error) {
	if isBeat(row) {
		_, err := parseBeat(value)
		return nil, err
	}
	k, err := parseRow(row)
	if err != nil {
		return nil, err
	}
	switch k.kind {
	case kindTombstone:
		return nil, checkBare(value)
	case kindLink:
		return [][]byte{subjectRow(k, k.subject)}, checkBare(value)
	}
	r, err := parseRecord(value)
	if err != nil {
		return nil, err
	}
	if len(r.subject) > 0 {
		rows = append(rows, subjectRow(k, r.subject))
	}
	for _, region := range r.missing {
		rows = append(rows, append(appendName([]byte{byGap}, region), k.head...))
	}
	if len(r.missing) > 0 {
		rows = append(rows, append([]byte{byDegraded}, k.head...))
	}
	if r.expires != 0 {
		rows = append(rows, append(expiryPrefix(r.expires), k.head...))
	}
	return rows, nil
}

// subjectRow ends with the kind, for an R and an L may name the same subject.
func subjectRow(k rowKey, subject []byte) []byte {
	b := make([]byte, 0, 1+1+len(k.tenant)+1+len(subject)+len(k.head)+1)
	b = appendName(appendName(append(b, bySubject), k.tenant), subject)
	return append(append(b, k.head...), k.kind)
}

// expiryPrefix sorts times before 1970 first, as int64 does.
func expiryPrefix(ms int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byExpiry}, uint64(ms)^1<<63)
}

// trackSweep is the table's wal.Table.Changed: it notes what Swept lists. A
// tombstone is noted when it arrives, for the R and L that are there by then;
// an R or L that arrives later, by replication, is noted itself.
func trackSweep(tx *wal.Tx, row, value []byte) error {
	if isBeat(row) {
		return nil
	}
	k, err := parseRow(row)
	if err != nil {
		return err
	}
	note := func() []byte { return append([]byte(sweepSpace), row...) }
	if value == nil {
		tx.DeleteLocal(note())
		return nil
	}
	late := k.kind == kindTombstone
	if !late {
		if late, err = has(tx, append(k.head, kindTombstone)); err != nil {
			return err
		}
	}
	if late {
		tx.SetLocal(note(), bareValue())
	}
	return nil
}

// BySubject implements store.Store.
func (s *Store) BySubject(ctx context.Context, tenant, subject string, page store.Page) ([]store.Key, string, error) {
	if checkKey(tenant, subject) != nil || len(subject) > maxName {
		return nil, "", fault("list by subject", errInvalid)
	}
	prefix := appendName(appendName([]byte{bySubject}, tenant), subject)
	return s.list(ctx, "list by subject", prefix, nil, page)
}

// Degraded implements store.Store.
func (s *Store) Degraded(ctx context.Context, region string, page store.Page) ([]store.Key, string, error) {
	if region == "" || len(region) > maxName {
		return nil, "", fault("list degraded records", errInvalid)
	}
	return s.list(ctx, "list degraded records", appendName([]byte{byGap}, region), nil, page)
}

// Expired implements store.Store: the longest expired first.
func (s *Store) Expired(ctx context.Context, before int64, page store.Page) ([]store.Key, string, error) {
	return s.list(ctx, "list expired records", []byte{byExpiry}, after(expiryPrefix(before)), page)
}

// list reads keys from derived rows: rows begin with prefix and end before end
// (nil: behind the prefix). What stands between prefix and key, and behind the
// key, is skipped; a key that follows itself is listed once.
func (s *Store) list(ctx context.Context, doing string, prefix, end []byte, page store.Page) (keys []store.Key, next string, err error) {
	l := &listing{head: len(prefix), page: page}
	if prefix[0] == byExpiry {
		l.head += 8
	}
	if end == nil {
		end = after(prefix)
	}
	from, err := l.begin(ctx, prefix)
	if err == nil {
		err = s.e.ScanIndex(tableID, from, end, l.add)
	}
	if err != nil {
		return nil, "", fault(doing, err)
	}
	return l.keys, l.next, nil
}

// listing gathers a page. Its cursor is the end of the last row listed, from
// behind the prefix to behind the key.
type listing struct {
	head int // bytes before the key
	skip int // bytes before what the cursor holds
	page store.Page
	keys []store.Key
	last []byte // the last row, to the end of its key
	next string
}

// begin gives the first row to read.
func (l *listing) begin(ctx context.Context, prefix []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.page.Limit < 1 {
		return nil, fmt.Errorf("%w: a page needs a limit of at least 1", errInvalid)
	}
	l.skip = len(prefix)
	if l.page.After == "" {
		return prefix, nil
	}
	cursor, err := base64.RawURLEncoding.DecodeString(l.page.After)
	if err != nil {
		return nil, fmt.Errorf("%w: not a cursor of a listing", errInvalid)
	}
	return after(append(bytes.Clone(prefix), cursor...)), nil
}

func (l *listing) add(row []byte) (more bool, err error) {
	k, rest, ok := takeKey(row[min(l.head, len(row)):])
	if !ok {
		return false, fmt.Errorf("derived row: %w", wal.ErrCorrupt)
	}
	if bytes.Equal(row[:len(row)-len(rest)], l.last) {
		return true, nil
	}
	if len(l.keys) == l.page.Limit {
		l.next = base64.RawURLEncoding.EncodeToString(l.last[l.skip:])
		return false, nil
	}
	l.keys = append(l.keys, k.key())
	l.last = append(l.last[:0], row[:len(row)-len(rest)]...)
	return true, nil
}

// CountDegraded implements store.Store: it reads at most limit+1 rows for each
// region and for the total.
func (s *Store) CountDegraded(ctx context.Context, limit int) (perRegion map[string]int, total int, err error) {
	perRegion = map[string]int{}
	for from := []byte{byGap}; err == nil && from != nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		var region string
		if region, err = s.regionFrom(from); region == "" {
			break
		}
		prefix := appendName([]byte{byGap}, region)
		perRegion[region], err = s.count(prefix, limit)
		from = after(prefix)
	}
	if err == nil {
		total, err = s.count([]byte{byDegraded}, limit)
	}
	if err != nil {
		return nil, 0, fault("count degraded records", err)
	}
	return perRegion, total, nil
}

// regionFrom names the region of the first by-gap row from there on, "" for none.
func (s *Store) regionFrom(from []byte) (region string, err error) {
	err = s.e.ScanIndex(tableID, from, []byte{byGap + 1}, func(row []byte) (bool, error) {
		name, _, ok := takeName(row[1:])
		if !ok {
			return false, fmt.Errorf("derived row: %w", wal.ErrCorrupt)
		}
		region = string(name)
		return false, nil
	})
	return region, err
}

func (s *Store) count(prefix []byte, limit int) (n int, err error) {
	err = s.e.ScanIndex(tableID, prefix, after(prefix), func([]byte) (bool, error) {
		if n < limit {
			n++
		}
		return n < limit, nil
	})
	return n, err
}

// Swept implements store.Store. It reads the notes of trackSweep and looks
// each up; a note with nothing left to sweep is dropped on the way.
func (s *Store) Swept(ctx context.Context, page store.Page) (keys []store.Key, next string, err error) {
	l := &listing{head: len(sweepSpace), page: page}
	from, err := l.begin(ctx, []byte(sweepSpace))
	if err != nil {
		return nil, "", fault("list what to sweep", err)
	}
	var settled [][]byte
	err = s.e.ScanLocal(from, after([]byte(sweepSpace)), false, func(note, _ []byte) (bool, error) {
		row := note[len(sweepSpace):]
		k, err := parseRow(row)
		if err != nil {
			return false, err
		}
		if k.kind == kindTombstone {
			empty, err := s.settled(row)
			if err != nil {
				return false, err
			}
			if empty {
				settled = append(settled, bytes.Clone(note))
				return true, nil
			}
		}
		return l.add(note)
	})
	if err != nil {
		return nil, "", fault("list what to sweep", err)
	}
	s.drop(settled)
	return l.keys, l.next, nil
}

// settled reports that a tombstone has neither an R nor an L. What arrives
// later is noted itself, so its note may be dropped.
func (s *Store) settled(tombstone []byte) (bool, error) {
	empty := true
	from := tombstone[:len(tombstone)-1]
	err := s.e.Scan(tableID, from, tombstone, func(_, _ []byte) (bool, error) {
		empty = false
		return false, nil
	})
	return empty, err
}

// drop removes notes with the next group that somebody waits for; should it
// fail, the next Swept finds them again.
func (s *Store) drop(notes [][]byte) {
	if len(notes) == 0 {
		return
	}
	s.e.Submit(func(tx *wal.Tx) error {
		for _, note := range notes {
			tx.DeleteLocal(note)
		}
		return nil
	})
}
