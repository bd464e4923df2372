// Package audit is the append-only Merkle log of who did what: an entry is
// durable before the value it speaks of leaves, and no entry can be changed,
// removed or reordered unseen by whoever holds a later root (RFC 6962
// hashing; design §7).
//
// The log of one process life is a sequence of leaves: first the claim of its
// epoch, then entries. They are stored in blocks. A block carries, besides its
// leaves, the right edge of the tree before them and the root after them; so
// it is checked on its own, and any hash of the tree is recomputed from the
// one block that completed it: a proof reads log2(n) blocks, and no hash is
// stored twice.
package audit

import (
	"context"
	"errors"
)

// Sentinels of every implementation.
var (
	// ErrUnavailable: the entries may not be durable; nothing may be released on them.
	ErrUnavailable = errors.New("audit: unavailable")
	// ErrEntry: the entries cannot be recorded as they are, and were not (Entry says what is valid).
	ErrEntry = errors.New("audit: not a valid entry")
	// ErrClaimed: another process claimed the epoch; the next one may be free.
	ErrClaimed = errors.New("audit: the epoch is claimed already")
	// ErrName: not a log's name.
	ErrName = errors.New("audit: not a log name")
	// ErrQuery: the query asks for what no implementation answers.
	ErrQuery = errors.New("audit: bad query")
	// ErrCursor: the cursor is not one that Query returned for these filters.
	ErrCursor = errors.New("audit: bad cursor")
	// ErrCorrupt: stored bytes are no encoding that this version knows.
	ErrCorrupt = errors.New("audit: stored bytes are corrupt")
	// ErrTampered: the stored log is not the one that its roots, its
	// successor or a known head speak of.
	ErrTampered = errors.New("audit: the log is not what it was")
	// ErrUnfinished: blocks are behind a hole, and nothing tells whether the
	// log ended there or the hole was made later.
	ErrUnfinished = errors.New("audit: nothing says where the log ends")
)

// Receipt names the entries of one Append: they are contiguous.
type Receipt struct {
	Log     string
	First   uint64
	Entries int
}

// At names the i-th entry of the Append.
func (r Receipt) At(i int) Ref {
	return Ref{Log: r.Log, Index: r.First + uint64(i)}
}

// Pending is an append under way. It serves one goroutine.
type Pending interface {
	// Wait returns once the entries and all before them are durable, or with
	// an error: then they must be taken for not durable. Only the first call
	// may block; it must be called.
	Wait(ctx context.Context) (Receipt, error)
}

// Log is the one writer of one process life's log. It is safe for concurrent use.
type Log interface {
	// Append begins to make entries durable and does not block. It keeps the
	// entries' order, and all of them are durable or none is. It encodes them
	// before it returns and keeps no reference to them.
	Append(entries []Entry) Pending
}

// MaxLimit is the largest Limit of a Query.
const MaxLimit = 1000

// Query selects entries of exactly one tenant ("" has the entries of none);
// the other fields select all where they are empty. Times are Unix ms, From
// inclusive, To exclusive, 0 meaning unbounded. Limit is 1 to MaxLimit.
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

// Reader answers queries over every log that this region's table holds, its
// own and replicated ones, newest first: by time, then log (region, instance,
// epoch), then index, all descending. It reads indexes, which are a
// convenience: whoever doubts them verifies the log.
type Reader interface {
	// Query returns at most Limit entries and, where more may follow, a
	// cursor. A call does a bounded amount of work: fewer entries than Limit,
	// even none, with a cursor mean that there is more to look through.
	// Following cursors to the end gives every matching entry that was
	// visible at the first page once; one that becomes visible meanwhile may
	// be among them. An entry is visible at the latest a second after it is
	// durable in this region. Errors: ErrQuery, ErrCursor, ErrCorrupt,
	// ErrUnavailable.
	Query(ctx context.Context, q Query) (found []Found, next string, err error)
}
