package audit

import (
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

// Position is an entry's place in the order of queries.
type Position struct {
	Time  int64 // Unix milliseconds
	Log   LogName
	Index uint64
}

// AppendKey appends the position in a form whose byte order is that of time,
// log and index.
func (p Position) AppendKey(dst []byte) []byte {
	dst = AppendTime(dst, p.Time)
	dst = p.Log.AppendKey(dst)
	return binary.BigEndian.AppendUint64(dst, p.Index)
}

// AppendTime appends the part of a position's key that orders by time.
func AppendTime(dst []byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(ms)^(1<<63)) //nolint:gosec // G115: the sign bit is flipped so that byte order is time's
}

// ParsePosition is AppendKey's strict inverse.
func ParsePosition(key []byte) (Position, error) {
	if len(key) < 8 {
		return Position{}, fmt.Errorf("position: %w", ErrCorrupt)
	}
	ms := int64(binary.BigEndian.Uint64(key) ^ (1 << 63)) //nolint:gosec // G115: the inverse of AppendTime
	log, rest, err := CutKey(key[8:])
	if err != nil || len(rest) != 8 {
		return Position{}, fmt.Errorf("position: %w", ErrCorrupt)
	}
	return Position{Time: ms, Log: log, Index: binary.BigEndian.Uint64(rest)}, nil
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
