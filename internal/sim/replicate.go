package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// replicationPage is how many changes travel at once, and the window in
	// which they are put out of order.
	replicationPage = 512
	// replicationRetry is how long a pump waits when a link is down.
	replicationRetry = 100 * time.Millisecond
)

// pump moves one region's outbox to every other region. Items of a page are
// delivered out of order, as global tables may; an item that changed again
// before it left arrives once, as it is then. The outbox keeps what some
// region has not got, through restarts too.
type pump struct {
	from   *Region
	others []*Region
	sent   []uint64 // how far each of others has got
	random *rand.Rand
}

func (w *World) newPump(from *Region) *pump {
	others := w.others(from)
	random := rand.New(rand.NewPCG(w.cfg.Seed, uint64(len(from.Name)))) //nolint:gosec // G404: shuffles deliveries, keeps no secret
	return &pump{from: from, others: others, sent: make([]uint64, len(others)), random: random}
}

// run pumps until ctx is done.
func (p *pump) run(ctx context.Context) {
	for ctx.Err() == nil && len(p.others) > 0 {
		moved, err := p.pass(ctx)
		switch {
		case err != nil:
			pause(ctx, replicationRetry)
		case !moved:
			select {
			case <-ctx.Done():
			case <-p.from.engine.Changed():
			}
		}
	}
}

// pass delivers a page to every region and tells whether there was anything.
func (p *pump) pass(ctx context.Context) (moved bool, err error) {
	var failures []error
	for i := range p.others {
		some, err := p.deliver(ctx, i)
		moved = moved || some
		failures = append(failures, err)
	}
	if moved {
		failures = append(failures, p.from.engine.Ack(ctx, slices.Min(p.sent)))
	}
	return moved, errors.Join(failures...)
}

func (p *pump) deliver(ctx context.Context, i int) (bool, error) {
	to := p.others[i]
	if linkDown(p.from, to) {
		return false, errLinkDown
	}
	changes, err := p.from.engine.Outbox(p.sent[i], replicationPage)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	replicas, err := p.from.engine.Export(ctx, changes)
	if err != nil {
		return false, err
	}
	p.random.Shuffle(len(replicas), func(i, j int) { replicas[i], replicas[j] = replicas[j], replicas[i] })
	if err := to.engine.Apply(ctx, replicas); err != nil {
		return false, err
	}
	p.sent[i] = changes[len(changes)-1].Seq
	return true, nil
}

// Settle replicates in the foreground until every region has what every other
// has, for tests that do not Run. A link that is down is an error.
func (w *World) Settle(ctx context.Context) error {
	for _, r := range w.Regions {
		p := w.newPump(r)
		for {
			moved, err := p.pass(ctx)
			if err != nil {
				return err
			}
			if !moved {
				break
			}
		}
	}
	return nil
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
