// Package wal is one region's embedded storage engine: Pebble in one
// directory, one write-ahead log, and group commit, so that everything which
// concurrent requests write at a moment costs one fsync together.
//
// A write is an op, run on the one committer goroutine with every op that was
// queued before it already visible. Checking and writing inside an op is
// therefore atomic, and conditions need no locks.
//
// Items (Tx.Put, Tx.Delete) replicate as in a DynamoDB global table: whole
// item, last writer wins by stamp, with an outbox row in the same write. Local
// rows (Tx.SetLocal) never leave the engine.
//
// A failed write or fsync poisons the engine: the directory is frozen as a
// crash would leave it, every waiting and later call gets ErrPoisoned, nothing
// is retried, and the process must reopen it, which is ordinary recovery.
// Background work (flush, compaction) that fails poisons just the same: an
// engine that cannot shrink its log would otherwise stall a little later.
//
// The stored bytes are fixed in docs/design/format.md §8.
package wal

import (
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

// Sentinels of the engine.
var (
	// ErrNotFound: there is no such item or row.
	ErrNotFound = errors.New("wal: no such item")
	// ErrPoisoned: a write failed; what was not acknowledged may or may not be there after reopening.
	ErrPoisoned = errors.New("wal: the engine is poisoned by a failed write")
	// ErrClosed: the engine is closed; nothing was written.
	ErrClosed = errors.New("wal: the engine is closed")
	// ErrCorrupt: stored bytes are not what was written.
	ErrCorrupt = errors.New("wal: stored bytes are corrupt")
	// ErrLocked: another engine, of this process or another, has the directory.
	ErrLocked = errors.New("wal: the directory is in use")
	// ErrFormat: the directory has a format, or a region, that is not this engine's.
	ErrFormat = errors.New("wal: the directory is of another format or region")
	// ErrOption: the options are not usable.
	ErrOption = errors.New("wal: bad option")
	// ErrTable: the engine was opened without that table.
	ErrTable = errors.New("wal: unknown table")
)

// Options of an engine.
type Options struct {
	Dir      string           // created when absent
	FS       vfs.FS           // nil: the operating system's
	Region   string           // name in every item's envelope, breaks ties of stamps; 1 to 255 bytes, fixed for the directory
	Now      func() time.Time // nil: time.Now
	Tables   []Table
	Outbox   bool // keep an outbox for replication
	Logger   zerolog.Logger
	OnPoison func(error) // called once, on a goroutine that Close waits for; it must not call Close
}

// Table is a keyspace of replicated items.
type Table struct {
	ID byte // key prefix, 'A' to 'Z', fixed in docs/design/format.md §8
	// Index gives the derived rows of an item, nil for none; the func itself
	// may be nil. The engine keeps them in step on every Put, Delete and
	// Apply. An error fails the op, or the Apply, that met the item.
	Index func(key, value []byte) (rows [][]byte, err error)
	// Changed, where it is not nil, runs in the same op after every Put,
	// Delete (value nil) and Apply. It may read items and keep local rows, for
	// what depends on more than one item; it must not write items.
	Changed func(tx *Tx, key, value []byte) error
}

// Op is one atomic write. It runs on the committer: it must not block, nor
// call the engine. An op that returns an error has written nothing.
type Op func(tx *Tx) error

// Hook runs on the committer at the end of every group, before the commit;
// what it returns (it may be nil) runs on the committer after the commit, with
// the outcome, before any waiter is woken.
type Hook func(tx *Tx) (after func(err error))

// KV is a local row; a nil Value deletes it.
type KV struct{ Key, Value []byte }

// Change is an outbox row: an item that was written here.
type Change struct {
	Seq   uint64
	Table byte
	Key   []byte
}

// Replica is a whole item as it travels between regions.
type Replica struct {
	Table byte
	Key   []byte
	Item  []byte // the envelope, opaque
}
