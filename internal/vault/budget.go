package vault

import (
	"context"
	"strconv"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/pii"
)

const overBudgetMessage = "A budget of this credential or its tenant is spent: see Retry-After."

func overBudget(index int) *ItemError {
	return &ItemError{Index: index, Code: "over_budget", Message: overBudgetMessage, Retryable: true}
}

// spend takes what the look-up will tell from the caller's budgets (G5a): a
// unit for each value that it is about to reveal, and one for each token that
// there is nothing to tell of. What a budget does not cover becomes
// over_budget, alike for what exists and what does not. Where the counters
// cannot be reached nothing is told.
func (l *lookup) spend(ctx context.Context, partial bool) error {
	reveals := partial || l.refusal() == nil
	var uses []authz.Use
	var items []*sought
	for i := range l.items {
		if u, needed := l.use(&l.items[i], reveals); needed {
			uses, items = append(uses, u), append(items, &l.items[i])
		}
	}
	refusals, remaining, err := l.v.Budgets.Spend(ctx, l.c.Principal, uses, !partial)
	if err != nil {
		return unavailable("budget_unavailable", err)
	}
	l.remaining = remaining
	for i, r := range refusals {
		if r != nil {
			items[i].outcome = audit.OverBudget
			l.retryAfter = max(l.retryAfter, r.RetryAfter)
		}
	}
	return nil
}

// use is what a token's answer costs.
func (l *lookup) use(s *sought, reveals bool) (u authz.Use, needed bool) {
	switch s.outcome {
	case audit.Authorized:
		if l.action != authz.ActionDetokenize || !reveals {
			return u, false
		}
		u = authz.Use{Kind: authz.BudgetPlain, Type: s.record.Type, Subject: s.record.Subject}
		if s.decision.Reveal == Masked {
			u.Kind = authz.BudgetMasked
		}
		if u.Subject == "" {
			u.Subject = s.ref.ID // a record of nobody in particular is a subject of its own
		}
		return u, true
	case audit.NotFound, audit.Erased, audit.Expired, audit.Denied:
		return authz.Use{Kind: authz.BudgetMisses}, true
	default:
		return u, false
	}
}

// budgetState is what an entry says of the budget nearest to its end.
func budgetState(r *authz.Remaining) string {
	if r == nil {
		return ""
	}
	return string(r.Kind) + "/" + spanName(r.Span) + " " + strconv.FormatInt(r.Units, 10)
}

func spanName(s authz.Span) string {
	if s == authz.Hour {
		return "hour"
	}
	return "day"
}

// BudgetLeft is what remains of the budget that is nearest to its end, in this
// region and as far as this instance knows.
type BudgetLeft struct {
	Kind, Span string
	Units      int64
	Ends       time.Duration
}

func budgetLeft(r *authz.Remaining) *BudgetLeft {
	if r == nil {
		return nil
	}
	return &BudgetLeft{Kind: string(r.Kind), Span: spanName(r.Span), Units: r.Units, Ends: r.Ends}
}

// spend takes a unit for each deterministic token that is asked for: it tells
// whether a guessed value is one that was stored (G5a).
func (b *batch) spend(ctx context.Context) error {
	var uses []authz.Use
	var drafts []*draft
	for d := range b.standing() {
		if d.typ.Token == pii.Deterministic {
			uses, drafts = append(uses, authz.Use{Kind: authz.BudgetGuesses, Type: d.typ.Name}), append(drafts, d)
		}
	}
	if len(uses) == 0 {
		return nil
	}
	refusals, remaining, err := b.v.Budgets.Spend(ctx, b.c.Principal, uses, !b.req.Continue)
	if err != nil {
		return unavailable("budget_unavailable", err)
	}
	b.remaining = remaining
	var over []audit.Entry
	for i, r := range refusals {
		if r != nil {
			b.retryAfter = max(b.retryAfter, r.RetryAfter)
			over = append(over, b.entry(drafts[i], audit.OverBudget))
			drafts[i].err = overBudget(drafts[i].index)
		}
	}
	if len(over) == 0 {
		return nil
	}
	_, err = b.v.note(ctx, over...)
	return err
}
