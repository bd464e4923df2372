package authz_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
)

func TestMemoryCountersConformance(t *testing.T) {
	authztest.RunCounters(t, func(t *testing.T, clock *authztest.Clock) authz.Counters {
		t.Helper()
		return authztest.NewMemoryCounters(clock.Now)
	})
}

// office is instances that share counters.
type office struct {
	*testing.T
	clock    *authztest.Clock
	counters *authztest.MemoryCounters
	limits   authz.BudgetLimits
}

func newOffice(t *testing.T, change func(*authz.BudgetLimits)) *office {
	t.Helper()
	clock := authztest.NewClock()
	o := &office{t, clock, authztest.NewMemoryCounters(clock.Now), authz.DefaultLimits()}
	if change != nil {
		change(&o.limits)
	}
	return o
}

func (o *office) instance(share authz.Share) *authz.Budgets {
	return authz.NewBudgets(authz.BudgetsConfig{Counters: o.counters, Limits: o.limits, Share: share, Now: o.clock.Now, Logger: zerolog.Nop()})
}

func whole() authz.Share { return authz.Share{Index: 0, Of: 1} }

var eve = authz.Principal{Tenant: "t", ID: "key_eve"}

// spend wants so many of the uses granted.
func (o *office) spend(b *authz.Budgets, want int, uses ...authz.Use) []*authz.Refusal {
	o.Helper()
	refusals, _, err := b.Spend(o.Context(), eve, uses, false)
	if err != nil {
		o.Fatal(err)
	}
	granted := 0
	for _, r := range refusals {
		if r == nil {
			granted++
		}
	}
	if granted != want {
		o.Errorf("%d of %d uses granted, want %d", granted, len(uses), want)
	}
	return refusals
}

func reveals(n int, kind authz.BudgetKind, typ, subject string) []authz.Use {
	uses := make([]authz.Use, n)
	for i := range uses {
		uses[i] = authz.Use{Kind: kind, Type: typ, Subject: subject}
	}
	return uses
}

func distinct(from, n int) []authz.Use {
	uses := make([]authz.Use, n)
	for i := range uses {
		uses[i] = authz.Use{Kind: authz.BudgetPlain, Type: "email", Subject: fmt.Sprint("subject ", from+i)}
	}
	return uses
}

// G5: each budget alone stops what it bounds, and a new window opens it again.
func TestEachBudgetStops(t *testing.T) {
	generous := authz.Limit{Hour: 1e6, Day: 1e6}
	all := func(l *authz.BudgetLimits) {
		for _, limits := range []*authz.Limits{&l.Principal.Limits, &l.Tenant} {
			*limits = authz.Limits{Plain: generous, Masked: generous, Misses: generous, Guesses: generous}
		}
		l.Principal.Subjects = generous
	}
	for name, c := range map[string]struct {
		limit func(*authz.BudgetLimits) *authz.Limit
		use   func(i int) authz.Use
		free  authz.Use // another budget's
	}{
		"plain": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Principal.Plain },
			func(int) authz.Use { return authz.Use{Kind: authz.BudgetPlain, Type: "email"} },
			authz.Use{Kind: authz.BudgetPlain, Type: "phone"},
		},
		"masked": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Principal.Masked },
			func(int) authz.Use { return authz.Use{Kind: authz.BudgetMasked, Type: "email"} },
			authz.Use{Kind: authz.BudgetPlain, Type: "email"},
		},
		"misses": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Principal.Misses },
			func(int) authz.Use { return authz.Use{Kind: authz.BudgetMisses} },
			authz.Use{Kind: authz.BudgetPlain, Type: "email"},
		},
		"guesses": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Principal.Guesses },
			func(int) authz.Use { return authz.Use{Kind: authz.BudgetGuesses, Type: "ssn"} },
			authz.Use{Kind: authz.BudgetGuesses, Type: "email"},
		},
		"tenant": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Tenant.Plain },
			func(i int) authz.Use { return authz.Use{Kind: authz.BudgetPlain, Type: fmt.Sprint("type", i%3)} },
			authz.Use{Kind: authz.BudgetMasked, Type: "email"},
		},
		"subjects": {
			func(l *authz.BudgetLimits) *authz.Limit { return &l.Principal.Subjects },
			func(i int) authz.Use { return distinct(i, 1)[0] },
			authz.Use{Kind: authz.BudgetPlain, Type: "email", Subject: "subject 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, func(l *authz.BudgetLimits) { all(l); *c.limit(l) = authz.Limit{Hour: 7, Day: 10} })
			b := o.instance(whole())
			n := 0
			next := func(want, of int) (refusal *authz.Refusal) {
				t.Helper()
				uses := make([]authz.Use, of)
				for i := range uses {
					uses[i] = c.use(n)
					n++
				}
				for _, r := range o.spend(b, want, uses...) {
					if r != nil {
						refusal = r
					}
				}
				return refusal
			}
			next(5, 5)
			if r := next(2, 4); r == nil || r.RetryAfter != time.Hour {
				t.Errorf("refused by the hour: %+v", r)
			}
			o.spend(b, 1, c.free)
			o.clock.Add(time.Hour)
			if r := next(3, 4); r == nil || r.RetryAfter != 11*time.Hour {
				t.Errorf("refused by the day: %+v", r)
			}
			o.clock.Add(11 * time.Hour)
			next(7, 8)
		})
	}
}

