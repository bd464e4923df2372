package authz_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/authz"
)

// G5: a mark that is made when the next window has begun counts its subject in
// the one that was paid for, and not in that one too.
func TestALateMarkCountsInItsOwnWindow(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) { l.Principal.Subjects = authz.Limit{Hour: 3, Day: 30} })
	a, b := o.instance(whole()), o.instance(whole())
	o.clock.Add(time.Hour - time.Second)
	o.spend(a, 3, distinct(0, 3)...)
	o.clock.Add(2 * time.Second)
	o.settle(a)
	o.spend(b, 3, distinct(3, 4)...)
	o.settle(b)
	o.spend(b, 0, distinct(0, 3)...)
	o.spend(a, 0, distinct(0, 3)...)
}

// turning has the window end while somebody asks for a mark.
type turning struct {
	authz.Counters
	meanwhile func()
}

func (c *turning) Marked(ctx context.Context, m authz.Member) (authz.Windows, error) {
	if do := c.meanwhile; do != nil {
		c.meanwhile = nil
		do()
	}
	return c.Counters.Marked(ctx, m)
}

// G5: what comes back after its window ended is in no other.
func TestUnitsComeBackToTheirWindow(t *testing.T) {
	const limit = 60
	o := newOffice(t, func(l *authz.BudgetLimits) {
		l.Principal.Plain, l.Principal.Subjects = authz.Limit{Hour: limit, Day: 1000}, authz.Limit{Hour: 2, Day: 1000}
	})
	counters := &turning{Counters: o.counters}
	b := authz.NewBudgets(authz.BudgetsConfig{Counters: counters, Limits: o.limits, Share: whole(), Now: o.clock.Now, Logger: zerolog.Nop()})
	granted := 0
	counters.meanwhile = func() {
		o.clock.Add(time.Hour)
		o.spend(b, 1, distinct(1, 1)...)
		granted++
	}
	refusals, _, err := b.Spend(t.Context(), eve, distinct(0, 30), true) // of too many subjects
	if err != nil || refusals[29] == nil {
		t.Fatalf("%v, %v", refusals[29], err)
	}
	for range 2 * limit {
		refusals, _, err := b.Spend(t.Context(), eve, distinct(1, 1), true)
		if err != nil {
			t.Fatal(err)
		}
		if refusals[0] == nil {
			granted++
		}
	}
	if granted != limit {
		t.Errorf("%d units in an hour, want %d", granted, limit)
	}
}
