package crypto

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// PrefetchConfig bounds the data keys that are made ahead of their use.
type PrefetchConfig struct {
	// MaxKeys is how many there are at most, of all tenants and types
	// together; 0: none are made ahead.
	MaxKeys int
	// MaxAge is how long a key waits for its use; 0: 30 seconds.
	MaxAge time.Duration
}

// PrefetchStats count data keys since the start: Prepared is the sum of Used,
// Discarded and Ready.
type PrefetchStats struct {
	Prepared  uint64 // made ahead, with every copy
	Used      uint64 // and handed out
	Discarded uint64 // and wiped unused: too old, or older than a denial's begin or end
	Missed    uint64 // needed while none was ready: somebody waited for KMS
	Ready     int    // now
}

const (
	// Recent use fades with this time constant: at a steady rate it is ten
	// seconds' worth of keys.
	useMemory = 10 * time.Second
	// lookahead is how long the keys made ahead last at the rate of recent
	// use. What nobody uses in the end is thus at most half of what was used
	// shortly before: all that idleness can waste.
	lookahead = 5 * time.Second
	// maxStocks bounds the partitions that are watched; keys for others are
	// made as they are needed, until one of these is idle. (Dropping the one
	// used longest ago instead would waste its keys whenever there is one
	// partition too many.)
	maxStocks = 1024

	defaultMaxAge = 30 * time.Second
	prefetchEvery = time.Second
)

// prefetch makes data keys ahead. Takers only ever lock, look and leave; the
// one goroutine of run, and the makers that it starts and waits for, do the
// rest.
type prefetch struct {
	ring *Ring
	now  func() time.Time
	max  int
	age  time.Duration
	wake chan struct{} // holds at most one wake for run

	mu     sync.Mutex // guards what follows
	pools  map[*Keyset]*pool
	stocks map[partition]*stock
	queue  []*stock // those that may lack keys, each once, in turn
	held   int      // keys ready or being made
	share  float64  // of what each stock should have, that all may have together
	stats  PrefetchStats
}

// pool is the stocks whose keys the same keyset wraps. failing: its last key
// failed or lacked a copy, so one a second is tried.
type pool struct{ failing, trial bool }

// stock is what is ready for one partition.
type stock struct {
	partition partition
	keyset    *Keyset
	pool      *pool
	use       float64     // recent use, as of last
	last      time.Time   // use
	keys      []*prepared // ready, oldest first
	making    int
	queued    bool
}

// prepared is a key that waits for its use.
type prepared struct {
	key      *dataKey
	born     time.Time
	decision uint64 // of its keyset, when it was begun
}

// EnablePrefetch has Run make data keys ahead, for as long as each tenant's
// and type's recent use will need some seconds; none where KMS waits for
// nothing. Call it before the sealer is used.
func (s *Sealer) EnablePrefetch(c PrefetchConfig) {
	if c.MaxKeys <= 0 {
		return
	}
	if c.MaxAge <= 0 {
		c.MaxAge = defaultMaxAge
	}
	s.ahead = &prefetch{
		ring: s.ring, now: s.now, max: c.MaxKeys, age: c.MaxAge, share: 1,
		wake: make(chan struct{}, 1), pools: make(map[*Keyset]*pool), stocks: make(map[partition]*stock),
	}
}

// Run makes data keys ahead until ctx is done, and returns when all that it
// started has ended and no prepared key is left; at once without prefetch.
func (s *Sealer) Run(ctx context.Context) {
	if s.ahead != nil {
		s.ahead.run(ctx)
	}
}

// Prefetched counts the keys made ahead.
func (s *Sealer) Prefetched() PrefetchStats {
	if s.ahead == nil {
		return PrefetchStats{}
	}
	s.ahead.mu.Lock()
	defer s.ahead.mu.Unlock()
	stats := s.ahead.stats
	for _, t := range s.ahead.stocks {
		stats.Ready += len(t.keys)
	}
	return stats
}

func (f *prefetch) run(ctx context.Context) {
	defer f.clear()
	var makers sync.WaitGroup
	defer makers.Wait()
	tick := time.NewTicker(prefetchEvery)
	defer tick.Stop()
	free := make(chan struct{}, maxConcurrent)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.sweep()
			continue
		case free <- struct{}{}:
		}
		if s := f.next(); s != nil {
			makers.Go(func() { f.prepare(ctx, s); <-free })
			continue
		}
		<-free
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.sweep()
		case <-f.wake:
		}
	}
}

// take counts a need of the partition and returns its oldest key that is
// ready, nil if none is.
func (f *prefetch) take(p partition) *prepared {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	full := f.held >= f.max
	s := f.stocks[p]
	if s == nil {
		if len(f.stocks) >= maxStocks {
			f.stats.Missed++
			return nil
		}
		s = f.newStockLocked(p)
	}
	s.use, s.last = s.useAt(now)+1, now
	f.dropLocked(s, now)
	k := f.popLocked(s)
	if k == nil {
		f.stats.Missed++
	} else {
		f.stats.Used++
	}
	if f.wantLocked(s, now) || full {
		f.kick()
	}
	return k
}

