// Package store is the contract for one region's table of records: encrypted
// messages and their metadata, tombstones, and the links from a subject to
// the deterministic records it shares. It never sees a value or a token.
//
// Items are insert-only, but for Replace (repair) and Delete (sweeper);
// conditions hold inside one region, so correctness never rests on a
// condition across regions (design §5).
package store

import (
	"context"
	"errors"
)

// Sentinels of every implementation. Anything else is a fault: the caller
// must read back before it concludes what happened.
var (
	// ErrConflict: the condition of a Replace did not hold; nothing was written.
	ErrConflict = errors.New("store: the record is not what was read")
	// ErrUnavailable: the store cannot answer now; the write may or may not have been applied.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrCursor: a Scan was asked to go on after what is no cursor of its own.
	ErrCursor = errors.New("store: not a cursor of this scan")
)

// Ref names a record: what a token hashes to, inside its tenant.
type Ref struct {
	Tenant string
	ID     string // base64url HMAC of the token, 43 characters
	// Generations asks Read to look past X#0: set for deterministic types only.
	Generations bool
}

// Key names one generation of a record.
type Key struct {
	Tenant, ID string
	Generation uint32
}

// Record is one R#g row.
type Record struct {
	Key
	Type      string
	Message   []byte // AWS Encryption SDK message
	Created   int64  // Unix milliseconds
	Expires   int64  // Unix milliseconds; 0: never. Checked by the reader, not by the store
	Subject   string // HMAC of the subject id, "" where the row names none
	RingEpoch uint64
	Home      string   // region that accepted it
	Missing   []string // sorted regions without a key copy; nil unless degraded
}

// State is what Read found for a Ref.
type State struct {
	// Generation is the lowest generation without a tombstone.
	Generation uint32
	// Record is R#Generation, nil where there is none.
	Record *Record
}

// Erased reports that some generation of the record has a tombstone.
func (s State) Erased() bool { return s.Generation > 0 }

// New is a record to insert, with what must be durable before it.
type New struct {
	Record *Record
	// Links are subject ids of a deterministic record: an L#g#subject each,
	// durable before R#g. A New with Links whose R#g exists still writes them.
	Links []string
	// Fresh: the ID comes from at least 128 random bits that were drawn for
	// this record, so nothing of it can exist and the store need not look.
	// Inserting the same record again, after an error, is still safe.
	Fresh bool
	// Unburied: the caller has just read that there is no X#g, and the store
	// need not look again. One that has come since is a concurrent erasure,
	// which wins; the outcome need not tell of it.
	Unburied bool
}

// Outcome of one New.
type Outcome uint8

// The outcomes of Insert.
const (
	Inserted Outcome = iota + 1
	Exists           // R#g was there; it was left as it is
	Buried           // X#g is there; nothing was written for this New
)

// Page asks for a part of a listing.
type Page struct {
	After string // cursor of the previous page, "" for the first
	Limit int
}

// Part is what a Scan is to walk: one of the segments that the table is cut
// into, so that several walkers may share it. The segments are disjoint and
// together the whole table, of any size: all may be in the first.
type Part struct {
	Segment, Segments int    // 0 <= Segment < Segments
	Below             uint64 // ring epochs to list, lower than this; 0: all
}

// Row is what a Scan tells of a record.
type Row struct {
	Key
	RingEpoch uint64
	Expires   int64    // as in Record
	Missing   []string // as in Record
}

// Store is one region's records table. All methods are safe for concurrent
// use, honour ctx, and are strongly consistent inside the region unless they
// say otherwise.
type Store interface {
	// Read answers in the order of refs. A key that could not be read is an
	// error of the whole call, never an absent record.
	Read(ctx context.Context, refs []Ref) ([]State, error)

	// Insert writes each New unless its R#g or X#g exists in this region; the
	// outcomes are in the order given. When it returns nil error all that was
	// Inserted is durable. On an error any subset may have been written:
	// calling again with the same records is safe and completes it.
	Insert(ctx context.Context, records []New) ([]Outcome, error)

	// Bury inserts X#g for each key; one that is there already is success.
	Bury(ctx context.Context, keys []Key) error

	// Replace swaps the row for next if it still is exactly old and no X#g
	// exists, else ErrConflict. Repair is its only caller.
	Replace(ctx context.Context, old, next *Record) error

	// Delete removes R#g and every L#g of each key that has an X#g; a key
	// without one is left alone. The sweeper is its only caller.
	Delete(ctx context.Context, keys []Key) error

	// BySubject lists generations whose R or L names the subject: those with
	// a tombstone too. Eventually consistent.
	BySubject(ctx context.Context, tenant, subject string, page Page) (keys []Key, next string, err error)

	// Degraded lists records that miss region's key copy. Eventually consistent.
	Degraded(ctx context.Context, region string, page Page) (keys []Key, next string, err error)

	// CountDegraded counts degraded records per missing region, and all of
	// them, up to limit each. Eventually consistent.
	CountDegraded(ctx context.Context, limit int) (perRegion map[string]int, total int, err error)

	// Expired lists records that expired at or before the time (Unix ms).
	Expired(ctx context.Context, before int64, page Page) (keys []Key, next string, err error)

	// Swept lists keys whose R or L exists though X does: what the sweeper
	// deletes. Eventually consistent.
	Swept(ctx context.Context, page Page) (keys []Key, next string, err error)

	// Scan lists records (R), those under a tombstone too until they are swept.
	// A page may have fewer rows than its limit, or none, and yet a next one;
	// a cursor belongs to its Part. It reads the whole table: what is there
	// from its first page to its last is listed once. A cursor that cannot be
	// one is ErrCursor. Eventually consistent.
	Scan(ctx context.Context, part Part, page Page) (rows []Row, next string, err error)

	// Seen lists the generations of the refs that have an R or an L and no X:
	// what an erasure must bury. Strongly consistent.
	Seen(ctx context.Context, refs []Ref) ([]Key, error)

	// Get reads R#g itself, tombstoned or not; buried tells of X#g.
	Get(ctx context.Context, key Key) (record *Record, buried bool, err error)
	// Beat writes region's heartbeat, a time in Unix ms, over the one before.
	// It is a row of its own that replicates like any other, belongs to no
	// tenant and is in no listing.
	Beat(ctx context.Context, region string, at int64) error
	// Beats gives the heartbeat of every region of which one was seen here:
	// what that region wrote before it is here, but for what overtook it on the way.
	Beats(ctx context.Context) (map[string]int64, error)
}
