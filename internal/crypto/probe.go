package crypto

import (
	"context"
	"sync"
	"time"
)

// maxRefusing bounds the tenants' keys that one probe asks because they refuse.
const maxRefusing = 8

// Run probes every region until ctx is done, and returns when all probes have.
func (r *Ring) Run(ctx context.Context) {
	var probes sync.WaitGroup
	for _, s := range r.sites {
		probes.Go(func() { r.probeUntil(ctx, s) })
	}
	probes.Wait()
}

// Probe asks every region once, now.
func (r *Ring) Probe(ctx context.Context) {
	for _, s := range r.sites {
		r.probeSite(ctx, s)
	}
}

func (r *Ring) probeUntil(ctx context.Context, s *site) {
	tick := time.NewTicker(r.probeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.probeSite(ctx, s)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// probeSite asks by the ring's own key whether the site answers, and then some
// tenants' keys whether they refuse.
func (r *Ring) probeSite(ctx context.Context, s *site) {
	r.probe(ctx, s.first)
	for _, g := range s.due() {
		if s.down.Load() {
			return
		}
		r.probe(ctx, g)
	}
}

// due are the tenants' keys that a probe asks: the next in turn, since nobody
// may be using it, and those that refuse, some of them where there are many.
func (s *site) due() (keys []*region) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.tenants {
		g := s.tenants[(s.next+i)%len(s.tenants)]
		if i == 0 || g.refuses() && len(keys) <= maxRefusing {
			keys = append(keys, g)
		}
	}
	s.next++
	return keys
}

// probe asks whether the key is there; of a region that is not Up, also
// whether it works, since a key may be described by whom it refuses.
func (r *Ring) probe(ctx context.Context, g *region) {
	turn := g.turn.Load()
	err := g.check(ctx)
	if err == nil && !g.healthy() {
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
