package embedded

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

const (
	// pace is the least time between two passes, so that a row holds the
	// postings of many entries when there are many.
	pace = 300 * time.Millisecond
	// tick is how often the logs of others are looked at: with the pass
	// itself it keeps every entry visible within a second.
	tick = 400 * time.Millisecond
	// maxPostings bounds one write, to within one block's.
	maxPostings = 32 << 10
	// maxDeletes bounds one write of clear.
	maxDeletes = 4096
)

// indexer writes index rows behind the release: its one goroutine follows
// every log in the table, each from where its progress row says.
type indexer struct {
	log    *Log
	logger zerolog.Logger
	wake   chan struct{} // room for one: this log has a new durable block
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once

	mu   sync.Mutex // guards what follows; held for a pass or a Reindex
	logs map[audit.LogName]*followed
	rows rows
}

// followed is one log and how far it is indexed.
type followed struct {
	left    progress
	end     uint64 // blocks from here on do not count; MaxUint64 while unknown
	claimed bool   // its claim was looked at
}

func newIndexer(l *Log, logger zerolog.Logger) *indexer {
	return &indexer{
		log: l, logger: logger, logs: map[audit.LogName]*followed{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

func (x *indexer) start() { go x.run() }

func (x *indexer) close() {
	x.once.Do(func() { close(x.stop) })
	<-x.done
}

func (x *indexer) wakeUp() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *indexer) run() {
	defer close(x.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if err := x.pass(); errors.Is(err, wal.ErrPoisoned) || errors.Is(err, wal.ErrClosed) {
			return
		} else if err != nil {
			x.logger.Warn().Err(err).Msg("audit index is behind")
		}
		select {
		case <-x.stop:
			return
		case <-time.After(pace):
		}
		select {
		case <-x.stop:
			return
		case <-x.wake:
		case <-ticker.C:
		}
	}
}

// pass looks for new logs, and indexes the blocks that are new in any.
func (x *indexer) pass() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.passLocked()
}

func (x *indexer) passLocked() error {
	if err := x.discover(); err != nil {
		return err
	}
	for log, f := range x.logs {
		if err := x.catchUp(log, f); err != nil {
			return err
		}
	}
	return nil
}

// discover follows every log that has a claim, and learns from the claim of
// the next epoch where a log ends.
func (x *indexer) discover() error {
	return x.log.engine.Scan(tableID, []byte{itemClaim}, []byte{itemClaim + 1}, func(key, item []byte) (bool, error) {
		log, _, err := audit.CutKey(key[1:])
		if err != nil {
			return true, nil //nolint:nilerr // a key that is no claim's has no log to follow
		}
		f, err := x.follow(log)
		if err != nil || f.claimed {
			return err == nil, err
		}
		f.claimed = true
		claim, err := audit.DecodeClaim(item)
		if previous, ok := claim.Previous(); err == nil && ok {
			return true, x.endsAt(previous.Log, claim.PreviousBlocks)
		}
		return true, nil
	})
}

func (x *indexer) endsAt(name string, blocks uint64) error {
	log, err := audit.ParseLogName(name)
	if err != nil {
		return err
	}
	f, err := x.follow(log)
	if err == nil {
		f.end = blocks
	}
	return err
}

func (x *indexer) follow(log audit.LogName) (*followed, error) {
	if f := x.logs[log]; f != nil {
		return f, nil
	}
	row, err := x.log.engine.GetLocal(progressKey(log))
	if err != nil && !errors.Is(err, wal.ErrNotFound) {
		return nil, fmt.Errorf("progress of the index: %w", err)
	}
	f := &followed{left: parseProgress(row), end: math.MaxUint64}
	x.logs[log] = f
	return f, nil
}

func progressKey(log audit.LogName) []byte { return log.AppendKey([]byte{localPrefix, rowProgress}) }

// catchUp indexes what there is of a log, in bounded writes.
func (x *indexer) catchUp(log audit.LogName, f *followed) error {
	end := f.end
	if log == x.log.name {
		end = x.log.durable.Load() // a block may be read before its commit is through
	}
	for !f.left.indexed(end) {
		left, full, err := x.collect(log, f.left, end)
		if err != nil {
			return fmt.Errorf("index log %v: %w", log, err)
		}
		if kv := x.rows.encode(log); len(kv) > 0 {
			kv = append(kv, wal.KV{Key: progressKey(log), Value: left.encode()})
			if err := x.log.engine.SetLocalBatch(kv); err != nil {
				return fmt.Errorf("write index rows: %w", err)
			}
		}
		f.left = left
		if !full || x.stopping() {
			break
		}
	}
	return nil
}

func (x *indexer) stopping() bool {
	select {
	case <-x.stop:
		return true
	default:
		return false
	}
}

// collect gathers rows of blocks before end that are left, until enough, and
// says what is left then.
func (x *indexer) collect(log audit.LogName, todo progress, end uint64) (left progress, full bool, err error) {
	x.rows.reset()
	for _, s := range todo {
		next := s.from
		visit := func(key, block []byte) (bool, error) {
			number := blockNumber(key)
			if number > next {
				left = append(left, span{next, number})
			}
			next = number + 1
			if err := x.rows.addBlock(log, number, block); err != nil {
				x.logger.Error().Err(err).Stringer("log", log).Uint64("block", number).Msg("audit block cannot be indexed")
			}
			full = len(x.rows.postings) >= maxPostings
			return !full, nil
		}
		if to := min(s.to, end); !full && s.from < to {
			err = x.log.engine.Scan(tableID, blockKey(log, s.from), blockKey(log, to), visit)
		}
		if err != nil {
			return nil, false, err
		}
		if next < s.to {
			left = append(left, span{next, s.to})
		}
	}
	return left.bounded(), full, nil
}

// Reindex deletes every index row of this region and builds them anew from
// the blocks. Queries see what is built so far. It returns when all is.
func (l *Log) Reindex() error {
	x := l.indexer
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.clear(); err != nil {
		return fmt.Errorf("audit: reindex: %w", err)
	}
	clear(x.logs)
	if err := x.passLocked(); err != nil {
		return fmt.Errorf("audit: reindex: %w", err)
	}
	return nil
}

// clear deletes all local rows of this package, in bounded writes.
func (x *indexer) clear() error {
	for {
		var rows []wal.KV
		err := x.log.engine.ScanLocal([]byte{localPrefix}, []byte{localPrefix + 1}, false, func(key, _ []byte) (bool, error) {
			rows = append(rows, wal.KV{Key: slices.Clone(key)})
			return len(rows) < maxDeletes, nil
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := x.log.engine.SetLocalBatch(rows); err != nil {
			return err
		}
	}
}