func (f *prefetch) newStockLocked(p partition) *stock {
	s := &stock{partition: p, keyset: f.ring.For(p.tenant)}
	if s.pool = f.pools[s.keyset]; s.pool == nil {
		s.pool = new(pool)
		f.pools[s.keyset] = s.pool
	}
	f.stocks[p] = s
	return s
}

// kick wakes run.
func (f *prefetch) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// useAt is the recent use as it has faded until now.
func (s *stock) useAt(now time.Time) float64 {
	idle := max(0, now.Sub(s.last))
	return s.use * math.Exp(-idle.Seconds()/useMemory.Seconds())
}

// lacksLocked reports that a key should be made now. An idle partition gets
// none, whatever it used before.
func (f *prefetch) lacksLocked(s *stock, now time.Time) bool {
	if now.Sub(s.last) >= lookahead {
		return false
	}
	return len(s.keys)+s.making < int(f.share*s.wish(now, f.age))
}

// wish is what the partition would use while the keys last, were it alone.
func (s *stock) wish(now time.Time, age time.Duration) float64 {
	return s.useAt(now) * min(lookahead, age/2).Seconds() / useMemory.Seconds()
}

// wantLocked queues a stock that lacks keys, and reports whether it did.
func (f *prefetch) wantLocked(s *stock, now time.Time) bool {
	if s.queued || !f.lacksLocked(s, now) {
		return false
	}
	s.queued = true
	f.queue = append(f.queue, s)
	return true
}

// next finds the stock whose turn it is to get a key, nil if none is to be
// made now: while a region is away its keys would be degraded, and after a
// failure one a second is enough to see that it is over. A tenant whose keys
// refuse is passed over.
func (f *prefetch) next() *stock {
	if !f.ring.reachable() || f.ring.prompt() {
		return nil
	}
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for range len(f.queue) {
		if f.held >= f.max {
			return nil
		}
		s := f.queue[0]
		f.queue[0] = nil
		f.queue = f.queue[1:]
		if !f.lacksLocked(s, now) {
			s.queued = false
			continue
		}
		f.queue = append(f.queue, s)
		if !s.keyset.willing() || s.pool.failing && !s.pool.trial {
			continue
		}
		s.pool.trial = false
		f.held++
		s.making++
		return s
	}
	return nil
}

// prepare makes one key for a stock. A key that lacks a copy, or that was begun
// before a denial began or ended, is not kept.
func (f *prefetch) prepare(ctx context.Context, s *stock) {
	born, decision := f.now(), s.keyset.decisions.Load()
	k, err := f.newDataKey(ctx, s)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.making--
	s.pool.failing = err != nil || k.degraded()
	switch {
	case err != nil:
		f.held--
	case k.degraded() || decision != s.keyset.decisions.Load():
		f.held--
		k.key.Wipe()
	default:
		f.stats.Prepared++
		s.keys = append(s.keys, &prepared{k, born, decision})
	}
}

func (f *prefetch) newDataKey(ctx context.Context, s *stock) (*dataKey, error) {
	id, err := newDataKeyID(f.ring.random)
	if err != nil {
		return nil, err
	}
	return s.keyset.newDataKey(ctx, id, s.partition)
}

// sweep drops what is too old, forgets who is idle, shares out what all may
// have, and has another key tried where the last one failed.
func (f *prefetch) sweep() {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	var wishes float64
	for _, p := range slices.SortedFunc(maps.Keys(f.stocks), partition.compare) { // who is queued first is not chance's
		s := f.stocks[p]
		f.dropLocked(s, now)
		if now.Sub(s.last) >= lookahead && len(s.keys)+s.making == 0 && !s.queued && s.useAt(now) < 1 {
			delete(f.stocks, p)
			continue
		}
		wishes += s.wish(now, f.age)
		f.wantLocked(s, now)
	}
	f.share = min(1, float64(f.max)/wishes)
	for _, p := range f.pools {
		p.trial = true
	}
}

// dropLocked wipes the keys that may not be used any more, which are the oldest.
func (f *prefetch) dropLocked(s *stock, now time.Time) {
	decision := s.keyset.decisions.Load()
	for len(s.keys) > 0 {
		age := now.Sub(s.keys[0].born)
		if s.keys[0].decision == decision && age >= 0 && age < f.age {
			return
		}
		f.popLocked(s).key.key.Wipe()
		f.stats.Discarded++
	}
}

func (f *prefetch) popLocked(s *stock) *prepared {
	if len(s.keys) == 0 {
		return nil
	}
	k := s.keys[0]
	s.keys[0] = nil
	s.keys = s.keys[1:]
	f.held--
	return k
}

// clear wipes all keys that are ready.
func (f *prefetch) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.stocks {
		for k := f.popLocked(s); k != nil; k = f.popLocked(s) {
			k.key.key.Wipe()
			f.stats.Discarded++
		}
	}
}
