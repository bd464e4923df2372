// Package embedded keeps audit logs on internal/wal: the entries of a group
// of requests become a block in the very commit that makes them durable, next
// to the records that the same group writes.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

var (
	_ audit.Log    = (*Log)(nil)
	_ audit.Reader = (*Log)(nil)
)

// errBroken: a group of this log was not committed, so its tree is ahead of
// what is stored. Only reopening mends that.
var errBroken = errors.New("audit: a block of this log was not committed")

// Config of a log.
type Config struct {
	Engine   *wal.Engine // opened with Table; stays open until after Close
	Region   string      // of the log's name
	Instance string      // of the log's name; the same after a restart
	Random   io.Reader   // cryptographic
	Now      func() time.Time
	Logger   zerolog.Logger
}

// Log is the one writer of a new epoch's log, the reader of all logs in the
// table, and the owner of the goroutine that indexes them.
type Log struct {
	engine  *wal.Engine
	name    audit.LogName
	id      string // name as receipts carry it
	indexer *indexer
	closed  atomic.Bool
	durable atomic.Uint64 // blocks

	// What follows belongs to the engine's committer.
	writer *audit.Writer
	blocks uint64 // flushed
	broken bool
	key    []byte // scratch
	settle func(error)
}

// Open verifies the tail of the instance's last log, claims the next epoch
// naming where that log ends, and begins to index. audit.ErrCorrupt and
// audit.ErrTampered mean that the last log is damaged: the caller must not
// start. audit.ErrClaimed means a second Log of this instance.
func Open(ctx context.Context, c Config) (*Log, error) {
	claim, err := nextClaim(c)
	if err != nil {
		return nil, fmt.Errorf("audit: open: %w", err)
	}
	var first audit.Leaves
	if err := first.EncodeClaim(&claim); err != nil {
		return nil, fmt.Errorf("audit: open: %w", err)
	}
	l := &Log{engine: c.Engine, name: claim.Log, id: claim.Log.String(), writer: audit.NewWriter(claim.Log)}
	l.settle = l.settled
	l.indexer = newIndexer(l, c.Logger)
	c.Engine.BeforeCommit(l.flush)
	err = c.Engine.Submit(func(tx *wal.Tx) error { return l.claim(tx, &claim, &first) }).Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit: claim %v: %w", claim.Log, err)
	}
	l.indexer.start()
	return l, nil
}

// Name is the log's.
func (l *Log) Name() audit.LogName { return l.name }

// Close refuses further appends and waits for the indexer. Appends under way
// are settled by the engine.
func (l *Log) Close() {
	l.closed.Store(true)
	l.indexer.close()
}

// claim is an op: the claim's item and the log's first leaf, or neither.
func (l *Log) claim(tx *wal.Tx, claim *audit.Claim, first *audit.Leaves) error {
	key := claimKey(l.name)
	_, found, err := tx.Get(tableID, key)
	if err != nil {
		return err
	}
	if found {
		return audit.ErrClaimed
	}
	item, err := audit.AppendClaim(nil, claim)
	if err != nil {
		return err
	}
	tx.Put(tableID, key, item)
	l.writer.Add(first)
	return nil
}

// Append implements audit.Log.
func (l *Log) Append(entries []audit.Entry) audit.Pending {
	p := &pending{log: l, entries: len(entries)}
	if l.closed.Load() {
		p.err = fmt.Errorf("append to a closed log: %w", audit.ErrUnavailable)
		return p
	}
	if p.err = p.leaves.Encode(entries); p.err == nil {
		p.commit = l.engine.SubmitSized(p.leaves.Size(), p.add)
	}
	return p
}

// flush is a hook of the engine: it puts the group's blocks.
func (l *Log) flush(tx *wal.Tx) func(error) {
	n := l.writer.Flush(func(number uint64, block []byte) {
		l.key = appendBlockKey(l.key[:0], l.name, number)
		tx.Put(tableID, l.key, block)
	})
	if n == 0 {
		return nil
	}
	l.blocks += n
	return l.settle
}

// settled learns on the committer what became of the group.
func (l *Log) settled(err error) {
	if err != nil {
		l.broken = true
		return
	}
	l.durable.Store(l.blocks)
	l.indexer.wakeUp()
}

// pending is one append. Everything but add runs on the caller's goroutine.
type pending struct {
	log     *Log
	leaves  audit.Leaves
	entries int
	first   uint64 // written by the committer, read after the commit
	commit  *wal.Pending
	err     error
}

// add is an op: encoding and hashing are done, only the tree's edge grows.
func (p *pending) add(*wal.Tx) error {
	if p.log.broken {
		return errBroken
	}
	p.first = p.log.writer.Add(&p.leaves)
	p.leaves = audit.Leaves{}
	return nil
}

// Wait implements audit.Pending.
func (p *pending) Wait(ctx context.Context) (audit.Receipt, error) {
	if p.err == nil {
		p.err = p.commit.Wait(ctx)
		if p.err != nil {
			p.err = fmt.Errorf("%w: %w", audit.ErrUnavailable, p.err)
		}
	}
	if p.err != nil {
		return audit.Receipt{}, fmt.Errorf("audit: append: %w", p.err)
	}
	return audit.Receipt{Log: p.log.id, First: p.first, Entries: p.entries}, nil
}
