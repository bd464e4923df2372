package authztest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/authz"
)

// Clock is the counters' own, which tests turn.
type Clock struct{ ms atomic.Int64 }

// NewClock stands at noon of a day that is far off: rows of the past may be
// removed by their time to live at any moment.
func NewClock() *Clock {
	c := &Clock{}
	c.ms.Store(time.Date(2096, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

// Now is the time.
func (c *Clock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

// Add turns the clock, back too.
func (c *Clock) Add(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// RunCounters runs the conformance suite of authz.Counters; open returns
// counters of the table that a test shares, which go by the clock.
func RunCounters(t *testing.T, open func(t *testing.T, clock *Clock) authz.Counters) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*counters)
	}{
		{"Take", (*counters).take},
		{"TakeRace", (*counters).takeRace},
		{"Windows", (*counters).windows},
		{"NeverBack", (*counters).neverBack},
		{"Apart", (*counters).apart},
		{"LimitChanges", (*counters).limitChanges},
		{"Marks", (*counters).marks},
		{"Names", (*counters).names},
		{"EndedContext", (*counters).endedContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := NewClock()
			clock.Add(20 * time.Minute) // no window turns by a hair
			c.test(&counters{t, open(t, clock), clock})
		})
	}
}

type counters struct {
	*testing.T
	c     authz.Counters
	clock *Clock
}

func counter(name string) authz.Counter {
	return authz.Counter{Tenant: "tenant", Name: name, Span: authz.Hour}
}

func (s *counters) want(c authz.Counter, n, limit, units, left int64) authz.Taken {
	s.Helper()
	got, err := s.c.Take(s.Context(), c, n, limit)
	if err != nil || got.Units != units || got.Left != left {
		s.Fatalf("take %d of %d: %d and %d left, %v; want %d and %d", n, limit, got.Units, got.Left, err, units, left)
	}
	return got
}

func (s *counters) used(c authz.Counter, want int64) {
	s.Helper()
	got, err := s.c.Used(s.Context(), c)
	if err != nil || got != want {
		s.Errorf("used %d, %v, want %d", got, err, want)
	}
}

func (s *counters) take() {
	c := counter("take")
	s.used(c, 0)
	first := s.want(c, 4, 10, 4, 6)
	s.used(c, 4)
	s.want(c, 4, 10, 4, 2)
	s.want(c, 4, 10, 2, 0)
	s.want(c, 4, 10, 0, 0)
	s.used(c, 10)
	s.want(counter("none"), 1, 0, 0, 0)
	s.want(counter("little"), 50, 3, 3, 0)
	if now, err := s.c.Now(s.Context()); err != nil || now.Sub(s.clock.Now()).Abs() > 2*time.Second {
		s.Errorf("it is %v, %v, want %v", now, err, s.clock.Now())
	}
	if first.Window != authz.Hour.Window(s.clock.Now()) || first.Ends < 39*time.Minute || first.Ends > 40*time.Minute {
		s.Errorf("window %d ends in %v", first.Window, first.Ends)
	}
}

// G5: however many take at once, no more than the limit is given.
func (s *counters) takeRace() {
	const limit = 100
	var given atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 4 {
				got, err := s.c.Take(s.Context(), counter("race"), 3, limit)
				if err != nil {
					s.Error(err)
					return
				}
				given.Add(got.Units)
			}
		})
	}
	wg.Wait()
	if given.Load() != limit {
		s.Errorf("%d units of %d", given.Load(), limit)
	}
}

func (s *counters) windows() {
	c := counter("windows")
	day := authz.Counter{Tenant: c.Tenant, Name: c.Name, Span: authz.Day}
	first := s.want(c, 5, 5, 5, 0)
	s.want(day, 5, 8, 5, 3)
	s.clock.Add(time.Hour)
	s.used(c, 0)
	if next := s.want(c, 5, 5, 5, 0); next.Window != first.Window+1 {
		s.Errorf("window %d after %d", next.Window, first.Window)
	}
	s.want(day, 5, 8, 3, 0)
	s.clock.Add(24 * time.Hour)
	s.want(day, 5, 8, 5, 3)
}

// G5: a clock that goes back does not open a window again.
func (s *counters) neverBack() {
	c := counter("back")
	s.want(c, 5, 5, 5, 0)
	s.clock.Add(time.Hour)
	later := s.want(c, 2, 5, 2, 3)
	s.clock.Add(-time.Hour)
	s.used(c, 2)
	again := s.want(c, 5, 5, 3, 0)
	if again.Window != later.Window || again.Ends <= time.Hour {
		s.Errorf("window %d ends in %v, want %d after more than an hour", again.Window, again.Ends, later.Window)
	}
}

func (s *counters) apart() {
	for _, c := range []authz.Counter{
		{Tenant: "a", Name: "b", Span: authz.Hour},
		{Tenant: "a", Name: "b", Span: authz.Day},
		{Tenant: "a", Name: "c", Span: authz.Hour},
		{Tenant: "ab", Name: "b", Span: authz.Hour},
	} {
		s.want(c, 1, 1, 1, 0)
	}
}

func (s *counters) limitChanges() {
	c := counter("changes")
	s.want(c, 10, 10, 10, 0)
	s.want(c, 10, 5, 0, 0)
	s.want(c, 10, 15, 5, 0)
}

// G5: a subject is counted in the windows that were paid for, and in no other.
func (s *counters) marks() {
	m := authz.Member{Tenant: "tenant", Set: "set", Name: "subject"}
	at := func() authz.Windows {
		return authz.Windows{Hour: authz.Hour.Window(s.clock.Now()), Day: authz.Day.Window(s.clock.Now())}
	}
	first := at()
	is := func(step string, of authz.Member, want authz.Windows) {
		s.Helper()
		if got, err := s.c.Marked(s.Context(), of); err != nil || got != want {
			s.Errorf("%s: %+v, %v, want %+v", step, got, err, want)
		}
	}
	mark := func(step string, in, before authz.Windows) {
		s.Helper()
		if got, err := s.c.Mark(s.Context(), m, in); err != nil || got != before {
			s.Errorf("%s: before in %+v, %v, want %+v", step, got, err, before)
		}
	}
	is("not marked", m, authz.Windows{})
	mark("first", first, authz.Windows{})
	mark("again", first, first)
	other := m
	other.Name = "other"
	is("another", other, authz.Windows{})
	s.clock.Add(time.Hour)
	is("an hour later", m, first)
	next := at()
	mark("in the next hour", next, first)
	mark("late", first, next)
	mark("an hour ahead of an earlier day", authz.Windows{Hour: next.Hour + 1, Day: next.Day - 1}, next)
	is("marks do not go back", m, next)
}

func (s *counters) names() {
	for _, c := range []authz.Counter{counter("with/slashes#and+more"), counter("ünï")} {
		s.want(c, 1, 2, 1, 1)
		s.used(c, 1)
	}
	if _, err := s.c.Take(s.Context(), counter("zero"), 0, 1); err == nil {
		s.Error("no unit was taken")
	}
}

func (s *counters) endedContext() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.c.Take(ctx, counter("ended"), 1, 1); err == nil {
		s.Error("a unit for an ended context")
	}
}
