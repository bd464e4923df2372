package authz_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
)

// world is regions whose rings change.
type world struct {
	*testing.T
	clock    *authztest.Clock
	tables   map[string]authz.Control
	counters map[string]*authztest.MemoryCounters
}

func newWorld(t *testing.T, regions ...string) *world {
	t.Helper()
	w := &world{t, authztest.NewClock(), map[string]authz.Control{}, map[string]*authztest.MemoryCounters{}}
	w.clock.Add(30 * time.Minute)
	for _, r := range regions {
		w.tables[r], w.counters[r] = authz.NewTable(), authztest.NewMemoryCounters(w.clock.Now)
	}
	return w
}

// silent is a table that cannot be reached.
type silent struct{ authz.Control }

func (silent) Insert(context.Context, authz.Item) error { return authz.ErrUnavailable }

func (silent) Get(context.Context, authz.Kind, string) (authz.Item, error) {
	return authz.Item{}, authz.ErrUnavailable
}

func (silent) List(context.Context, authz.Kind, string, int) ([]authz.Item, error) {
	return nil, authz.ErrUnavailable
}

// instance starts in a region of a ring; it does not reach some others.
func (w *world) instance(epoch uint64, region string, ring []string, unreached ...string) *authz.Budgets {
	w.Helper()
	limits := authz.DefaultLimits()
	limits.Principal.Plain = authz.Limit{Hour: 600, Day: 600}
	cfg := authz.BudgetsConfig{Counters: w.counters[region], Limits: limits, Now: w.clock.Now, Logger: zerolog.Nop()}
	cfg.Rings = authz.Rings{Epoch: epoch, Regions: ring, Tables: []authz.RegionControl{{Region: region, Control: w.tables[region]}}}
	for i, r := range ring {
		if r == region {
			cfg.Share = authz.Share{Index: i, Of: len(ring)}
			continue
		}
		table := w.tables[r]
		if slices.Contains(unreached, r) {
			table = silent{}
		}
		cfg.Rings.Tables = append(cfg.Rings.Tables, authz.RegionControl{Region: r, Control: table})
	}
	b := authz.NewBudgets(cfg)
	w.refresh(b)
	return b
}

func (w *world) refresh(b *authz.Budgets) {
	w.Helper()
	if err := b.Refresh(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// all takes whatever is granted.
func (w *world) all(b *authz.Budgets) (granted int) {
	w.Helper()
	refusals, _, err := b.Spend(w.Context(), eve, reveals(700, authz.BudgetPlain, "email", ""), false)
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range refusals {
		if r == nil {
			granted++
		} else if r.RetryAfter <= 0 {
			w.Fatal("refused for ever")
		}
	}
	return granted
}

// tokenizes: writes do not wait.
func (w *world) tokenizes(b *authz.Budgets) {
	w.Helper()
	if refusals, _, err := b.Spend(w.Context(), eve, reveals(1, authz.BudgetGuesses, "ssn", ""), true); err != nil || refusals[0] != nil {
		w.Errorf("a deterministic token is refused: %v, %v", refusals, err)
	}
}

func (w *world) want(what string, b *authz.Budgets, want int) {
	w.Helper()
	if got := w.all(b); got != want {
		w.Errorf("%s: %d granted, want %d", what, got, want)
	}
}

// G5: a region that joins has nothing in windows in which the others may have
// given all; they give up their part once the ring is known.
func TestARegionJoins(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	two, three := []string{"a", "b"}, []string{"a", "b", "c"}
	a, b := w.instance(1, "a", two), w.instance(1, "b", two)
	w.want("the first ring is in force at once", a, 300)
	c := w.instance(2, "c", three)
	w.want("c in the day in which it joins", c, 0)
	w.tokenizes(c)
	w.refresh(b)
	w.want("b, that knows of the ring", b, 200)
	w.clock.Add(24 * time.Hour)
	for name, i := range map[string]*authz.Budgets{"a": w.instance(2, "a", three), "b": b, "c": c} {
		w.refresh(i)
		w.want(name+" on the day after", i, 200)
	}
}

// G5: while a region cannot be told, nobody gets more than before.
func TestARegionJoinsUnheard(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	two, three := []string{"a", "b"}, []string{"a", "b", "c"}
	a := w.instance(1, "a", two)
	w.instance(1, "b", two)
	c := w.instance(2, "c", three, "a")
	w.clock.Add(48 * time.Hour)
	w.refresh(c)
	w.want("a does not know", a, 300)
	w.want("c knows of that", c, 0)
	c = w.instance(2, "c", three)
	w.refresh(a)
	w.clock.Add(24 * time.Hour)
	w.want("a knows", a, 200)
	w.want("c has its part", c, 200)
}

// G5: what a region that left may have given comes to the others in the next window.
func TestARegionLeaves(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	two, three := []string{"a", "b"}, []string{"a", "b", "c"}
	for _, r := range three {
		w.instance(1, r, three)
	}
	a, b := w.instance(2, "a", two), w.instance(2, "b", two)
	w.want("a on the day of the change", a, 200)
	w.clock.Add(24 * time.Hour)
	w.want("a on the day after", a, 300)
	w.want("b on the day after", b, 300)
}

// G5: who cannot learn of a new ring stops granting, and goes on when it can.
func TestSharesThatCannotBeReadDeny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &failing{Control: authz.NewTable()}
		b := authz.NewBudgets(authz.BudgetsConfig{
			Counters: authztest.NewMemoryCounters(time.Now), Limits: authz.DefaultLimits(), Share: whole(), Now: time.Now, Logger: zerolog.Nop(),
			Rings: authz.Rings{Epoch: 1, Regions: []string{"a"}, Tables: []authz.RegionControl{{Region: "a", Control: table}}},
		})
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		defer running.Wait()
		defer stop()
		for _, out := range []bool{false, true, false} {
			table.out.Store(out)
			time.Sleep(6 * time.Second)
			_, _, err := b.Spend(t.Context(), eve, reveals(1, authz.BudgetPlain, "email", ""), true)
			if out != errors.Is(err, authz.ErrUnavailable) {
				t.Errorf("table out %v: %v", out, err)
			}
		}
	})
}

// failing is a table that cannot be listed for a while.
type failing struct {
	authz.Control
	out atomic.Bool
}

func (f *failing) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if f.out.Load() {
		return nil, authz.ErrUnavailable
	}
	return f.Control.List(ctx, kind, after, limit) //nolint:wrapcheck // the table's own
}
