package authz

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxReading bounds the counters that a State reads at once.
const maxReading = 16

// BudgetState is a limit of a principal and what is left of it.
type BudgetState struct {
	Kind  BudgetKind
	Span  Span
	Type  string        // "": of any type not named; of misses and subjects, of all
	Limit int64         // of all regions together
	Share int64         // this region's part of it
	Left  int64         // of the share, that no instance has taken yet
	Ends  time.Duration // until the window does
}

// State is what is left of a principal's budgets in this region; p's Limits may
// be nil. What instances hold and have not spent is not left. It takes nothing.
// Types are those that there are; named in the answer are those in use.
func (b *Budgets) State(ctx context.Context, p *Principal, types []string) ([]BudgetState, error) {
	limits := b.cfg.Limits.Principal
	if p.Limits != nil {
		limits = *p.Limits
	}
	now, err := b.cfg.Counters.Now(ctx)
	if err != nil {
		return nil, err
	}
	var states []BudgetState
	for _, kind := range []BudgetKind{BudgetPlain, BudgetMasked, BudgetGuesses, BudgetMisses, BudgetSubjects} {
		limit, of := limits.of(kind), []string{""}
		switch kind {
		case BudgetPlain, BudgetMasked, BudgetGuesses:
			of = append(of, types...)
		case BudgetSubjects:
			limit = limits.Subjects
		case BudgetMisses: // over all types
		}
		for _, typ := range of {
			for _, span := range []Span{Hour, Day} {
				share := b.shares.of(kind, limit.in(span), span)
				states = append(states, BudgetState{kind, span, typ, limit.in(span), share, share, span.Ends(span.Window(now), now)})
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReading)
	for i := range states {
		s := &states[i]
		group.Go(func() error {
			used, err := b.cfg.Counters.Used(ctx, Counter{p.Tenant, principalCounter(p.ID, s.Kind, s.Type), s.Span})
			s.Left = max(0, s.Share-used)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(states, func(s BudgetState) bool { return s.Type != "" && s.Left == s.Share }), nil
}
