package dynamo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

const (
	// pace is the least time between two passes, so that a row holds the
	// postings of many entries when there are many.
	pace = 300 * time.Millisecond
	// tick is how often the logs of others are looked at.
	tick = 400 * time.Millisecond
	// discovery is how often new logs and abandoned leases are looked for: an
	// entry of a log that another region began since shows that much later.
	discovery = 10 * time.Second
	// lease is how long an indexer that is gone holds up its logs.
	lease = 10 * time.Second
	// idle is the longest time between looks at a log in which nothing happens.
	idle = 10 * time.Second
	// maxPostings bounds one write, to within one block's.
	maxPostings = 8 << 10
	// passTimeout bounds a pass over a log.
	passTimeout = 30 * time.Second
)

// indexer writes index rows behind the release: its one goroutine follows its
// own log, and such others as nobody else does.
type indexer struct {
	log    *Log
	db     *dynamo.Client
	table  string
	me     string
	logger zerolog.Logger
	wake   chan struct{} // room for one: this log has new durable blocks

	// What follows belongs to run.
	logs       map[audit.LogName]*followed
	discovered time.Time
}

// followed is one log and how far it is indexed.
type followed struct {
	progress
	ours  bool      // the lease is
	end   uint64    // blocks from here on do not count; MaxUint64 while unknown
	look  time.Time // when to look next
	pause time.Duration
	stuck time.Time // since when there are blocks behind a hole; zero: there are none
}

func newIndexer(l *Log) *indexer {
	return &indexer{
		log: l, db: l.Client, table: l.config.Index, me: logKey(l.name), logger: l.config.Logger,
		wake: make(chan struct{}, 1), logs: map[audit.LogName]*followed{},
	}
}

func (x *indexer) now() int64 { return x.log.config.Now().UnixMilli() }

func (x *indexer) follow(log audit.LogName) *followed {
	f := x.logs[log]
	if f == nil {
		f = &followed{end: math.MaxUint64}
		x.logs[log] = f
	}
	return f
}

func (x *indexer) wakeUp() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// run ends after Close, with all indexed that is durable by then.
func (x *indexer) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		x.pass(x.log.ctx)
		select {
		case <-x.log.stop:
			x.finish()
			return
		case <-time.After(pace):
		}
		select {
		case <-x.log.stop:
		case <-x.wake:
		case <-ticker.C:
		}
		select { // one pass is for both
		case <-x.wake:
		default:
		}
		select {
		case <-ticker.C:
		default:
		}
	}
}

// finish indexes the rest of the own log, once it is settled, and gives all leases back.
func (x *indexer) finish() {
	x.log.writing.Wait()
	if err := x.index(x.log.ctx, x.log.name, x.follow(x.log.name)); err != nil {
		x.logger.Warn().Err(err).Msg("audit index is behind")
	}
	for _, log := range x.names() {
		f := x.logs[log]
		if !f.ours {
			continue
		}
		if err := x.write(x.log.ctx, log, f, 0); err != nil {
			x.logger.Warn().Err(err).Msg("a lease of the audit index ends by itself")
		}
	}
}

// pass looks for new logs now and then, and indexes what is new in those that
// are due.
func (x *indexer) pass(ctx context.Context) {
	now := x.log.config.Now()
	if now.Sub(x.discovered) >= discovery {
		if err := x.discover(ctx); err != nil {
			x.logger.Warn().Err(err).Msg("audit logs cannot be listed now")
		} else {
			x.discovered = now
		}
	}
	x.follow(x.log.name)
	for _, log := range x.names() {
		f := x.logs[log]
		if log != x.log.name && now.Before(f.look) {
			continue
		}
		if err := x.index(ctx, log, f); err != nil && ctx.Err() == nil {
			x.logger.Warn().Err(err).Msg("audit index is behind")
		}
	}
}

// names are the logs followed, always in the same order: a run of the
// simulation repeats itself.
func (x *indexer) names() []audit.LogName {
	return slices.SortedFunc(maps.Keys(x.logs), audit.LogName.Compare)
}

// discover follows every log that has a claim, learns from the claim of the
// next epoch where a log ends, and from the progress rows what is left to do.
func (x *indexer) discover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	rows, err := x.load(ctx)
	if err != nil {
		return err
	}
	return x.log.claims(ctx, func(log audit.LogName, item []byte) error {
		f := x.follow(log)
		if !f.ours {
			f.progress = rows[log]
		}
		claim, err := audit.DecodeClaim(item)
		if err != nil {
			return nil //nolint:nilerr // it says nothing of a predecessor
		}
		if _, ok := claim.Previous(); ok {
			previous := log
			previous.Epoch--
			x.follow(previous).end = claim.PreviousBlocks
		}
		return nil
	})
}

// index writes the rows of a log's blocks that are new, if nobody else does.
func (x *indexer) index(ctx context.Context, log audit.LogName, f *followed) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	end := f.end
	if log == x.log.name {
		end = x.log.durable.Load() // a block may be read before those before it are there
	}
	if f.next >= end || !f.ours && f.until >= x.now() {
		return nil
	}
	for {
		if err := x.hold(ctx, log, f); err != nil || !f.ours {
			return err
		}
		got, err := x.collect(ctx, log, f.next, end)
		if err == nil {
			err = x.db.BatchWrite(ctx, x.table, got.rows.encode(log))
		}
		if err != nil {
			return fmt.Errorf("index log %v: %w", log, err)
		}
		found := got.next > f.next
		f.next = got.next
		f.rest(x.log.config.Now(), found)
		if !got.full {
			return errors.Join(x.saveIf(ctx, found, log, f), x.abandoned(ctx, log, f, got.behind && !found))
		}
	}
}

// saveIf saves progress made. It may fail: the next pass writes rows again.
func (x *indexer) saveIf(ctx context.Context, found bool, log audit.LogName, f *followed) error {
	if !found {
		return nil
	}
	return x.save(ctx, log, f)
}

// hold takes or renews the lease of a log where it is not good for a pass.
func (x *indexer) hold(ctx context.Context, log audit.LogName, f *followed) error {
	if f.ours && f.until-x.now() > lease.Milliseconds()/2 {
		return nil
	}
	return x.save(ctx, log, f)
}

// rest decides when to look at a log of others again: the longer nothing
// happens, the later.
func (f *followed) rest(now time.Time, found bool) {
	f.pause = min(max(f.pause+f.pause/8, tick), idle)
	if found {
		f.pause = tick
	}
	f.look = now.Add(f.pause)
}

// collected is what a pass over a log found.
type collected struct {
	rows   rows
	next   uint64 // the first block that it did not come to
	full   bool   // there may be more
	behind bool   // there is a block behind a hole
}

// collect gathers rows of the blocks from next on that follow each other: one
// behind a hole is not durable here yet.
func (x *indexer) collect(ctx context.Context, log audit.LogName, next, end uint64) (collected, error) {
	c := collected{next: next}
	err := x.log.blocks(ctx, log, next, func(number uint64, block []byte) (bool, error) {
		switch {
		case number >= end:
			return false, nil
		case block == nil: // a fence: whether there is a block behind it matters
			return true, nil
		case number != c.next:
			c.behind = true
			return false, nil
		}
		c.next++
		if err := c.rows.addBlock(log, number, block); err != nil {
			x.logger.Error().Err(err).Stringer("log", log).Uint64("block", number).Msg("audit block cannot be indexed")
		}
		c.full = len(c.rows.postings) >= maxPostings
		return !c.full, nil
	})
	return c, err
}
