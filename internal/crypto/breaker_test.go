package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/crypto"
)

// An unreachable region costs those who meet it first one timeout each, all at
// the same time, however many they are; then nobody anything.
func TestManyMeetAnOutage(t *testing.T) {
	for out := range 2 {
		synctest.Test(t, func(t *testing.T) {
			c, kmss := remoteRing(t, 2)
			s := crypto.NewSealer(mustRing(t, c), nil, nil)
			v := boundValue("x")
			kmss[out].set(hangs)
			start := time.Now()
			var wait sync.WaitGroup
			for range 64 {
				wait.Go(func() {
					equal(t, "missing", mustSeal(t, s, v).Missing, []string{regionName(out)})
				})
			}
			wait.Wait()
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("all waited %v", waited)
			}
			start = time.Now()
			mustSeal(t, s, v)
			if waited := time.Since(start); waited != 0 {
				t.Errorf("the next waited %v", waited)
			}
		})
	}
}

// A region that is back for a moment and gone again costs a timeout less and
// less often, and in the end nothing; one that stays is taken for good.
func TestFlapping(t *testing.T) {
	for _, up := range []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, kmss := remoteRing(t, 2)
			r := mustRing(t, c)
			defer runRing(t, r)()
			s := crypto.NewSealer(r, nil, nil)
			v := boundValue("x")
			var waited time.Duration
			seal := func(during time.Duration) {
				for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					start := time.Now()
					mustSeal(t, s, v)
					waited += time.Since(start)
				}
			}
			for range 30 {
				kmss[0].set(hangs)
				seal(3 * time.Second)
				kmss[0].set(nil)
				seal(up)
			}
			// One timeout for each doubling of the good probes it takes: 1, 2, 4, 8, 16.
			if waited > 5*time.Second {
				t.Errorf("up for %v, away for 3 s, 30 times: waited %v", up, waited)
			}
			time.Sleep(40 * time.Second)
			equal(t, "states", states(r), []string{"up", "up"})

			// After a quiet minute the first good probe is enough again.
			time.Sleep(time.Minute)
			kmss[0].set(hangs)
			seal(5 * time.Second)
			equal(t, "states", states(r), []string{"down", "up"})
			kmss[0].set(nil)
			time.Sleep(3 * time.Second)
			equal(t, "states", states(r), []string{"up", "up"})
		})
	}
}

// flapped is a ring of n regions, region-0 in its second outage within a
// minute, so that one good probe does not close its breaker.
func flapped(t *testing.T, n, minCopies int) (*crypto.Ring, []*remoteKMS, *crypto.Sealer) {
	t.Helper()
	c, kmss := remoteRing(t, n)
	c.MinCopies = minCopies
	r := mustRing(t, c)
	for range 2 {
		kmss[0].set(fails(crypto.ErrUnreachable))
		r.Probe(t.Context())
		kmss[0].set(nil)
		r.Probe(t.Context())
	}
	equal(t, "states", states(r)[:2], []string{"down", "up"})
	return r, kmss, crypto.NewSealer(r, nil, nil)
}

