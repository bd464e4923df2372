// Package audit is the append-only Merkle log of who did what: an entry is
// durable before the value it speaks of leaves, and no entry can be changed,
// removed or reordered unseen by whoever holds a later root (RFC 6962
// hashing; design §7).
package audit

import (
	"context"
	"errors"
)

// ErrUnavailable: the entries may not be durable; nothing may be released on them.
var ErrUnavailable = errors.New("audit: unavailable")

// Receipt names the entries of one Append: they are contiguous.
type Receipt struct {
	Log     string
	First   uint64
	Entries int
}

// Pending is an append under way.
type Pending interface {
	// Wait returns once the entries and all before them are durable, or with
	// an error: then they must be taken for not durable. Only the first call
	// may block; it must be called.
	Wait(ctx context.Context) (Receipt, error)
}

// Log is the one writer of one process life's log.
type Log interface {
	// Append begins to make entries durable and does not block. The slice
	// belongs to the log afterwards.
	Append(entries []Entry) Pending
}

// Query selects entries; empty fields select all. Times are Unix ms, From
// inclusive, To exclusive. Limit is 1 to 1,000.
type Query struct {
	Tenant                                        string
	Actor, Record, Subject, Type, Action, Purpose string
	Outcome                                       Outcome
	From, To                                      int64
	Limit                                         int
	Cursor                                        string
}

// Found is an entry and its place.
type Found struct {
	Ref
	Entry Entry
}

// ErrCursor: the cursor is not one that Query returned.
var ErrCursor = errors.New("audit: bad cursor")

// Reader answers queries over every log that this region's table holds, its
// own and replicated ones, newest first (time, then log, then index).
type Reader interface {
	// Query returns at most Limit entries and, where more may follow, a
	// cursor. An entry appears at the latest a second after it is durable.
	Query(ctx context.Context, q Query) (found []Found, next string, err error)
}
