package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/crypto"
)

// far is a hook of a KMS that answers after d.
func far(d time.Duration) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
}

// ahead is a ring of n KMSs, the local one 5 ms away and the others 100 ms,
// with a sealer that makes keys ahead. It runs until the test ends it.
type ahead struct {
	*crypto.Sealer
	ring  *crypto.Ring
	kmss  []*remoteKMS
	stop  func()
	stats func() crypto.PrefetchStats
}

func newAhead(t *testing.T, n int, c crypto.PrefetchConfig) *ahead {
	t.Helper()
	config, kmss := remoteRing(t, n)
	a := &ahead{kmss: kmss, ring: mustRing(t, config)}
	for i := range kmss {
		a.back(i)
	}
	a.Sealer = crypto.NewSealer(a.ring, nil, nil)
	a.EnablePrefetch(c)
	a.stats = a.Prefetched
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { a.ring.Run(ctx) })
	wait.Go(func() { a.Run(ctx) })
	a.stop = func() {
		cancel()
		wait.Wait()
		if s := a.stats(); s.Ready != 0 || s.Prepared != s.Used+s.Discarded {
			t.Errorf("left over: %+v", s)
		}
	}
	return a
}

// back has a KMS answer as it should.
func (a *ahead) back(i int) { a.kmss[i].set(far(time.Duration(5+min(i, 1)*95) * time.Millisecond)) }

// at seals one value every pause, n times, and returns how long each took.
func (a *ahead) at(t *testing.T, pause time.Duration, n int, v crypto.Value) (took []time.Duration, sealed []crypto.Sealed) {
	t.Helper()
	for range n {
		start := time.Now()
		sealed = append(sealed, mustSeal(t, a.Sealer, v))
		took = append(took, time.Since(start))
		time.Sleep(max(0, pause-time.Since(start)))
	}
	return took, sealed
}

var keepAhead = crypto.PrefetchConfig{MaxKeys: 1000, MaxAge: 30 * time.Second}

// In steady use nobody waits for KMS, every record has every copy, and each
// key is used once; when use ends, so does the making, and what is left is gone.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 3, keepAhead)
		v := boundValue("x")
		a.at(t, 50*time.Millisecond, 40, v)
		took, sealed := a.at(t, 50*time.Millisecond, 400, v)
		ids := map[string]bool{}
		for i := range took {
			ids[sealed[i].DataKey] = true
			if took[i] != 0 {
				t.Fatalf("seal %d took %v", i, took[i])
			}
			equal(t, "missing", sealed[i].Missing, nil)
		}
		if len(ids) != 400 || sealed[0].RingEpoch != 7 {
			t.Errorf("%d keys for 400 values, epoch %d", len(ids), sealed[0].RingEpoch)
		}
		mustOpen(t, a.Sealer, sealed[399].Message, v)
		// 20 a second: five seconds' worth are ready.
		synctest.Wait()
		s := a.stats()
		if s.Ready < 80 || s.Ready > 100 {
			t.Errorf("%+v at 20 a second", s)
		}
		called := a.kmss[0].calls.Load()
		time.Sleep(2 * time.Second)
		if n := a.kmss[0].calls.Load() - called; n > 5 {
			t.Errorf("%d calls while idle", n)
		}
		time.Sleep(30 * time.Second)
		if s = a.stats(); s.Ready != 0 || s.Discarded > 100 {
			t.Errorf("after idling: %+v", s)
		}
		called = a.kmss[0].calls.Load()
		time.Sleep(time.Hour)
		if n := a.kmss[0].calls.Load() - called; n != 0 {
			t.Errorf("%d calls while idle", n)
		}
		a.stop()
	})
}

// Keys wait for their use as long as is configured.
func TestPrefetchMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, crypto.PrefetchConfig{MaxKeys: 1000, MaxAge: 3 * time.Second})
		a.at(t, 50*time.Millisecond, 200, boundValue("x"))
		if s := a.stats(); s.Ready == 0 {
			t.Errorf("%+v in use", s)
		}
		time.Sleep(10 * time.Second) // five in which some are made, and then their age
		if s := a.stats(); s.Ready != 0 {
			t.Errorf("%+v later", s)
		}
		a.stop()
	})
}

// Rare use has nothing made ahead.
func TestPrefetchRareUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		a.at(t, 15*time.Second, 50, boundValue("x"))
		if s := a.stats(); s.Prepared != 0 || s.Missed != 50 {
			t.Errorf("%+v", s)
		}
		a.stop()
	})
}