// G2: a region that seems to recover is asked where nobody else can help, and
// only there.
func TestRecoveringRegionIsTheLastResort(t *testing.T) {
	v := boundValue("x")
	_, kmss, s := flapped(t, 2, 1)
	called := kmss[0].calls.Load()
	equal(t, "missing", mustSeal(t, s, v).Missing, []string{regionName(0)})
	if kmss[0].calls.Load() != called {
		t.Error("asked though another region could")
	}
	kmss[1].set(fails(crypto.ErrUnreachable))
	sealed := mustSeal(t, s, v)
	equal(t, "missing", sealed.Missing, []string{regionName(1)})
	if region := mustOpen(t, s, sealed.Message, v); region != regionName(0) {
		t.Errorf("opened by %s", region)
	}
	kmss[0].set(fails(crypto.ErrUnreachable))
	if _, err := s.Seal(t.Context(), []crypto.Value{v}); !errors.Is(err, crypto.ErrTooFewCopies) {
		t.Errorf("nobody answers: %v", err)
	}
	called = kmss[0].calls.Load()
	if _, err := s.Seal(t.Context(), []crypto.Value{v}); !errors.Is(err, crypto.ErrTooFewCopies) || kmss[0].calls.Load() != called {
		t.Errorf("asked again after it failed: %v", err)
	}
	if _, _, err := open(t, s, sealed.Message, v); !errors.Is(err, crypto.ErrUnreachable) || kmss[0].calls.Load() != called {
		t.Errorf("open: %v", err)
	}

	// min_copies is another reason to ask it.
	r, kmss, s := flapped(t, 2, 2)
	equal(t, "missing", mustSeal(t, s, v).Missing, nil)
	equal(t, "states", states(r), []string{"down", "up"}) // a client's success closes nothing
	kmss[0].set(fails(crypto.ErrUnreachable))
	if _, err := s.Seal(t.Context(), []crypto.Value{v}); !errors.Is(err, crypto.ErrTooFewCopies) {
		t.Errorf("one copy of two: %v", err)
	}
}

// With min_copies 2 of 3, the recovering region makes up for another one that
// is away, and is left alone while none is.
func TestRecoveringRegionAndMinCopies(t *testing.T) {
	_, kmss, s := flapped(t, 3, 2)
	v := boundValue("x")
	equal(t, "missing", mustSeal(t, s, v).Missing, []string{regionName(0)})
	kmss[2].set(fails(crypto.ErrUnreachable))
	for range 2 {
		equal(t, "missing", mustSeal(t, s, v).Missing, []string{regionName(2)})
	}
}

// The copies of other regions are made at the same time.
func TestCopiesAreMadeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 4)
		for _, k := range kmss {
			k.set(far(near))
		}
		start := time.Now()
		mustSeal(t, crypto.NewSealer(mustRing(t, c), nil, nil), boundValue("x"))
		if took := time.Since(start); took != 2*near {
			t.Errorf("took %v, with each KMS %v away", took, near)
		}
	})
}

// A local denial is final also where the region seems to recover.
func TestRecoveringRegionDenies(t *testing.T) {
	v := boundValue("x")
	_, kmss, s := flapped(t, 2, 2)
	sealed := mustSeal(t, s, v)
	kmss[0].set(fails(crypto.ErrDisabled))
	kmss[1].set(fails(crypto.ErrUnreachable))
	for range 2 {
		if _, _, err := open(t, s, sealed.Message, v); !errors.Is(err, crypto.ErrDenied) {
			t.Errorf("got %v", err)
		}
	}
	kmss[1].set(nil)
	if _, _, err := open(t, s, sealed.Message, v); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("routed around a denial: %v", err)
	}
}

// Since is when the state began, whatever was seen of it afterwards.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 1)
		r := mustRing(t, c)
		since := time.Now()
		for _, err := range []error{nil, crypto.ErrThrottled, crypto.ErrDenied, crypto.ErrDisabled, crypto.ErrUnreachable, crypto.ErrThrottled, nil, nil} {
			time.Sleep(time.Second)
			before := states(r)[0]
			kmss[0].set(nil)
			if err != nil {
				kmss[0].set(fails(err))
			}
			r.Probe(t.Context())
			if states(r)[0] != before {
				since = time.Now()
			}
			if got := r.Health()[0].Since; !got.Equal(since) {
				t.Errorf("%v: since %v, want %v", err, got, since)
			}
		}
	})
}

