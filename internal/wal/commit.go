package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// group is what one commit makes durable. ops is guarded by Engine.mu until
// the committer takes the group, and belongs to the committer afterwards.
type group struct {
	ops    []*Pending
	size   int           // of the ops, as far as they said; guarded as ops are
	wanted atomic.Bool   // somebody waits: the committer was woken
	ended  atomic.Bool   // somebody ends the group: whoever sets it
	done   chan struct{} // closed when the group's fate is known
	err    error         // of the whole group; written before done is closed
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// end tells the waiters, all with one close. Only the first call counts.
func (g *group) end(err error) {
	if g.ended.CompareAndSwap(false, true) {
		g.err = err
		close(g.done)
	}
}

// Pending is a submitted op.
type Pending struct {
	e   *Engine
	op  Op
	g   *group
	err error // the op's own; written by the committer before g.done is closed
}

// groupSize is about how much one commit writes at most, unless one op is
// larger: Pebble puts a batch of half a memtable aside as a table of its own,
// and the buffers of a group are kept for the next.
const groupSize = 768 << 10

// Submit queues op and does not block. It is committed when anybody Waits for
// an op of its group, with the next group, or by Close; never after an op that
// was submitted later.
func (e *Engine) Submit(op Op) *Pending { return e.SubmitSized(0, op) }

// SubmitSized is Submit of an op that tells about how many bytes it writes.
func (e *Engine) SubmitSized(size int, op Op) *Pending {
	p := &Pending{e: e, op: op}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.queue.size > 0 && e.queue.size+size > groupSize && e.refuse == nil {
		e.full = append(e.full, e.queue)
		e.queue = newGroup()
	}
	p.g = e.queue
	if e.refuse == nil {
		p.g.ops = append(p.g.ops, p)
		p.g.size += size
	}
	return p
}

// Wait returns the op's own error, nil once its writes are durable, or what
// became of the engine. When ctx ends first its error is returned, and the op
// may still be applied.
func (p *Pending) Wait(ctx context.Context) error {
	if !p.g.wanted.Load() && p.g.wanted.CompareAndSwap(false, true) {
		p.e.wakeUp()
	}
	if stop := ctx.Done(); stop != nil {
		select {
		case <-p.g.done:
		case <-stop:
			return p.interrupted(ctx)
		}
	}
	<-p.g.done
	if p.g.err != nil {
		return p.g.err
	}
	return p.err
}

// Refused is the error of an op that an ended engine will not commit, and nil
// for all others, whatever becomes of them.
func (p *Pending) Refused() error {
	select {
	case <-p.g.done:
		return p.g.err
	default:
		return nil
	}
}

// interrupted prefers the outcome where both it and the end of ctx are there.
func (p *Pending) interrupted(ctx context.Context) error {
	select {
	case <-p.g.done:
		return p.Wait(context.WithoutCancel(ctx))
	default:
		return fmt.Errorf("wal: wait for the commit: %w", context.Cause(ctx))
	}
}

// BeforeCommit registers a hook. Every group runs every hook.
func (e *Engine) BeforeCommit(fn Hook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	hooks := append(slices.Clone(*e.hooks.Load()), fn)
	e.hooks.Store(&hooks)
}

func (e *Engine) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// commitLoop is the committer. It ends when the engine is closed or poisoned,
// and closes Pebble, whose background work would only fail on.
func (e *Engine) commitLoop() {
	defer close(e.stopped)
	for closing := false; !closing && !e.fence.frozen(); {
		<-e.wake
		closing = e.take()
		if e.current != nil {
			e.commit(e.current)
		}
	}
	e.ended = e.shutDown()
	if err := e.fence.err(); err != nil {
		e.tellPoison(err)
		e.ended = err
	}
}

func (e *Engine) shutDown() error {
	if err := e.fence.err(); err != nil {
		e.refuseAll(err)
		return e.closeDB() // what it says about a frozen directory means nothing
	}
	// A log that ends in the middle cannot be told from one that was cut: leave
	// none that holds anything.
	return errors.Join(e.flush(), e.closeDB())
}

// take makes the oldest group the current one; current is nil where nothing
// is queued. Closing, it also ends the queue, when it is the oldest.
func (e *Engine) take() (closing bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = nil
	if len(e.full) > 0 {
		e.current = e.full[0]
		e.current.wanted.Store(true)
		e.full = e.full[1:]
		if len(e.full) > 0 || e.queue.wanted.Load() || e.closing {
			e.wakeUp()
		}
		return false
	}
	if len(e.queue.ops) > 0 {
		e.current = e.queue
		e.current.wanted.Store(true)
		e.queue = newGroup()
	}
	if e.closing {
		e.endQueue(ErrClosed)
	}
	return e.closing
}

// endQueue makes err the fate of every op from now on; e.mu is held.
func (e *Engine) endQueue(err error) {
	if e.refuse == nil {
		e.refuse = err
		for _, g := range append(e.full, e.queue) {
			g.wanted.Store(true)
			g.end(err)
		}
		e.full = nil
	}
}

// refuseAll fails what is queued and all that will be.
func (e *Engine) refuseAll(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endQueue(err)
}

// abandon also fails the group under way: the committer may be stuck in it.
func (e *Engine) abandon(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endQueue(err)
	if e.current != nil {
		e.current.end(err)
	}
}

// commit runs a group and wakes its waiters.
func (e *Engine) commit(g *group) {
	batch := e.db.NewBatch()
	e.tx.begin(e.now(), batch)
	err := batch.LogData(mark(e.durable), nil)
	for _, p := range g.ops {
		p.err = e.tx.run(func() error { return p.op(&e.tx) })
		p.op = nil
	}
	var afters []func(error)
	err = errors.Join(err, e.tx.run(func() error {
		for _, hook := range *e.hooks.Load() {
			if after := hook(&e.tx); after != nil {
				afters = append(afters, after)
			}
		}
		return nil
	}))
	shipped := e.tx.clock.seq != e.tx.start.seq
	err = errors.Join(err, e.tx.finish())
	if err == nil {
		err = e.apply(batch)
	}
	// Behind the fence a failed write looks like one that was made, and what
	// was not made may read as corrupt.
	if fault := e.fence.err(); fault != nil {
		err = fault
	}
	if err != nil {
		e.tx.clock = e.tx.start
	}
	for _, after := range afters {
		after(err)
	}
	g.end(err)
	if shipped && err == nil {
		e.signalChange()
	}
}

// apply makes the batch durable. An empty one needs no write: what its ops
// read was committed by earlier groups, which are durable already.
func (e *Engine) apply(batch *pebble.Batch) error {
	if batch.Count() > 0 {
		if err := e.db.Apply(batch, pebble.Sync); err != nil {
			return err
		}
		e.durable = uint64(batch.SeqNum()) + uint64(batch.Count())
	}
	return batch.Close()
}