// G5: regions' shares add up to the limit, whatever it is.
func TestSharesAddUp(t *testing.T) {
	for limit := range int64(20) {
		for regions := 1; regions <= 4; regions++ {
			o := newOffice(t, func(l *authz.BudgetLimits) { l.Principal.Plain = authz.Limit{Hour: limit, Day: limit} })
			granted := 0
			for i := range regions {
				o.counters = authztest.NewMemoryCounters(o.clock.Now) // a region's own
				refusals, _, err := o.instance(authz.Share{Index: i, Of: regions}).Spend(t.Context(), eve, reveals(30, authz.BudgetPlain, "email", ""), false)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range refusals {
					if r == nil {
						granted++
					}
				}
			}
			if int64(granted) != limit {
				t.Errorf("limit %d, %d regions: %d granted", limit, regions, granted)
			}
		}
	}
}

// G5: many callers at many instances that come and go learn no more values,
// and of no more subjects, than the limits say.
func TestAttackersAtOnce(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) {
		l.Principal.Plain = authz.Limit{Hour: 1000, Day: 1000}
		l.Principal.Subjects = authz.Limit{Hour: 60, Day: 60}
	})
	var granted atomic.Int64
	var subjects sync.Map
	var attackers, background sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	var instances [3]atomic.Pointer[authz.Budgets]
	start := func(i int) {
		b := o.instance(whole())
		instances[i].Store(b)
		background.Go(func() { b.Run(ctx) })
	}
	for i := range instances {
		start(i)
	}
	for a := range 12 {
		random := rand.New(rand.NewPCG(1, uint64(a)))
		attackers.Go(func() {
			for round := range 60 {
				i := random.IntN(len(instances))
				if a == 0 && round%10 == 9 {
					start(i) // as after a crash: what was leased is lost
				}
				uses := distinct(random.IntN(200), 1+random.IntN(3))
				refusals, _, err := instances[i].Load().Spend(t.Context(), eve, uses, random.IntN(2) == 0)
				if err != nil {
					t.Error(err)
					return
				}
				all := true
				for _, r := range refusals {
					all = all && r == nil
				}
				for j, r := range refusals {
					if r == nil && all {
						granted.Add(1)
						subjects.Store(uses[j].Subject, true)
					}
				}
			}
		})
	}
	attackers.Wait()
	stop()
	background.Wait()
	n := 0
	subjects.Range(func(_, _ any) bool { n++; return true })
	t.Logf("%d values of %d subjects, %d calls", granted.Load(), n, o.counters.Calls())
	if granted.Load() > 1000 || n > 60 || n < 20 {
		t.Error("beyond the limits, or nothing at all")
	}
}

// A batch that stands or falls together leaves what it did not get.
func TestTogether(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) { l.Principal.Plain = authz.Limit{Hour: 5, Day: 5} })
	b := o.instance(whole())
	refusals, _, err := b.Spend(t.Context(), eve, distinct(0, 6), true)
	if err != nil || refusals[5] == nil || refusals[4] != nil {
		t.Fatalf("%v, %v", refusals, err)
	}
	o.spend(b, 5, distinct(10, 6)...)
}