// What is used is made again at once, also where it was all that may be ready
// (of which shares leave a little, between two sweeps).
func TestPrefetchRefillsAtOnce(t *testing.T) {
	for _, test := range []struct{ max, ready int }{{1000, 40}, {10, 8}} {
		synctest.Test(t, func(t *testing.T) {
			a := newAhead(t, 2, crypto.PrefetchConfig{MaxKeys: test.max})
			v := boundValue("x")
			a.at(t, 100*time.Millisecond, 500, v)
			for range 20 {
				mustSeal(t, a.Sealer, v)
				time.Sleep(110 * time.Millisecond)
				if n := a.stats().Ready; n < test.ready || n > test.max {
					t.Errorf("%d ready of at most %d", n, test.max)
				}
			}
			a.stop()
		})
	}
}

// The first need is met at once, not at the next second.
func TestPrefetchBeginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		a.at(t, 200*time.Millisecond, 3, boundValue("x"))
		if s := a.stats(); s.Ready != 1 {
			t.Errorf("%+v after three uses", s)
		}
		a.stop()
	})
}

// The bound holds from the first burst on.
func TestPrefetchBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, crypto.PrefetchConfig{MaxKeys: 10})
		if _, err := a.Seal(t.Context(), slices.Repeat([]crypto.Value{boundValue("x")}, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if n := a.stats().Ready; n != 10 {
			t.Errorf("%d ready of at most 10", n)
		}
		a.stop()
	})
}

// What bursts and pauses waste is at most half of what was used.
func TestPrefetchWaste(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			a := newAhead(t, 2, keepAhead)
			v := boundValue("x")
			uses := 0
			for range 40 {
				n := 1 + random.IntN(100)
				a.at(t, time.Duration(random.IntN(300))*time.Millisecond, n, v)
				uses += n
				time.Sleep(time.Duration(random.IntN(120)) * time.Second)
			}
			a.stop()
			s := a.stats()
			if s.Used+s.Missed != uint64(uses) || s.Discarded > s.Used/2+s.Missed/2 || s.Used < uint64(uses)/2 {
				t.Errorf("seed %d: %d uses: %+v", seed, uses, s)
			}
		})
	}
}

// A burst beyond what is ready waits for its own keys and for nobody else's.
func TestPrefetchBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		v := boundValue("x")
		a.at(t, 100*time.Millisecond, 500, v)
		values := make([]crypto.Value, 150)
		for i := range values {
			values[i] = v
		}
		before := a.stats()
		start := time.Now()
		sealed, err := a.Seal(t.Context(), values)
		if err != nil {
			t.Fatal(err)
		}
		// 50 are ready; 100 remain, 64 at a time.
		if waited := time.Since(start); waited != 210*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		ids := map[string]bool{}
		for _, one := range sealed {
			ids[one.DataKey] = true
			equal(t, "missing", one.Missing, nil)
		}
		after := a.stats()
		if used, missed := after.Used-before.Used, after.Missed-before.Missed; used < 40 || used+missed != 150 || len(ids) != 150 {
			t.Errorf("%d used, %d missed, %d keys", used, missed, len(ids))
		}
		a.stop()
	})
}

// G2, G3: a short outage is outlived with full copies; a longer one costs
// nobody anything, and no degraded key is made ahead.
func TestPrefetchOutlivesAnOutage(t *testing.T) {
	for out := range 2 {
		synctest.Test(t, func(t *testing.T) {
			a := newAhead(t, 2, keepAhead)
			v := boundValue("x")
			a.at(t, 100*time.Millisecond, 300, v)
			a.kmss[out].set(hangs)
			took, sealed := a.at(t, 100*time.Millisecond, 100, v)
			before, called := a.stats(), a.kmss[1-out].calls.Load()
			more, moreSealed := a.at(t, 100*time.Millisecond, 100, v)
			after := a.stats()
			if n := a.kmss[1-out].calls.Load() - called; n != 100 || after.Prepared != before.Prepared {
				t.Errorf("region %d: %d calls for 100 values, %+v", out, n, after)
			}
			took, sealed = append(took, more...), append(sealed, moreSealed...)
			degraded := 0
			var waited time.Duration
			for i := range took {
				if len(sealed[i].Missing) > 0 {
					degraded++
					equal(t, "missing", sealed[i].Missing, []string{regionName(out)})
				} else if degraded > 0 {
					t.Error("a key with every copy after one without")
				}
				// Without the remote region there is the local one's 5 ms.
				waited = max(waited, took[i])
			}
			if full := len(took) - degraded; full < 45 || full > 60 {
				t.Errorf("region %d: %d of %d with every copy", out, full, len(took))
			}
			if near := time.Duration(5+95*(1-out)) * time.Millisecond; waited != near {
				t.Errorf("region %d: somebody waited %v", out, waited)
			}
			a.back(out)
			time.Sleep(4 * time.Second)
			a.at(t, 100*time.Millisecond, 20, v)
			took, sealed = a.at(t, 100*time.Millisecond, 50, v)
			for i := range took {
				equal(t, "missing", sealed[i].Missing, nil)
				if took[i] != 0 {
					t.Errorf("region %d is back: %v", out, took[i])
				}
			}
			a.stop()
		})
	}
}

