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
	b        *Budgets
	p        *Principal
	now      time.Time
	held     []*held
	room     [usualLeases]held // for the first of them
	draws    [][]*lease        // of each use
	counts   []*lease          // in which subjects are counted; nil until one is
	subjects []string          // that may have to be counted
	charges  []charge
}

// usualLeases are drawn on for a value of somebody: by the hour and by the day,
// the principal's, the tenant's and the principal's subjects.
const usualLeases = 6

// held is what a spending has taken of a lease, in a window of it.
type held struct {
	*lease
	want, got, used int64
	window          int64
}

// charge is a subject, the windows that count it, and the leases that paid.
type charge struct {
	subject string
	counted Windows
	paid    []*lease
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
	s.draws = append(s.draws, draws)
	for _, l := range draws {
		s.of(l).want++
	}
	if u.Subject == "" || slices.Contains(s.subjects, u.Subject) {
		return
	}
	s.subjects = append(s.subjects, u.Subject)
	if s.counts == nil {
		s.counts = s.b.account(s.p, BudgetSubjects, "")
	}
	for _, l := range s.counts {
		if _, known := l.knows(s.now, u.Subject); !known {
			s.of(l).want++
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
		if window, ok := h.has(s.now, h.want); ok {
			h.got, h.window = h.want, window
		} else {
			short = append(short, h)
		}
	}
	if len(short) == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range short {
		group.Go(func() (err error) {
			h.got, h.window, err = h.take(ctx, s.b.cfg.Counters, s.now, h.want)
			return err
		})
	}
	return group.Wait()
}

// grant uses a unit of everything that a use falls under, or of nothing.
func (s *spending) grant(ctx context.Context, u *Use, draws []*lease) (*Refusal, error) {
	if r := s.lacking(draws); r != nil {
		return r, nil
	}
	charge, err := s.uncounted(ctx, u.Subject)
	if err != nil {
		return nil, err
	}
	if r := s.lacking(charge.paid); r != nil {
		return r, nil
	}
	for _, l := range slices.Concat(draws, charge.paid) {
		h := s.of(l)
		h.used++
		if l.kind == BudgetSubjects {
			charge.counted.set(l.counter.Span, h.window)
		}
	}
	if len(charge.paid) > 0 {
		s.charges = append(s.charges, charge)
	}
	return nil, nil //nolint:nilnil // granted
}

// lacking refuses where any of the leases has no unit left, for as long as the
// last of them has none.
func (s *spending) lacking(leases []*lease) *Refusal {
	var refusal *Refusal
	for _, l := range leases {
		if h := s.of(l); h.used < h.got {
			continue
		}
		if _, ends := l.state(s.now); refusal == nil || ends > refusal.RetryAfter {
			refusal = &Refusal{Kind: l.kind, RetryAfter: ends}
		}
	}
	return refusal
}

// uncounted are the leases in which a subject has yet to be counted, to be
// paid. Where no unit is left, another instance may have counted it: the
// counters know.
func (s *spending) uncounted(ctx context.Context, subject string) (c charge, err error) {
	if subject == "" || slices.ContainsFunc(s.charges, func(c charge) bool { return c.subject == subject }) {
		return c, nil
	}
	c.subject = subject
	var now Windows // where they are known
	for _, l := range s.counts {
		window, known := l.knows(s.now, subject)
		now.set(l.counter.Span, window)
		if known {
			c.counted.set(l.counter.Span, window)
		} else {
			c.paid = append(c.paid, l)
		}
	}
	if s.lacking(c.paid) == nil {
		return c, nil
	}
	marked, err := s.b.cfg.Counters.Marked(ctx, s.member(subject))
	if err != nil {
		return c, err
	}
	c.paid = slices.DeleteFunc(c.paid, func(l *lease) bool {
		window := marked.In(l.counter.Span)
		counted := window != 0 && window == now.In(l.counter.Span)
		if counted {
			l.learn(subject, window)
			c.counted.set(l.counter.Span, window)
		}
		return counted
	})
	return c, nil
}

func (s *spending) member(subject string) Member {
	return Member{s.p.Tenant, principalCounter(s.p.ID, BudgetSubjects, ""), subject}
}

// settle keeps what was granted, and has the subjects marked and leases refilled.
func (s *spending) settle() {
	s.giveBack()
	for _, h := range s.held {
		if h.low(s.now) {
			s.b.refill(h.lease)
		}
	}
	for _, c := range s.charges {
		for _, l := range c.paid {
			l.learn(c.subject, c.counted.In(l.counter.Span))
		}
		s.b.queue(mark{s.member(c.subject), c.counted, c.paid})
	}
}

// undo grants nothing after all.
func (s *spending) undo() {
	for _, h := range s.held {
		h.used = 0
	}
	s.giveBack()
}

func (s *spending) giveBack() {
	for _, h := range s.held {
		if h.got > h.used {
			h.give(s.now, h.got-h.used, h.window)
		}
	}
}

// remaining is the lease with the least left, of those that were drawn on.
func (s *spending) remaining() *Remaining {
	var least *Remaining
	for _, h := range s.held {
		units, ends := h.state(s.now)
		if least == nil || units < least.Units {
			least = &Remaining{Kind: h.kind, Span: h.counter.Span, Units: units, Ends: ends}
		}
	}
	return least
}