// A subject is counted once a window, by whichever instance, and a unit that
// two of them spent on the same comes back.
func TestASubjectIsCountedOnce(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) { l.Principal.Subjects = authz.Limit{Hour: 3, Day: 30} })
	a, b := o.instance(whole()), o.instance(whole())
	o.spend(a, 20, reveals(20, authz.BudgetPlain, "email", "ann")...)
	o.spend(a, 2, distinct(0, 3)...)
	o.settle(a)
	o.spend(b, 1, reveals(1, authz.BudgetMasked, "phone", "ann")...) // a has every unit; the mark tells
	o.spend(b, 0, reveals(1, authz.BudgetMasked, "phone", "bob")...)
	o.clock.Add(time.Hour)
	o.spend(b, 3, distinct(5, 4)...)
}

// What remains is that of the budget nearest to its end, after what was spent,
// and with what comes back.
func TestWhatRemains(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) {
		plenty(l)
		l.Principal.Subjects = authz.Limit{Hour: 30, Day: 1000}
	})
	b := o.instance(whole())
	remains := func(want int64, together bool, uses ...authz.Use) {
		t.Helper()
		_, left, err := b.Spend(t.Context(), eve, uses, together)
		if err != nil || left == nil || left.Kind != authz.BudgetSubjects || left.Span != authz.Hour || left.Units != want || left.Ends != time.Hour {
			t.Errorf("%+v remain, %v, want %d", left, err, want)
		}
	}
	remains(25, true, distinct(0, 5)...)
	remains(23, true, distinct(5, 2)...)
	remains(23, true, distinct(10, 24)...) // refused, all of it
	remains(22, true, append(distinct(7, 1), authz.Use{Kind: authz.BudgetMisses}, distinct(7, 1)[0])...)
	remains(0, false, distinct(10, 24)...)
	_, left, err := b.Spend(t.Context(), eve, distinct(0, 7), true) // counted already
	if err != nil || left.Kind == authz.BudgetSubjects {
		t.Errorf("%+v remain, %v", left, err)
	}
	if n := b.Marking(); n != 30 {
		t.Errorf("%d marks are to be made", n)
	}
	b = o.instance(whole())
	if _, left, err := b.Spend(t.Context(), eve, nil, true); left != nil || err != nil {
		t.Errorf("of nothing, %+v remains, %v", left, err)
	}
}

// Of several budgets that refuse, the one that opens last says when.
func TestTheLastToOpenSaysWhen(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) {
		l.Principal.Plain = authz.Limit{Hour: 2, Day: 2}
		l.Tenant.Plain = authz.Limit{Hour: 2, Day: 100}
	})
	b := o.instance(whole())
	for _, r := range o.spend(b, 2, reveals(3, authz.BudgetPlain, "email", "")...)[2:] {
		if r.RetryAfter != 12*time.Hour {
			t.Errorf("%+v", r)
		}
	}
}

// A mark says every window that counts its subject, not only those that this
// instance paid for.
func TestAMarkKeepsWhatOthersPaidFor(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) { l.Principal.Subjects = authz.Limit{Hour: 100, Day: 1} })
	a, b := o.instance(whole()), o.instance(whole())
	o.spend(a, 1, distinct(0, 1)...)
	o.settle(a)
	o.clock.Add(time.Hour)
	o.spend(b, 1, distinct(0, 1)...) // by the day a has counted it, by the hour nobody
	o.settle(b)
	now, err := o.counters.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	marked, err := o.counters.Marked(t.Context(), authz.Member{Tenant: eve.Tenant, Set: authz.SubjectsOf(eve.ID), Name: "subject 0"})
	if want := (authz.Windows{Hour: authz.Hour.Window(now), Day: authz.Day.Window(now)}); err != nil || marked != want {
		t.Errorf("marked %+v, %v, want %+v", marked, err, want)
	}
}