// A denial, of either region, discards what was made before it began, and what
// was made before it ended; so does age.
func TestPrefetchDiscards(t *testing.T) {
	for denied := range 2 {
		synctest.Test(t, func(t *testing.T) {
			a := newAhead(t, 2, keepAhead)
			v := boundValue("x")
			a.at(t, 100*time.Millisecond, 100, v)
			ready := a.stats().Ready
			if ready < 20 {
				t.Fatalf("%d ready", ready)
			}
			a.kmss[denied].set(fails(crypto.ErrDisabled))
			a.ring.Probe(t.Context())
			sealed := mustSeal(t, a.Sealer, v)
			equal(t, "missing", sealed.Missing, []string{regionName(denied)})
			if s := a.stats(); s.Ready != 0 || s.Discarded < uint64(ready) {
				t.Errorf("%+v, of which %d before the denial", s, ready)
			}
			took, _ := a.at(t, 100*time.Millisecond, 50, v)
			for _, d := range took {
				if d >= time.Second {
					t.Errorf("waited %v", d)
				}
			}
			if s := a.stats(); s.Ready != 0 {
				t.Errorf("%+v while denied", s)
			}
			a.back(denied)
			time.Sleep(3 * time.Second)
			_, all := a.at(t, 100*time.Millisecond, 100, v)
			for _, one := range all[1:] {
				equal(t, "missing", one.Missing, nil)
			}
			if s := a.stats(); s.Ready < 20 {
				t.Errorf("%+v after the denial", s)
			}
			a.stop()
		})
	}
}

// A key that was being made when a denial began is not kept.
func TestPrefetchRacesADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		v := boundValue("x")
		var wait sync.WaitGroup
		wait.Go(func() { // has four begun beside its own
			if _, err := a.Seal(t.Context(), []crypto.Value{v, v, v, v, v, v, v, v}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(50 * time.Millisecond)
		if n := a.kmss[1].calls.Load(); n != 12 {
			t.Fatalf("%d copies are being made", n)
		}
		a.kmss[0].set(fails(crypto.ErrDenied))
		a.ring.Probe(t.Context())
		wait.Wait()
		time.Sleep(time.Second)
		if s := a.stats(); s.Ready != 0 || s.Used != 0 {
			t.Errorf("%+v", s)
		}
		a.stop()
	})
}

// Throttling is answered with less: one attempt a second, and no key that lacks a copy.
func TestPrefetchThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		v := boundValue("x")
		values := make([]crypto.Value, 100)
		for i := range values {
			values[i] = v
		}
		a.kmss[1].set(fails(crypto.ErrThrottled))
		for range 10 {
			if _, err := a.Seal(t.Context(), values); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		// Clients' 1,000, and of those that are made ahead a first round and one a second.
		if n := a.kmss[1].calls.Load(); n > 1000+64+12 {
			t.Errorf("%d calls", n)
		}
		if s := a.stats(); s.Prepared != 0 || s.Missed != 1000 {
			t.Errorf("%+v", s)
		}
		a.back(1)
		time.Sleep(2 * time.Second)
		if s := a.stats(); s.Ready == 0 {
			t.Errorf("%+v: it is over", s)
		}
		a.stop()
	})
}

