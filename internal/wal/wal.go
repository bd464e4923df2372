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

// (contract sketch: signatures are agreed, bodies are the wal owner's)
//
//	type Options struct {
//		Dir      string
//		FS       vfs.FS              // nil: the operating system's; tests inject errors here
//		Region   string              // tie-breaker of stamps, name in the envelope
//		Now      func() time.Time
//		Tables   []Table
//		Outbox   bool                // keep an outbox for replication
//		Logger   zerolog.Logger
//		OnPoison func(error)         // called once, on its own goroutine
//	}
//	type Table struct {
//		ID    byte                                  // key prefix, 'A'..'Z', fixed in format.md
//		Index func(key, value []byte) (rows [][]byte) // derived index rows of an item; nil: none. Maintained on
//		                                            // every Put, Delete and replicated Apply. Keys only.
//	}
//	func Open(Options) (*Engine, error)
//	func (*Engine) Close() error                    // waits for queued work
//
//	// Submit queues op; it is committed when anybody Waits (or at the next group). Never blocks.
//	func (*Engine) Submit(op func(tx *Tx) error) *Pending
//	func (*Pending) Wait(ctx context.Context) error // op's own error, or nil once durable, or ErrPoisoned
//	// BeforeCommit registers fn to run on the committer at the end of every group, before the
//	// commit; the func it returns (may be nil) runs on the committer after it, with the outcome.
//	func (*Engine) BeforeCommit(fn func(tx *Tx) (after func(err error)))
//
//	func (*Tx) Get(table byte, key []byte) ([]byte, bool, error) // sees this group's own writes; valid until op returns
//	func (*Tx) Put(table byte, key, value []byte)                // replicated item
//	func (*Tx) Delete(table byte, key []byte)                    // replicated, leaves a stamped grave
//	func (*Tx) SetLocal(key, value []byte)                       // local row in its own keyspace
//	func (*Tx) DeleteLocal(key []byte)
//	func (*Tx) Now() time.Time                                   // the group's time
//
//	func (*Engine) Get(table byte, key []byte) ([]byte, error)   // durable-or-queued committed state; ErrNotFound
//	func (*Engine) GetMany(table byte, keys [][]byte, fn func(i int, value []byte) error) error
//	func (*Engine) Scan(table byte, from, to []byte, fn func(key, value []byte) (more bool)) error
//	func (*Engine) ScanIndex(table byte, from, to []byte, fn func(row []byte) (more bool)) error
//	func (*Engine) GetLocal(key []byte) ([]byte, error)
//	func (*Engine) ScanLocal(from, to []byte, reverse bool, fn func(key, value []byte) (more bool)) error
//	func (*Engine) SetLocalBatch(...)                             // no fsync: rebuildable rows (audit index)
//
//	// Replication, for internal/sim: the outbox holds item keys in commit order; an item is
//	// shipped as it is when read (whole item), and applied if its stamp wins.
//	type Change struct{ Seq uint64; Table byte; Key []byte }
//	func (*Engine) Outbox(after uint64, limit int) ([]Change, error)
//	func (*Engine) Export(table byte, key []byte) (Replica, error)
//	func (*Engine) Apply(ctx context.Context, replicas []Replica) error   // durable when it returns
//	func (*Engine) Ack(ctx context.Context, through uint64) error         // drop outbox rows
//	func (*Engine) Changed() <-chan struct{}                              // signalled after a commit with outbox rows
