package wal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Engine is an open directory. Its methods are safe for concurrent use.
type Engine struct {
	db       *pebble.DB
	region   []byte
	outbox   bool
	now      func() time.Time
	onPoison func(error)
	tables   map[byte]Table
	memTable uint64
	hooks    atomic.Pointer[[]Hook]
	fence    *fence
	gate     *gate
	log      *pebbleLog

	tx      Tx            // the committer's
	durable uint64        // the committer's: batches numbered below it are durable
	wake    chan struct{} // room for one: the committer has something to look at
	stopped chan struct{} // closed when the committer has ended
	ended   error         // how it ended; written before stopped is closed
	changed chan struct{} // see Changed

	mu      sync.Mutex // guards what follows
	full    []*group   // queued before queue, oldest first; take no more ops
	queue   *group     // takes ops
	current *group     // being committed; written by the committer only
	closing bool
	refuse  error // set once the queue takes no more ops

	closeOnce sync.Once
	closeErr  error

	poisonOnce sync.Once
	watchers   sync.WaitGroup // onPoison; Close waits
}

// Open opens or creates a directory, repairing the tail that an interrupted
// write left. It fails with ErrOption, ErrLocked, ErrFormat, ErrCorrupt, or a
// fault of the file system; what is corrupt is never opened in part.
func Open(o Options) (*Engine, error) { return open(o, memTableSize) }

func open(o Options, memTable uint64) (*Engine, error) {
	e, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	e.memTable = memTable
	if err := e.openDB(o); err != nil {
		return nil, fmt.Errorf("wal: open: %w", err)
	}
	if err := e.begin(); err != nil {
		return nil, fmt.Errorf("wal: open: %w", errors.Join(err, e.closeDB()))
	}
	go e.commitLoop()
	return e, nil
}

func newEngine(o Options) (*Engine, error) {
	if o.Dir == "" || o.Region == "" || len(o.Region) > 255 {
		return nil, fmt.Errorf("%w: a directory and a region of 1 to 255 bytes are required", ErrOption)
	}
	e := &Engine{
		region:   []byte(o.Region),
		outbox:   o.Outbox,
		now:      o.Now,
		onPoison: o.OnPoison,
		tables:   make(map[byte]Table, len(o.Tables)),
		gate:     newGate(),
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		changed:  make(chan struct{}, 1),
		queue:    newGroup(),
	}
	for _, t := range o.Tables {
		if _, twice := e.tables[t.ID]; twice || t.ID < 'A' || t.ID > 'Z' {
			return nil, fmt.Errorf("%w: table id %q", ErrOption, t.ID)
		}
		e.tables[t.ID] = t
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.onPoison == nil {
		e.onPoison = func(error) {}
	}
	e.hooks.Store(&[]Hook{})
	e.tx = Tx{e: e, seen: make(map[string][]byte), arena: make([]byte, 0, arenaSize)}
	return e, nil
}

// Now is the time that groups are committed at.
func (e *Engine) Now() time.Time { return e.now() }

func (e *Engine) table(id byte) (Table, error) {
	t, ok := e.tables[id]
	if !ok {
		return Table{}, fmt.Errorf("%w: %q", ErrTable, id)
	}
	return t, nil
}

// openDB opens Pebble behind the fence.
func (e *Engine) openDB(o Options) error {
	fs := o.FS
	if fs == nil {
		fs = vfs.Default
	}
	e.fence = newFence(fs, e.wakeUp)
	e.log = &pebbleLog{e: e, to: o.Logger, parked: make(chan struct{})}
	if err := checkFiles(fs, o.Dir); err != nil {
		return err
	}
	db, err := pebble.Open(o.Dir, e.pebbleOptions())
	if fault := e.fence.err(); fault != nil {
		if db != nil {
			_ = db.Close() // of a frozen directory
		}
		err = fault
	}
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	e.fence.opened()
	e.db = db
	return nil
}

// checkFiles refuses what Pebble would open without some of its writes: tables
// with no log beside them, a manifest that lost its last edits, and a log that
// is damaged near its end.
func checkFiles(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		if oserror.IsNotExist(err) {
			return nil
		}
		return fmt.Errorf("list the directory: %w", err)
	}
	has := func(suffix string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, suffix) })
	}
	if has(".sst") && !has(".log") {
		return fmt.Errorf("%w: the write-ahead log is missing", ErrCorrupt)
	}
	if err := checkManifest(fs, dir, names); err != nil {
		return err
	}
	return checkLog(fs, dir, names)
}

// begin checks the directory's format, or writes it into a new one, takes the
// clock up, and flushes (see checkManifest).
func (e *Engine) begin() error {
	format, err := e.getRaw([]byte(metaFormat))
	switch {
	case errors.Is(err, ErrNotFound):
		return e.create()
	case err != nil:
		return err
	}
	if err := checkFormat(format, string(e.region)); err != nil {
		return err
	}
	row, err := e.getRaw([]byte(metaClock))
	if err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	if e.tx.clock, err = parseClock(row); err != nil {
		return err
	}
	return e.fenced(e.flush())
}

// fenced prefers what the fence knows of a failed write.
func (e *Engine) fenced(err error) error {
	if fault := e.fence.err(); fault != nil {
		return fault
	}
	return err
}

// create writes the meta rows into an empty directory and flushes them, so
// that from now on there is a table, and checkFiles expects a log beside it.
func (e *Engine) create() error {
	if err := e.checkEmpty(); err != nil {
		return err
	}
	batch := e.db.NewBatch()
	err := errors.Join(
		batch.Set([]byte(metaFormat), formatRow(string(e.region)), nil),
		batch.Set([]byte(metaClock), clock{}.row(), nil),
		batch.Commit(pebble.Sync),
		e.flush(),
		batch.Close(),
	)
	return e.fenced(err)
}

func (e *Engine) checkEmpty() error {
	iter, err := e.db.NewIter(nil)
	if err != nil {
		return e.readError(err)
	}
	found := iter.First()
	if err := e.closeIter(iter); err != nil {
		return err
	}
	if found {
		return fmt.Errorf("%w: rows without a format", ErrFormat)
	}
	return nil
}

// Close commits what is queued, waits for calls under way and closes the
// directory. It returns ErrPoisoned where the engine was, and never hangs on
// that. Later calls return the same.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() { e.closeErr = e.close() })
	return e.closeErr
}

func (e *Engine) close() error {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.wakeUp()
	select {
	case <-e.stopped:
	case <-e.log.parked:
		// A Pebble goroutine stands still with its locks: leave the database,
		// give its directory back.
		e.fence.release()
		return e.fence.err()
	}
	e.watchers.Wait()
	return e.ended
}

func (e *Engine) tellPoison(err error) {
	e.poisonOnce.Do(func() { e.watchers.Go(func() { e.onPoison(err) }) })
}

func (e *Engine) closeDB() error {
	e.gate.shut()
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("wal: close: %w", err)
	}
	return nil
}