// The bound on all keys holds, and partitions share it by their use.
func TestPrefetchShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, crypto.PrefetchConfig{MaxKeys: 60})
		busy, calm := boundValue("x"), boundValue("x")
		calm.Place.Type = "phone"
		misses := 0
		for i := range 4000 {
			if s := a.stats(); s.Ready > 60 {
				t.Fatalf("%d ready", s.Ready)
			}
			mustSeal(t, a.Sealer, busy)
			if i%8 == 0 {
				start := time.Now()
				mustSeal(t, a.Sealer, calm)
				if i > 1000 && time.Since(start) > 0 {
					misses++
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if misses > 20 {
			t.Errorf("the calmer type waited %d times of 375", misses)
		}
		if s := a.stats(); s.Used < 3000 {
			t.Errorf("%+v", s)
		}
		a.stop()
	})
}

// Tenants and types never share a key, however many there are; beyond the
// number that is watched, the others' keys are made as needed until some are idle.
func TestPrefetchPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 1, crypto.PrefetchConfig{MaxKeys: 10_000})
		seal := func(first, n int) {
			for range 4 {
				var wait sync.WaitGroup
				for i := first; i < first+n; i++ {
					wait.Go(func() {
						v := boundValue("x")
						v.Place.Tenant = fmt.Sprintf("tn_%d", i)
						mustOpen(t, a.Sealer, mustSeal(t, a.Sealer, v).Message, v)
					})
				}
				wait.Wait()
				time.Sleep(time.Second)
			}
		}
		seal(0, 1024)
		if s := a.stats(); s.Ready < 1000 {
			t.Errorf("%+v", s)
		}
		before := a.stats().Ready
		seal(1024, 10)
		if s := a.stats(); s.Ready > before {
			t.Errorf("%+v: more partitions than are watched", s)
		}
		time.Sleep(time.Minute)
		seal(1024, 10)
		if s := a.stats(); s.Ready < 10 {
			t.Errorf("%+v: the others are idle", s)
		}
		a.stop()
	})
}

// Where keys may be reused, those made ahead are, and their age counts from
// their first use.
func TestPrefetchAndReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		v := shared("t", "email", 10)
		v.Policy.MaxMessages, v.Policy.MaxAge = 5, 2*time.Second
		a.at(t, 100*time.Millisecond, 100, v)
		took, sealed := a.at(t, 100*time.Millisecond, 100, v)
		ids := map[string]int{}
		for i := range took {
			ids[sealed[i].DataKey]++
			if took[i] != 0 {
				t.Errorf("seal %d took %v", i, took[i])
			}
		}
		if len(ids) > 21 {
			t.Errorf("%d keys for 100 values that share one by five", len(ids))
		}
		a.stop()
		a.Close()
	})
}

// Without prefetch, or where KMS waits for nothing, nothing is made ahead.
func TestPrefetchOff(t *testing.T) {
	c, kmss := remoteRing(t, 1)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	s.EnablePrefetch(crypto.PrefetchConfig{})
	s.Run(t.Context())
	mustSeal(t, s, boundValue("x"))
	if kmss[0].calls.Load() != 1 || s.Prefetched() != (crypto.PrefetchStats{}) {
		t.Errorf("off: %+v", s.Prefetched())
	}

	s = crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil)
	s.EnablePrefetch(keepAhead)
	for range 10 {
		mustSeal(t, s, boundValue("x"))
	}
	if s.Prefetched() != (crypto.PrefetchStats{}) {
		t.Errorf("prompt: %+v", s.Prefetched())
	}
}

// However long an outage is, what is to be made after it stays bounded.
func TestPrefetchQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(t, 2, keepAhead)
		a.kmss[1].set(fails(crypto.ErrUnreachable))
		phone := boundValue("x")
		phone.Place.Type = "phone"
		for range 100 {
			mustSeal(t, a.Sealer, boundValue("x"))
			mustSeal(t, a.Sealer, phone)
		}
		if n := a.QueuedStocks(); n != 2 {
			t.Errorf("%d partitions wait for keys, of 2", n)
		}
		a.stop()
	})
}

// Run may end while keys are being made and used.
func TestPrefetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 20 {
			a := newAhead(t, 2, keepAhead)
			v := boundValue("x")
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() {
					for range 30 {
						if _, err := a.Seal(t.Context(), []crypto.Value{v}); err != nil && !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
					}
				})
			}
			time.Sleep(time.Duration(i) * 60 * time.Millisecond)
			a.stop()
			wait.Wait()
		}
	})
}
