package authz

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// spending is one Spend under way: it takes what the uses need of each lease,
// grants them one after the other, and returns what is left over.
type spending struct {
	b      *Budgets
	p      *Principal
	now    time.Time
	held   []*held
	room   [usualLeases]held // for the first of them
	plans  []planned         // of each use
	counts []*lease          // in which subjects are counted; nil until one is
	people []person          // whose values they show, where that is counted; never beyond its capacity
}

// usualLeases are drawn on for a value of somebody: by the hour and by the day,
// the principal's, the tenant's and the principal's subjects.
const usualLeases = 6

// held is what a spending has taken of a lease, in a window of it.
type held struct {
	*lease
	took       drawn
	want, used int64
}

// person is somebody whose value is asked for.
type person struct {
	name    string
	counted Windows  // in which they are
	now     Windows  // that there are, where they are known
	paid    []*lease // for counting them, in this spending
}

// planned is what a use draws on, and whose value it shows, where that is counted.
type planned struct {
	draws []*lease
	who   *person
}

func (s *spending) of(l *lease) *held {
	for _, h := range s.held {
		if h.lease == l {
			return h
		}
	}
	var h *held
	if n := len(s.held); n < len(s.room) {
		h = &s.room[n]
	} else {
		h = new(held)
	}
	h.lease = l
	s.held = append(s.held, h)
	return h
}

// plan counts what a use may need.
func (s *spending) plan(u *Use) {
	draws := s.b.account(s.p, u.Kind, u.Type)
	for _, l := range draws {
		s.of(l).want++
	}
	var who *person
	if u.Subject != "" {
		who = s.person(u.Subject)
	}
	s.plans = append(s.plans, planned{draws, who})
}

// person finds somebody, or plans to count them.
func (s *spending) person(name string) *person {
	if i := slices.IndexFunc(s.people, func(p person) bool { return p.name == name }); i >= 0 {
		return &s.people[i]
	}
	if s.counts == nil {
		s.counts = s.b.account(s.p, BudgetSubjects, "")
	}
	s.people = append(s.people, person{name: name})
	who := &s.people[len(s.people)-1]
	s.look(who)
	for _, l := range s.counts {
		if who.counted.In(l.counter.Span) == 0 {
			s.of(l).want++
		}
	}
	return who
}

// look finds the windows that have counted somebody.
func (s *spending) look(who *person) {
	who.counted = Windows{}
	for _, l := range s.counts {
		window, known := l.knows(s.now, who.name)
		who.now.set(l.counter.Span, window)
		if known {
			who.counted.set(l.counter.Span, window)
		}
	}
}

// fetch takes what was planned, of all leases at once.
func (s *spending) fetch(ctx context.Context) error {
	var short []*held
	for _, h := range s.held {
		if h.want == 0 {
			continue
		}
		var ok bool
		if h.took, ok = h.has(s.now, h.want); !ok {
			short = append(short, h)
		}
	}
	if len(short) > 0 {
		return s.fetchMore(ctx, short)
	}
	return nil
}

// fetchMore waits for counters, while others may count the same subjects.
func (s *spending) fetchMore(ctx context.Context, short []*held) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range short {
		group.Go(func() (err error) {
			h.took, err = h.take(ctx, s.b.cfg.Counters, s.now, h.want)
			return err
		})
	}
	err := group.Wait()
	for i := range s.people {
		s.look(&s.people[i])
	}
	return err
}

// grant uses a unit of everything that a use falls under, or of nothing.
func (s *spending) grant(ctx context.Context, p planned) (*Refusal, error) {
	if r := s.lacking(p.draws); r != nil {
		return r, nil
	}
	owed, err := s.owed(ctx, p.who)
	if err != nil {
		return nil, err
	}
	if r := s.lacking(owed); r != nil {
		return r, nil
	}
	for _, l := range p.draws {
		s.of(l).used++
	}
	for _, l := range owed {
		h := s.of(l)
		h.used++
		p.who.counted.set(l.counter.Span, h.took.window)
	}
	if len(owed) > 0 {
		p.who.paid = owed
	}
	return nil, nil //nolint:nilnil // granted
}

// lacking refuses where any of the leases has no unit left, for as long as the
// last of them has none.
func (s *spending) lacking(leases []*lease) *Refusal {
	var refusal *Refusal
	for _, l := range leases {
		h := s.of(l)
		if short := h.used >= h.took.got; short && (refusal == nil || h.took.ends > refusal.RetryAfter) {
			refusal = &Refusal{Kind: l.kind, RetryAfter: h.took.ends}
		}
	}
	return refusal
}

// owed are the leases in which somebody has yet to be counted, to be paid.
// Where no unit is left, another instance may have counted them: the counters
// know.
func (s *spending) owed(ctx context.Context, who *person) (owed []*lease, err error) {
	if who == nil {
		return nil, nil
	}
	for _, l := range s.counts {
		if who.counted.In(l.counter.Span) == 0 {
			owed = append(owed, l)
		}
	}
	if s.lacking(owed) == nil {
		return owed, nil
	}
	marked, err := s.b.cfg.Counters.Marked(ctx, s.member(who.name))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(owed, func(l *lease) bool {
		window := marked.In(l.counter.Span)
		counted := window != 0 && window == who.now.In(l.counter.Span)
		if counted {
			l.learn(who.name, window)
			who.counted.set(l.counter.Span, window)
		}
		return counted
	}), nil
}

func (s *spending) member(subject string) Member {
	return Member{s.p.Tenant, principalCounter(s.p.ID, BudgetSubjects, ""), subject}
}

// settle keeps what was granted, and has the subjects marked.
func (s *spending) settle() {
	s.giveBack()
	for i := range s.people {
		who := &s.people[i]
		if len(who.paid) == 0 {
			continue
		}
		for _, l := range who.paid {
			l.learn(who.name, who.counted.In(l.counter.Span))
		}
		s.b.queue(mark{s.member(who.name), who.counted, who.paid})
	}
}

// undo grants nothing after all.
func (s *spending) undo() {
	for _, h := range s.held {
		h.used = 0
	}
	s.giveBack()
}

// giveBack returns what was not used, and has leases refilled.
func (s *spending) giveBack() {
	for _, h := range s.held {
		if h.took.low {
			s.b.refill(h.lease)
		}
		if h.took.got > h.used {
			h.give(s.now, h.took.got-h.used, h.took.window)
		}
	}
}

// remaining is the lease with the least left, of those that were drawn on.
func (s *spending) remaining() *Remaining {
	var least *Remaining
	for _, h := range s.held {
		if units := h.took.left + h.took.got - h.used; least == nil || units < least.Units {
			least = &Remaining{Kind: h.kind, Span: h.counter.Span, Units: units, Ends: h.took.ends}
		}
	}
	return least
}