// A region that goes is a warning, one that is back is not.
func TestTransitionsAreLogged(t *testing.T) {
	c, kmss := remoteRing(t, 1)
	var log bytes.Buffer
	c.Logger = zerolog.New(&log)
	r := mustRing(t, c)
	for _, test := range []struct {
		err  error
		want string
	}{
		{crypto.ErrUnreachable, `{"level":"warn","region":"region-0","from":"up","to":"down","message":"kms state changed"}`},
		{crypto.ErrUnreachable, ""},
		{crypto.ErrDenied, `{"level":"warn","region":"region-0","from":"down","to":"denied","message":"kms state changed"}`},
		{nil, `{"level":"info","region":"region-0","from":"denied","to":"up","message":"kms state changed"}`},
	} {
		kmss[0].set(nil)
		if test.err != nil {
			kmss[0].set(fails(test.err))
		}
		log.Reset()
		r.Probe(t.Context())
		if got := strings.TrimSpace(log.String()); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// A call that times out after a probe has closed the breaker was begun before
// it opened, and does not open it again; nor does its like reset the count of
// good probes.
func TestStaleFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		r := mustRing(t, c)
		s := crypto.NewSealer(r, nil, nil)
		v := boundValue("x")
		kmss[0].set(hangs)
		var wait sync.WaitGroup
		wait.Go(func() { mustSeal(t, s, v) }) // until 1 s
		time.Sleep(100 * time.Millisecond)
		kmss[0].set(fails(crypto.ErrUnreachable))
		mustSeal(t, s, v)
		equal(t, "states", states(r), []string{"down", "up"})
		kmss[0].set(nil)
		r.Probe(t.Context())
		equal(t, "states", states(r), []string{"up", "up"})
		wait.Wait()
		equal(t, "states", states(r), []string{"up", "up"})
		equal(t, "missing", mustSeal(t, s, v).Missing, nil)
	})
}

// Good probes count in a row: a throttled one starts again, a denial counts as
// an answer and shows as one once the breaker is closed.
func TestGoodProbesInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		r := mustRing(t, c)
		probe := func(err error) string {
			kmss[0].set(nil)
			if err != nil {
				kmss[0].set(fails(err))
			}
			r.Probe(t.Context())
			return states(r)[0]
		}
		away, busy, no := crypto.ErrUnreachable, crypto.ErrThrottled, crypto.ErrDisabled
		for _, test := range []struct {
			probes []error
			want   []string
		}{
			{[]error{away, nil}, []string{"down", "up"}},
			{[]error{away, nil, nil}, []string{"down", "down", "up"}},
			{
				[]error{away, nil, nil, nil, busy, nil, nil, nil, nil},
				[]string{"down", "down", "down", "down", "down", "down", "down", "down", "up"},
			},
			{
				[]error{away, nil, no, away, nil, no, no, nil, no, nil, no, no},
				[]string{"down", "down", "down", "down", "down", "down", "down", "down", "down", "down", "down", "denied"},
			},
			{[]error{nil}, []string{"up"}},
		} {
			got := make([]string, len(test.probes))
			for i, err := range test.probes {
				got[i] = probe(err)
			}
			equal(t, "states", got, test.want)
		}
		time.Sleep(time.Minute) // since it last closed
		equal(t, "states", []string{probe(away), probe(nil)}, []string{"down", "up"})
	})
}

// A denial that begins or ends while the region is out of reach is a decision
// as well: what was kept from before it is dropped.
func TestDenialBehindAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		r := mustRing(t, c)
		s := crypto.NewSealer(r, nil, nil)
		defer s.Close()
		v := shared("t", "email", 10)
		kept := mustSeal(t, s, v).DataKey
		kmss[1].set(func(context.Context, string) error {
			time.Sleep(500 * time.Millisecond)
			return crypto.ErrDenied
		})
		other := boundValue("x")
		var wait sync.WaitGroup
		wait.Go(func() { mustSeal(t, s, other) })
		time.Sleep(100 * time.Millisecond)
		kmss[1].set(fails(crypto.ErrUnreachable))
		mustSeal(t, s, other)
		equal(t, "states", states(r), []string{"up", "down"})
		if mustSeal(t, s, v).DataKey != kept {
			t.Error("an outage dropped a key with every copy")
		}
		wait.Wait() // learns of the denial
		equal(t, "states", states(r), []string{"up", "down"})
		sealed := mustSeal(t, s, v)
		if sealed.DataKey == kept || !slices.Contains(sealed.Missing, regionName(1)) {
			t.Error("a denial that came late did not drop a kept key")
		}
	})
}
