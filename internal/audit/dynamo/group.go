package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// again is the pause between rounds of writing a block that nobody waits for.
const again = time.Second

// group is the appends that share blocks.
type group struct {
	before  *group // dropped once it is done
	blocks  []block
	waiting []*pending
	done    chan struct{} // closed when it and all before are durable, or failed
	failed  bool          // written before done is closed
}

// commit makes groups of what is queued and writes them; as many committers as
// there may be groups under way do so. It ends after Close, with the queue empty.
func (l *Log) commit() {
	for {
		select {
		case <-l.wake:
		case <-l.stop:
		}
		for g := l.next(); g != nil; g = l.next() {
			l.write(g)
		}
		if l.ended() {
			return
		}
	}
}

func (l *Log) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed && len(l.queue) == 0
}

// next makes a group of what is queued, or gives nil if nothing is.
func (l *Log) next() *group {
	l.order.Lock()
	defer l.order.Unlock()
	if waiting := l.take(); len(waiting) > 0 {
		return l.flush(waiting)
	}
	return nil
}

// take adds queued appends to the open group; order is held.
func (l *Log) take() []*pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.queue) && size < groupBytes {
		p := l.queue[n]
		size += p.leaves.Size()
		p.first = l.writer.Add(&p.leaves)
		p.leaves = audit.Leaves{}
		n++
	}
	taken := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	if len(l.queue) > 0 {
		l.wakeUp() // another committer
	}
	return taken
}

// flush ends the group's blocks; order is held.
func (l *Log) flush(waiting []*pending) *group {
	g := &group{before: l.last, waiting: waiting, done: make(chan struct{})}
	l.writer.Flush(func(number uint64, b []byte) {
		g.blocks = append(g.blocks, block{number, slices.Clone(b)})
	})
	l.last = g
	return g
}

// write makes a group durable. When Patience is over nobody waits any more,
// but it is written on: the blocks after it would be void without it.
func (l *Log) write(g *group) {
	defer close(g.done)
	ctx, cancel := context.WithTimeout(l.ctx, l.config.Patience)
	err := l.attempt(ctx, g)
	cancel()
	if err != nil && !errors.Is(err, errFenced) {
		l.stalls(1)
		settle(g.waiting, fmt.Errorf("%w: %w", audit.ErrUnavailable, err))
		g.waiting = nil
		for err != nil && !errors.Is(err, errFenced) && l.ctx.Err() == nil {
			l.sleep(again)
			err = l.attempt(l.ctx, g)
		}
		l.stalls(-1)
	}
	g.before = nil
	if err != nil {
		g.failed = true
		l.fail(err)
		settle(g.waiting, fmt.Errorf("%w: %w", audit.ErrUnavailable, err))
		return
	}
	if n := len(g.blocks); n > 0 {
		l.durable.Store(g.blocks[n-1].number + 1)
		l.indexer.wakeUp()
	}
	settle(g.waiting, nil)
}

// attempt writes the group's blocks and waits for the group before.
func (l *Log) attempt(ctx context.Context, g *group) error {
	err := dynamo.Each(ctx, len(g.blocks), func(ctx context.Context, i int) error { return l.put(ctx, l.name, g.blocks[i]) })
	if err != nil {
		return err
	}
	select {
	case <-g.before.done:
		if g.before.failed {
			return errFenced
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stalls counts the groups that nobody waits for any more. While there are
// any, nothing can be appended, and what was queued is refused.
func (l *Log) stalls(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled == 0 {
		l.config.Logger.Warn().Msg("audit blocks cannot be written now")
	}
	l.stalled += by
	l.refuseQueued()
}

// fail ends the log's life: its tree is ahead of what is stored.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = err
		l.config.Logger.Error().Err(err).Stringer("log", l.name).Msg("an audit log has ended before its process")
		if l.config.OnEnd != nil {
			l.config.OnEnd(err)
		}
	}
	l.refuseQueued()
}

// refuseQueued settles what is queued, if nothing can be appended; mu is held.
func (l *Log) refuseQueued() {
	if l.broken != nil || l.stalled > 0 {
		settle(l.queue, l.refusal())
		l.queue = nil
	}
}

func (l *Log) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

func settle(waiting []*pending, err error) {
	for _, p := range waiting {
		p.result = err
		close(p.done)
	}
}
