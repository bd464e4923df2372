package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

// cursorV1 is the first byte of a cursor.
const cursorV1 = 1

// filterSize is the length of the digest that ties a cursor to its filters.
const filterSize = 8

// Position is a place in the order of queries: an entry's or, without Log, the
// one before all entries of its time.
type Position struct {
	Time  int64 // Unix milliseconds
	Log   LogName
	Index uint64
}

// Compare orders positions, oldest first: by time, log and index.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Time, q.Time); c != 0 {
		return c
	}
	if p.Log == q.Log {
		return cmp.Compare(p.Index, q.Index)
	}
	return bytes.Compare(p.AppendKey(nil), q.AppendKey(nil))
}

// LatestBefore is the latest time that a position before p can have.
func (p Position) LatestBefore() int64 {
	if p.Log == (LogName{}) {
		return p.Time - 1
	}
	return p.Time
}

// AppendKey appends the position in a form whose byte order is Compare's.
func (p Position) AppendKey(dst []byte) []byte {
	dst = AppendTime(dst, p.Time)
	if p.Log == (LogName{}) {
		return dst
	}
	return binary.BigEndian.AppendUint64(p.Log.AppendKey(dst), p.Index)
}

// AppendTime appends a time so that byte order is its order.
func AppendTime(dst []byte, t int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t)^(1<<63))
}

// ParseTime is AppendTime's inverse on the first 8 bytes of b.
func ParseTime(b []byte) int64 {
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

// ParsePosition is AppendKey's strict inverse.
func ParsePosition(key []byte) (Position, error) {
	if len(key) < 8 {
		return Position{}, fmt.Errorf("position: %w", ErrCorrupt)
	}
	p := Position{Time: ParseTime(key)}
	if len(key) == 8 {
		return p, nil
	}
	log, rest, err := CutKey(key[8:])
	if err != nil || len(rest) != 8 {
		return Position{}, fmt.Errorf("position: %w", ErrCorrupt)
	}
	p.Log, p.Index = log, binary.BigEndian.Uint64(rest)
	return p, nil
}

// EncodeCursor says where the page after p begins. A cursor is validated, not
// authenticated: tenant and filters are checked on every entry anyway.
func (q *Query) EncodeCursor(p Position) string {
	b := make([]byte, 0, 128)
	b = append(b, cursorV1)
	b = append(b, q.filters()...)
	return base64.RawURLEncoding.EncodeToString(p.AppendKey(b))
}

// After decodes q.Cursor: only entries before the position in the order of
// time are left. ok is false where there is no cursor.
func (q *Query) After() (p Position, ok bool, err error) {
	if q.Cursor == "" {
		return Position{}, false, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil || len(b) < 1+filterSize || b[0] != cursorV1 || string(b[1:1+filterSize]) != string(q.filters()) {
		return Position{}, false, ErrCursor
	}
	p, err = ParsePosition(b[1+filterSize:])
	if err != nil || q.EncodeCursor(p) != q.Cursor { // base64 decoding skips line breaks
		return Position{}, false, ErrCursor
	}
	return p, true, nil
}

func (q *Query) filters() []byte {
	b := make([]byte, 0, 256)
	for _, s := range []string{q.Tenant, q.Actor, q.Record, q.Subject, q.Type, q.Action, q.Purpose, string(q.Outcome)} {
		b = appendString(b, s)
	}
	b = AppendTime(AppendTime(b, q.From), q.To)
	sum := sha256.Sum256(b)
	return sum[:filterSize]
}

// Validate reports ErrQuery or ErrCursor.
func (q *Query) Validate() error {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return fmt.Errorf("limit: %w", ErrQuery)
	}
	_, _, err := q.After()
	return err
}

// Times gives the bounds of the query, from inclusive, to exclusive.
func (q *Query) Times() (from, to int64) {
	from, to = q.From, q.To
	if from == 0 {
		from = math.MinInt64
	}
	if to == 0 {
		to = math.MaxInt64
	}
	return from, to
}

// Match reports whether the entry itself passes every filter.
func (q *Query) Match(e *Entry) bool {
	from, to := q.Times()
	return e.Tenant == q.Tenant && from <= e.Time && e.Time < to &&
		match(q.Actor, e.Actor) && match(q.Record, e.Record) && match(q.Subject, e.Subject) &&
		match(q.Type, e.Type) && match(q.Action, e.Action) && match(q.Purpose, e.Purpose) &&
		match(string(q.Outcome), string(e.Outcome))
}

func match(filter, value string) bool { return filter == "" || filter == value }
