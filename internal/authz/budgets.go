package authz

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// A lease is a hundredth of a region's share, within these: what a crash
	// strands, against how often an instance asks.
	minChunk, maxChunk = 10, 50
	// maxAccounts bounds memory. Beyond, all leases are forgotten, which
	// strands what was left of them.
	maxAccounts = 20_000
	// maxKnown bounds the subjects that a lease remembers as counted.
	maxKnown = 10_000
	// markQueue bounds the marks that wait; one that does not fit is not made,
	// and its subject counts once more.
	markQueue   = 4096
	markTimeout = 2 * time.Second
)

// BudgetsConfig configures Budgets; all but Rings and Logger is required.
type BudgetsConfig struct {
	Counters Counters // this region's
	Limits   BudgetLimits
	Share    Share // in the ring that is configured
	Rings    Rings
	Now      func() time.Time // only its differences matter, not what it says
	Logger   zerolog.Logger
}

// Budgets bound what principals learn (design §8, G5a): a use is granted only
// when every budget it falls under has a unit left, in this hour and this day,
// over all instances of the region; the regions' shares add up to the limit.
// Units are leased from the counters in chunks and spent from memory. Where
// the counters cannot be reached and the lease is used up, nothing is granted.
// All methods are safe for concurrent use.
type Budgets struct {
	cfg    BudgetsConfig
	shares *shares
	marks  chan mark
	// marking counts the marks that wait or are being made.
	marking atomic.Int64

	mu       sync.Mutex // guards the two maps
	accounts map[accountKey][]*lease
	leases   map[Counter]*lease
}

// NewBudgets returns budgets that have leased nothing.
func NewBudgets(cfg BudgetsConfig) *Budgets {
	b := &Budgets{
		cfg: cfg, marks: make(chan mark, markQueue),
		accounts: make(map[accountKey][]*lease), leases: make(map[Counter]*lease),
	}
	b.shares = newShares(&b.cfg)
	return b
}

// Refresh learns which rings there are, and tells of this one, once.
func (b *Budgets) Refresh(ctx context.Context) error {
	if b.shares.fixed() {
		return nil
	}
	return b.shares.refresh(ctx)
}

// Limits are the deployment's.
func (b *Budgets) Limits() BudgetLimits { return b.cfg.Limits }

// Use is something to be learned.
type Use struct {
	Kind BudgetKind // all but BudgetSubjects
	Type string     // none of a miss
	// Subject is whose value a reveal shows, where that is to be counted.
	Subject string
}

// Refusal says that a use was not granted.
type Refusal struct {
	Kind       BudgetKind
	RetryAfter time.Duration // until a unit can be there; 0: never
}

// Remaining is what is left of the budget that is nearest to its end.
type Remaining struct {
	Kind  BudgetKind
	Span  Span
	Units int64
	Ends  time.Duration
}

// Spend takes a unit of every budget that each use falls under. The answer
// has, for each, a refusal or nil; with together, the refusal of one leaves all
// units where they were. An error grants nothing.
func (b *Budgets) Spend(ctx context.Context, p Principal, uses []Use, together bool) ([]*Refusal, *Remaining, error) {
	if b.shares.poll.stale.Load() {
		return nil, nil, fmt.Errorf("the regions' shares: %w", ErrUnavailable)
	}
	s := spending{b: b, p: &p, now: b.cfg.Now()}
	refusals, err := s.run(ctx, uses)
	refused := slices.ContainsFunc(refusals, func(r *Refusal) bool { return r != nil })
	if err != nil || (refused && together) {
		s.undo()
		return refusals, s.remaining(), err
	}
	s.settle()
	return refusals, s.remaining(), nil
}

func (s *spending) run(ctx context.Context, uses []Use) ([]*Refusal, error) {
	for i := range uses {
		if err := s.plan(ctx, &uses[i]); err != nil {
			return nil, err
		}
	}
	if err := s.fetch(ctx); err != nil {
		return nil, err
	}
	refusals := make([]*Refusal, len(uses))
	for i := range uses {
		var err error
		if refusals[i], err = s.grant(ctx, &uses[i], s.draws[i]); err != nil {
			return nil, err
		}
	}
	return refusals, nil
}

// mark is a subject to be marked as counted, and the leases that paid for it.
type mark struct {
	member  Member
	counted Windows
	paid    []*lease
}

// queue has a mark made later: the unit is spent already, so that one which
// is never made only counts its subject again.
func (b *Budgets) queue(m mark) {
	b.marking.Add(1)
	select {
	case b.marks <- m:
	default:
		b.marking.Add(-1)
	}
}

// Run makes the marks and learns of rings until ctx is done. While it cannot
// for five seconds, nothing is granted.
func (b *Budgets) Run(ctx context.Context) {
	var rings sync.WaitGroup
	defer rings.Wait()
	if !b.shares.fixed() {
		rings.Go(func() { b.shares.poll.run(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-b.marks:
			b.make(ctx, m)
			b.marking.Add(-1)
		}
	}
}

// make marks a subject; where another instance was faster, the units that this
// one spent on it come back.
func (b *Budgets) make(ctx context.Context, m mark) {
	bounded, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	before, err := b.cfg.Counters.Mark(bounded, m.member, m.counted)
	if err != nil {
		if ctx.Err() == nil {
			b.cfg.Logger.Warn().Err(err).Msg("a subject was not marked as counted")
		}
		return
	}
	for _, l := range m.paid {
		if window := m.counted.In(l.counter.Span); window == before.In(l.counter.Span) {
			l.give(b.cfg.Now(), 1, window)
		}
	}
}

// accountKey is what a kind of use of one principal falls under.
type accountKey struct {
	tenant, principal string
	kind              BudgetKind
	typ               string
}

// account is the leases that a use draws on.
func (b *Budgets) account(p *Principal, kind BudgetKind, typ string) []*lease {
	key := accountKey{p.Tenant, p.ID, kind, typ}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[key]; a != nil {
		return a
	}
	if len(b.accounts) >= maxAccounts {
		clear(b.accounts)
		clear(b.leases)
	}
	var a []*lease
	add := func(name string, limit Limit) {
		for _, span := range []Span{Hour, Day} {
			a = append(a, b.leaseLocked(Counter{p.Tenant, name, span}, kind, limit.in(span)))
		}
	}
	own := b.cfg.Limits.Principal
	if p.Limits != nil {
		own = *p.Limits
	}
	if kind == BudgetSubjects {
		add(principalCounter(p.ID, kind, ""), own.Subjects)
	} else {
		add(principalCounter(p.ID, kind, typ), own.of(kind))
		add(tenantCounter(kind), b.cfg.Limits.Tenant.of(kind))
	}
	b.accounts[key] = a
	return a
}

// principalCounter and tenantCounter name what is counted (format.md §6).
// A principal's id has no slash.
func principalCounter(id string, kind BudgetKind, typ string) string {
	return "principal/" + id + "/" + string(kind) + "/" + typ
}

func tenantCounter(kind BudgetKind) string { return "tenant/" + string(kind) }

func (b *Budgets) leaseLocked(c Counter, kind BudgetKind, limit int64) *lease {
	l := b.leases[c]
	if l == nil {
		l = &lease{counter: c, kind: kind, limit: limit, shares: b.shares, lock: make(chan struct{}, 1)}
		b.leases[c] = l
	}
	return l
}
