// Package dynamo keeps audit logs in a DynamoDB global table.
//
// A group of appends becomes a block, one create-only item; two groups are
// under way at once, and an append is acknowledged when its own blocks and all
// before are durable. A block is written until it is known to be there: while
// DynamoDB cannot be reached, appends are refused, and nothing is released.
// What was refused may become durable later, and then says more than happened,
// never less. Whoever opens the instance's next epoch fences the log, so that a
// process that was thought dead finds its next place taken.
package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

const (
	// groups under way at once: the second gathers while the first is on its
	// way. More would make more, smaller and so dearer blocks.
	groups = 2
	// groupBytes is when a group takes no further appends.
	groupBytes = 1 << 20

	defaultPatience = 2 * time.Second
)

var errFenced = errors.New("audit: another process has ended this log")

// Config of a log. The region of the log's name is the client's.
type Config struct {
	Client   *dynamo.Client
	Table    string    // the global audit table
	Index    string    // the region's own table of index rows
	Instance string    // of the log's name; the same after a restart
	Random   io.Reader // cryptographic
	Now      func() time.Time
	Logger   zerolog.Logger
	// Patience is how long appends wait for DynamoDB before they are refused,
	// though their blocks are written on. Default 2 s.
	Patience time.Duration
	// OnEnd is told once when the log has ended before its process, which
	// cannot record anything any more. Nil: nobody is. It must not block.
	OnEnd func(error)
}

// Log is the one writer of a new epoch's log, the reader of all logs in the
// table, and the owner of the goroutines that write blocks and index rows.
type Log struct {
	Stored
	name    audit.LogName
	id      string // name as receipts carry it
	config  Config
	indexer *indexer
	durable atomic.Uint64 // blocks

	ctx     context.Context // of writes that nobody waits for; ended by Close
	cancel  context.CancelFunc
	writing sync.WaitGroup // the committers
	wg      sync.WaitGroup // the indexer
	wake    chan struct{}  // room for one: something is queued
	stop    chan struct{}
	once    sync.Once

	mu      sync.Mutex // guards what follows
	queue   []*pending
	closed  bool
	stalled int   // groups that nobody waits for any more
	broken  error // for good

	order  sync.Mutex // guards what follows; taken before mu
	writer *audit.Writer
	last   *group
}

var (
	_ audit.Log    = (*Log)(nil)
	_ audit.Reader = (*Log)(nil)
)

// Open fences the instance's last log and verifies its tail, claims the next
// epoch naming where that log ends, and begins to index. audit.ErrCorrupt and
// audit.ErrTampered mean that the last log is damaged: the caller must not
// start. audit.ErrClaimed means a second Log of this instance.
func Open(ctx context.Context, c Config) (*Log, error) {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	claim, err := c.begin(ctx)
	if err != nil {
		return nil, fault("open", err)
	}
	l := &Log{
		Stored: Stored{c.Client, c.Table}, name: claim.Log, id: claim.Log.String(), config: c,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), writer: audit.NewWriter(claim.Log),
	}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := l.first(ctx, &claim); err != nil {
		l.cancel()
		return nil, fault("open", err)
	}
	l.indexer = newIndexer(l)
	for range groups {
		l.writing.Go(l.commit)
	}
	l.wg.Go(l.indexer.run)
	return l, nil
}

// first writes the block whose only leaf is the claim.
func (l *Log) first(ctx context.Context, claim *audit.Claim) error {
	var leaves audit.Leaves
	if err := leaves.EncodeClaim(claim); err != nil {
		return err
	}
	l.writer.Add(&leaves)
	g := l.flush(nil)
	if err := l.put(ctx, l.name, g.blocks[0]); err != nil {
		return err
	}
	l.durable.Store(1)
	g.before = nil
	close(g.done)
	return nil
}

// Name is the log's.
func (l *Log) Name() audit.LogName { return l.name }

// Close refuses further appends, settles those under way and indexes what is
// durable, within twice Patience.
func (l *Log) Close() {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.stop)
		timer := time.AfterFunc(2*l.config.Patience, l.cancel)
		defer timer.Stop()
		l.writing.Wait()
		l.wg.Wait()
		l.cancel()
	})
}

// Append implements audit.Log.
func (l *Log) Append(entries []audit.Entry) audit.Pending {
	p := &pending{log: l.id, entries: len(entries), done: make(chan struct{})}
	if p.err = p.leaves.Encode(entries); p.err != nil {
		return p
	}
	l.mu.Lock()
	p.err = l.refusal()
	if p.err == nil {
		l.queue = append(l.queue, p)
	}
	l.mu.Unlock()
	if p.err == nil {
		l.wakeUp()
	}
	return p
}

func (l *Log) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

var (
	errClosed  = errors.New("the log is closed")
	errStalled = errors.New("blocks cannot be written now")
)

// refusal says why nothing can be appended now; mu is held.
func (l *Log) refusal() error {
	switch {
	case l.broken != nil:
		return fmt.Errorf("%w: %w", audit.ErrUnavailable, l.broken)
	case l.closed:
		return fmt.Errorf("%w: %w", audit.ErrUnavailable, errClosed)
	case l.stalled > 0:
		return fmt.Errorf("%w: %w", audit.ErrUnavailable, errStalled)
	}
	return nil
}

// Ready is nil while entries can be appended, as far as is known, else ErrUnavailable.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal()
}

// pending is one append. Everything but what take and settle write belongs to
// the caller's goroutine.
type pending struct {
	log     string
	leaves  audit.Leaves
	entries int
	first   uint64 // written before done is closed
	result  error  // written before done is closed
	done    chan struct{}
	err     error
}

// Wait implements audit.Pending.
func (p *pending) Wait(ctx context.Context) (audit.Receipt, error) {
	if p.err == nil {
		select {
		case <-p.done:
		case <-ctx.Done():
		}
		select { // what is known counts, however late
		case <-p.done:
			p.err = p.result
		default:
			p.err = fmt.Errorf("%w: %w", audit.ErrUnavailable, ctx.Err())
		}
	}
	if p.err != nil {
		return audit.Receipt{}, fmt.Errorf("audit: append: %w", p.err)
	}
	return audit.Receipt{Log: p.log, First: p.first, Entries: p.entries}, nil
}

// block is one to be written.
type block struct {
	number uint64
	bytes  []byte
}

// put writes a block unless another has its place. What is there and is equal
// was written by an attempt that got no answer.
func (s Stored) put(ctx context.Context, log audit.LogName, b block) error {
	item := blockKey(log, b.number).Item()
	item[attrBlock] = dynamo.Bytes(b.bytes)
	there, _, err := s.Client.PutNew(ctx, s.Table, item)
	if err != nil || there == nil {
		return err
	}
	if f := dynamo.Read(there); !bytes.Equal(f.Bytes(attrBlock), b.bytes) {
		return errFenced // a fence has no bytes
	}
	return nil
}
