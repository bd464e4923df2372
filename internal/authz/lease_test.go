package authz_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/authz"
)

// slowCounters take a while, and count how often they are asked to.
type slowCounters struct {
	authz.Counters
	mu    sync.Mutex // guards taken
	taken map[authz.Counter]int
}

const askTime = 10 * time.Millisecond

// Take implements authz.Counters.
func (c *slowCounters) Take(ctx context.Context, counter authz.Counter, n, limit int64) (authz.Taken, error) {
	c.mu.Lock()
	c.taken[counter]++
	c.mu.Unlock()
	time.Sleep(askTime)
	return c.Counters.Take(ctx, counter, n, limit)
}

func plenty(l *authz.BudgetLimits) {
	lots := authz.Limit{Hour: 1e6, Day: 1e6}
	l.Principal.Plain, l.Tenant.Plain, l.Principal.Subjects = lots, lots, lots
}

// Whoever asks a counter asks for all who wait: many at once wait for it twice,
// not one after the other.
func TestAskedForTogether(t *testing.T) {
	for _, batch := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice(t, plenty)
			slow := &slowCounters{Counters: o.counters, taken: map[authz.Counter]int{}}
			b := authz.NewBudgets(authz.BudgetsConfig{Counters: slow, Limits: o.limits, Share: whole(), Now: o.clock.Now})
			began := time.Now()
			var callers sync.WaitGroup
			for range 64 {
				callers.Go(func() { o.spend(b, batch, reveals(batch, authz.BudgetPlain, "email", "")...) })
			}
			callers.Wait()
			if took := time.Since(began); took != 2*askTime {
				t.Errorf("batches of %d: %s", batch, took)
			}
			for counter, n := range slow.taken {
				if n > 2 {
					t.Errorf("batches of %d: %s was asked %d times", batch, counter.Name, n)
				}
			}
		})
	}
}

// One of many who wait for a counter may give up, and the others do not.
func TestWaitingForACounterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, plenty)
		slow := &slowCounters{Counters: o.counters, taken: map[authz.Counter]int{}}
		b := authz.NewBudgets(authz.BudgetsConfig{Counters: slow, Limits: o.limits, Share: whole(), Now: o.clock.Now})
		var callers sync.WaitGroup
		callers.Go(func() { o.spend(b, 1, reveals(1, authz.BudgetPlain, "email", "")...) })
		synctest.Wait()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), askTime/2)
			defer cancel()
			if _, _, err := b.Spend(ctx, eve, reveals(100, authz.BudgetPlain, "email", ""), true); err == nil {
				t.Error("granted after the time was over")
			}
		})
		callers.Go(func() { o.spend(b, 100, reveals(100, authz.BudgetPlain, "email", "")...) })
		callers.Wait()
	})
}

// A lease of a large budget that many use at once is refilled before it is used
// up; one that nobody waits for, or of a small budget, is not: what is held
// strands more than it saves.
func TestBusyLeasesAreRefilled(t *testing.T) {
	for name, c := range map[string]struct {
		limits              func(*authz.BudgetLimits)
		atOnce, spend, left int
	}{
		"large, many at once": {plenty, 2, 3, 47 + 50},
		"large, one by one":   {plenty, 1, 3, 47},
		"small":               {nil, 2, 3, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, c.limits)
				slow := &slowCounters{Counters: o.counters, taken: map[authz.Counter]int{}}
				b := authz.NewBudgets(authz.BudgetsConfig{Counters: slow, Limits: o.limits, Share: whole(), Now: o.clock.Now})
				ctx, cancel := context.WithCancel(t.Context())
				var running, callers sync.WaitGroup
				running.Go(func() { b.Run(ctx) })
				for range c.atOnce {
					callers.Go(func() { o.spend(b, 1, reveals(1, authz.BudgetPlain, "email", "")...) })
				}
				callers.Wait()
				for range c.spend - c.atOnce {
					o.spend(b, 1, reveals(1, authz.BudgetPlain, "email", "")...)
				}
				time.Sleep(2 * askTime)
				o.counters.Fail(authz.ErrUnavailable)
				left := 0
				for {
					if _, _, err := b.Spend(t.Context(), eve, reveals(1, authz.BudgetPlain, "email", ""), true); err != nil {
						break
					}
					left++
				}
				if left != c.left {
					t.Errorf("%d were left, want %d", left, c.left)
				}
				cancel()
				running.Wait()
			})
		})
	}
}
