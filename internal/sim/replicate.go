package sim

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// replicationPage is how many changes travel at once, and the window in
	// which they are put out of order.
	replicationPage = 512
	// replicationRetry is how long a pump waits when a link is down.
	replicationRetry = 100 * time.Millisecond
)

// replicate pumps a region's outbox to every other region until ctx is done.
// Items of a page are delivered out of order, as global tables may; an item
// that changed again before it left arrives once, as it is then. The outbox
// keeps what some region has not got, through restarts too.
func (w *World) replicate(ctx context.Context, from *Region) {
	random := rand.New(rand.NewPCG(w.cfg.Seed, uint64(len(from.Name)))) //nolint:gosec // G404: shuffles deliveries, keeps no secret
	others := w.others(from)
	sent := make([]uint64, len(others))
	if len(others) == 0 {
		return
	}
	for ctx.Err() == nil {
		idle, failed := true, false
		for i, to := range others {
			through, more, err := w.deliver(ctx, from, to, sent[i], random)
			sent[i] = through
			idle = idle && !more
			failed = failed || err != nil
		}
		if err := from.engine.Ack(ctx, lowest(sent)); err != nil {
			failed = true
		}
		switch {
		case failed:
			pause(ctx, replicationRetry)
		case idle:
			select {
			case <-ctx.Done():
			case <-from.engine.Changed():
			}
		}
	}
}

// deliver sends the next page and tells how far it got and whether there was any.
func (w *World) deliver(ctx context.Context, from, to *Region, after uint64, random *rand.Rand) (uint64, bool, error) {
	if linkDown(from, to) {
		return after, false, errLinkDown
	}
	changes, err := from.engine.Outbox(after, replicationPage)
	if err != nil || len(changes) == 0 {
		return after, false, err
	}
	replicas, err := from.engine.Export(ctx, changes)
	if err != nil {
		return after, false, err
	}
	random.Shuffle(len(replicas), func(i, j int) { replicas[i], replicas[j] = replicas[j], replicas[i] })
	if err := to.engine.Apply(ctx, replicas); err != nil {
		return after, false, err
	}
	return changes[len(changes)-1].Seq, true, nil
}

func lowest(sent []uint64) uint64 {
	low := sent[0]
	for _, s := range sent[1:] {
		low = min(low, s)
	}
	return low
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
