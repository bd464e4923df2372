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
// A failed write or fsync poisons the engine: every waiting and later call
// gets ErrPoisoned, nothing is retried, and the process must reopen it, which
// is ordinary recovery.
package wal

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

// Sentinels of the engine.
var (
	ErrNotFound = errors.New("wal: no such item")
	ErrPoisoned = errors.New("wal: the engine is poisoned by a failed write")
	ErrClosed   = errors.New("wal: the engine is closed")
	ErrCorrupt  = errors.New("wal: stored bytes are corrupt")
	ErrLocked   = errors.New("wal: the directory is in use by another process")
	ErrFormat   = errors.New("wal: the directory has a format that this version does not know")
)

// Options of an engine.
type Options struct {
	Dir      string
	FS       vfs.FS           // nil: the operating system's
	Region   string           // breaks ties of stamps; 1 to 255 bytes
	Now      func() time.Time // nil: time.Now
	Tables   []Table
	Outbox   bool // keep an outbox for replication
	Logger   zerolog.Logger
	OnPoison func(error) // called once, on its own goroutine
}

// Table is a keyspace of replicated items.
type Table struct {
	ID byte // key prefix, 'A' to 'Z', fixed in docs/design/format.md §8
	// Index gives the derived rows of an item, nil for none. They are kept
	// in step on every Put, Delete and Apply.
	Index func(key, value []byte) (rows [][]byte, err error)
}

// Op is one atomic write. It runs on the committer: it must not block, nor
// call the engine. An op that returns an error has written nothing.
type Op func(tx *Tx) error

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

type (
	// Engine is an open directory.
	Engine struct{}
	// Pending is a submitted op.
	Pending struct{}
	// Tx is what an op sees and writes. Keys and values may be reused by the caller after each call.
	Tx struct{}
)

func Open(o Options) (*Engine, error)             { panic("soon") }
func (e *Engine) Close() error                    { panic("soon") }
func (e *Engine) Submit(op Op) *Pending           { panic("soon") }
func (p *Pending) Wait(ctx context.Context) error { panic("soon") }

// BeforeCommit hooks run also for groups whose every op failed. A hook that needs another commit submits an op.
func (e *Engine) BeforeCommit(fn func(tx *Tx) (after func(err error))) { panic("soon") }

func (tx *Tx) Get(table byte, key []byte) (value []byte, found bool, err error) { panic("soon") }
func (tx *Tx) GetLocal(key []byte) (value []byte, found bool, err error)        { panic("soon") }
func (tx *Tx) Put(table byte, key, value []byte)                                { panic("soon") }
func (tx *Tx) Delete(table byte, key []byte)                                    { panic("soon") }
func (tx *Tx) SetLocal(key, value []byte)                                       { panic("soon") }
func (tx *Tx) DeleteLocal(key []byte)                                           { panic("soon") }
func (tx *Tx) Now() time.Time                                                   { panic("soon") }

func (e *Engine) Get(table byte, key []byte) ([]byte, error) { panic("soon") }
func (e *Engine) GetMany(table byte, keys [][]byte, fn func(i int, value []byte) error) error {
	panic("soon")
}
func (e *Engine) Scan(table byte, from, to []byte, fn func(key, value []byte) (more bool, err error)) error {
	panic("soon")
}
func (e *Engine) ScanIndex(table byte, from, to []byte, fn func(row []byte) (more bool, err error)) error {
	panic("soon")
}
func (e *Engine) GetLocal(key []byte) ([]byte, error) { panic("soon") }
func (e *Engine) ScanLocal(from, to []byte, reverse bool, fn func(key, value []byte) (more bool, err error)) error {
	panic("soon")
}
func (e *Engine) SetLocalBatch(rows []KV) error { panic("soon") }

func (e *Engine) Outbox(after uint64, limit int) ([]Change, error)    { panic("soon") }
func (e *Engine) Export(table byte, key []byte) (Replica, error)      { panic("soon") }
func (e *Engine) Apply(ctx context.Context, replicas []Replica) error { panic("soon") }
func (e *Engine) Ack(ctx context.Context, through uint64) error       { panic("soon") }
func (e *Engine) Changed() <-chan struct{}                            { panic("soon") }
