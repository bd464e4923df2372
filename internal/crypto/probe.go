package crypto

import (
	"context"
	"sync"
	"time"
)

// Run probes every region until ctx is done, and returns when all probes have.
func (r *Ring) Run(ctx context.Context) {
	var probes sync.WaitGroup
	for _, g := range r.regions {
		probes.Go(func() { r.probeUntil(ctx, g) })
	}
	probes.Wait()
}

// Probe asks every region once, now.
func (r *Ring) Probe(ctx context.Context) {
	for _, g := range r.regions {
		r.probe(ctx, g)
	}
}

func (r *Ring) probeUntil(ctx context.Context, g *region) {
	tick := time.NewTicker(r.probeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.probe(ctx, g)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// probe asks whether the key is there; of a region that is not Up, also
// whether it works, since a key may be described by whom it refuses.
func (r *Ring) probe(ctx context.Context, g *region) {
	if g.abandoned.Load() >= maxAbandoned {
		return
	}
	turn := g.turn.Load()
	err := g.check(ctx)
	if err == nil && !g.healthy.Load() {
		err = tryKey(ctx, g)
	}
	g.note(err, turn, true)
}

// tryKey makes a data key and opens it again, under a context that no record has.
func tryKey(ctx context.Context, g *region) error {
	ec := map[string]string{contextType: probeType}
	made, err := g.generate(ctx, ec, true)
	if err != nil {
		return err
	}
	made.key.Wipe()
	opened, err := g.decrypt(ctx, keyCopy{arn: g.key.text, ciphertext: made.ciphertext}, ec, true)
	opened.Wipe()
	return err
}