// settle runs an instance until it has made its marks.
func (o *office) settle(b *authz.Budgets) {
	ctx, cancel := context.WithCancel(o.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); b.Marking() > 0; {
		if time.Now().After(deadline) {
			o.Fatal("marks are not made")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
}

// G5: where the counters cannot be reached, nothing is granted beyond what is leased.
func TestUnreachableCountersDeny(t *testing.T) {
	o := newOffice(t, nil)
	b := o.instance(whole())
	o.counters.Fail(authz.ErrUnavailable)
	if _, _, err := b.Spend(t.Context(), eve, reveals(1, authz.BudgetPlain, "email", ""), false); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("without counters: %v", err)
	}
	o.counters.Fail(nil)
	o.spend(b, 1, reveals(1, authz.BudgetPlain, "email", "")...)
	o.counters.Fail(authz.ErrUnavailable)
	granted := 1
	for range 100 {
		if _, _, err := b.Spend(t.Context(), eve, reveals(1, authz.BudgetPlain, "email", ""), false); err != nil {
			break
		}
		granted++
	}
	if granted > 50 {
		t.Errorf("%d granted from a lease", granted)
	}
}

// The counters are asked once a chunk, not once a use.
func TestLeasesSpareCalls(t *testing.T) {
	o := newOffice(t, nil)
	b := o.instance(whole())
	for range 500 {
		o.spend(b, 1, reveals(1, authz.BudgetPlain, "email", "ann")...)
	}
	if n := o.counters.Calls(); n > 150 {
		t.Errorf("%d calls for 500 reveals", n)
	}
}

// A key's own limits stand in for the deployment's; a tenant's bound it all the same.
func TestOwnLimits(t *testing.T) {
	o := newOffice(t, func(l *authz.BudgetLimits) { l.Tenant.Plain = authz.Limit{Hour: 8, Day: 8} })
	b := o.instance(whole())
	p := eve
	p.ID, p.Limits = "key_small", &authz.PrincipalLimits{Limits: authz.Limits{Plain: authz.Limit{Hour: 2, Day: 2}}, Subjects: authz.Limit{Hour: 9, Day: 9}}
	for kind, want := range map[authz.BudgetKind]int{authz.BudgetPlain: 2, authz.BudgetMasked: 0} {
		refusals, _, err := b.Spend(t.Context(), p, reveals(4, kind, "email", ""), false)
		granted := 0
		for _, r := range refusals {
			if r == nil {
				granted++
			} else if kind == authz.BudgetMasked && r.RetryAfter != 0 {
				t.Error("a budget of nothing opens some time")
			}
		}
		if err != nil || granted != want {
			t.Errorf("%s: %d granted, %v, want %d", kind, granted, err, want)
		}
	}
	o.spend(b, 6, reveals(9, authz.BudgetPlain, "email", "")...)
}

func TestLimitsAreValidated(t *testing.T) {
	good := authz.DefaultLimits()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*authz.BudgetLimits){
		"negative":           func(l *authz.BudgetLimits) { l.Tenant.Plain.Hour = -1 },
		"a day below":        func(l *authz.BudgetLimits) { l.Principal.Masked = authz.Limit{Hour: 2, Day: 1} },
		"absurd":             func(l *authz.BudgetLimits) { l.Principal.Misses.Day = 1 << 60 },
		"subjects below":     func(l *authz.BudgetLimits) { l.Principal.Subjects = authz.Limit{Hour: 2, Day: 1} },
		"negative day":       func(l *authz.BudgetLimits) { l.Principal.Guesses.Day = -1 },
		"tenant's day below": func(l *authz.BudgetLimits) { l.Tenant.Guesses = authz.Limit{Hour: 2, Day: 1} },
	} {
		l := good
		change(&l)
		if input := (*authz.InputError)(nil); !errors.As(l.Validate(), &input) {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkSpend(b *testing.B) {
	clock := authztest.NewClock()
	limits := authz.DefaultLimits()
	lots := authz.Limit{Hour: 1e9, Day: 1e9}
	limits.Principal.Plain, limits.Tenant.Plain, limits.Principal.Subjects = lots, lots, lots
	budgets := authz.NewBudgets(authz.BudgetsConfig{
		Counters: authztest.NewMemoryCounters(clock.Now), Limits: limits, Share: whole(), Now: clock.Now, Logger: zerolog.Nop(),
	})
	for _, batch := range []int{1, 100} {
		uses := distinct(1, batch)
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := budgets.Spend(b.Context(), eve, uses, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
