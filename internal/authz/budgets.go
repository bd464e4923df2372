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
	// Marks wait a moment for others, and as many are made at once: each is a
	// write, which a reveal need not wait for.
	markDelay = 100 * time.Millisecond
	markBatch = 64
	// refillQueue bounds the leases that wait for a refill; one that does not
	// fit is asked for when it is used up.
	refillQueue   = 256
	refillTimeout = 2 * time.Second
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
	cfg     BudgetsConfig
	shares  *shares
	marks   chan mark
	refills chan *lease
	// marking counts the marks that wait or are being made.
	marking atomic.Int64

	mu       sync.Mutex // guards the two maps
	accounts map[accountKey][]*lease
	leases   map[Counter]*lease
}

// NewBudgets returns budgets that have leased nothing.
func NewBudgets(cfg BudgetsConfig) *Budgets {
	b := &Budgets{
		cfg: cfg, marks: make(chan mark, markQueue), refills: make(chan *lease, refillQueue),
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
	s := &spending{b: b, p: &p, now: b.cfg.Now()}
	s.held, s.plans, s.people = make([]*held, 0, usualLeases), make([]planned, 0, len(uses)), make([]person, 0, len(uses))
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
		s.plan(&uses[i])
	}
	if err := s.fetch(ctx); err != nil {
		return nil, err
	}
	refusals := make([]*Refusal, len(uses))
	for i := range uses {
		var err error
		if refusals[i], err = s.grant(ctx, s.plans[i]); err != nil {
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

// refill has a lease refilled, and nobody waits for it.
func (b *Budgets) refill(l *lease) {
	select {
	case b.refills <- l:
	default:
	}
}

// Run makes the marks, refills leases and learns of rings until ctx is done.
// While it cannot learn of rings for five seconds, nothing is granted.
func (b *Budgets) Run(ctx context.Context) {
	loops := []func(context.Context){b.runMarks, b.runRefills}
	if !b.shares.fixed() {
		loops = append(loops, b.shares.poll.run)
	}
	var running sync.WaitGroup
	for _, loop := range loops {
		running.Go(func() { loop(ctx) })
	}
	running.Wait()
}

func (b *Budgets) runRefills(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-b.refills:
			asking.Go(func() {
				bounded, cancel := context.WithTimeout(ctx, refillTimeout)
				defer cancel()
				l.refill(bounded, b.cfg.Counters, b.cfg.Now())
			})
		}
	}
}

func (b *Budgets) runMarks(ctx context.Context) {
	for {
		var making sync.WaitGroup
		for _, m := range b.gathered(ctx) {
			making.Go(func() {
				b.make(ctx, m)
				b.marking.Add(-1)
			})
		}
		making.Wait()
		if ctx.Err() != nil {
			return
		}
	}
}

// gathered waits for a mark, and a moment for others.
func (b *Budgets) gathered(ctx context.Context) (marks []mark) {
	var end <-chan time.Time // none before the first
	for len(marks) < markBatch {
		select {
		case m := <-b.marks:
			if marks = append(marks, m); end == nil {
				timer := time.NewTimer(markDelay)
				defer timer.Stop()
				end = timer.C
			}
		case <-end:
			return marks
		case <-ctx.Done():
			return marks
		}
	}
	return marks
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
		l = &lease{counter: c, kind: kind, limit: limit, shares: b.shares}
		b.leases[c] = l
	}
	return l
}
