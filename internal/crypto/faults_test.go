package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"piivault/internal/crypto"
)

const (
	// settle is more than it takes a ring to find out about any change: a
	// probe that waits for its timeouts, the interval, and another probe.
	settle = 8 * time.Second
	// near is what a slow KMS takes.
	near = 100 * time.Millisecond
)

// weather is what each region's KMS is at present, and since when.
type weather struct {
	kmss    []*remoteKMS
	kind    []string
	since   []time.Time
	denied  []bool // a denial may still stand
	tripped []bool // has ever given a reason to open a breaker
}

func (w *weather) set(i int, kind string) {
	w.kmss[i].set(map[string]func(context.Context, string) error{
		"up": nil, "slow": far(near), "hang": hangs,
		"refuse": fails(crypto.ErrUnreachable), "odd": fails(errors.New("what?")), "throttle": fails(crypto.ErrThrottled),
		"deny": fails(crypto.ErrDenied), "disable": fails(crypto.ErrDisabled),
	}[kind])
	if w.settled(i) && w.answers(i) {
		w.denied[i] = false
	}
	w.kind[i], w.since[i] = kind, time.Now()
	w.denied[i] = w.denied[i] || w.denies(i)
	w.tripped[i] = w.tripped[i] || kind == "hang" || kind == "refuse" || kind == "odd"
}

func (w *weather) settled(i int) bool { return time.Since(w.since[i]) >= settle }
func (w *weather) answers(i int) bool { return w.kind[i] == "up" || w.kind[i] == "slow" }
func (w *weather) denies(i int) bool  { return w.kind[i] == "deny" || w.kind[i] == "disable" }

// flap: away and back five times, each time for as long as it takes a ring to
// trust the region again, the last time not so long.
func (w *weather) flap(i int, kind string) {
	for trials := time.Duration(1); ; trials *= 2 {
		w.set(i, kind)
		time.Sleep(3 * time.Second)
		w.set(i, "up")
		if trials == 16 {
			time.Sleep(settle)
			return
		}
		time.Sleep(trials*2*time.Second + time.Second)
	}
}

// known: every ring knows by now that the region answers.
func (w *weather) known(i int) bool { return w.answers(i) && w.settled(i) }

// undenied: no ring takes the region's key for denied.
func (w *weather) undenied(i int) bool { return !w.denied[i] || w.known(i) }

// patience is how long an operation may take: a timeout for each region that
// has just begun to hang, and what slow ones take.
func (w *weather) patience() (d time.Duration) {
	for i := range w.kind {
		switch {
		case w.kind[i] == "hang" && !w.settled(i):
			d += time.Second
		case w.kind[i] == "slow":
			d += near
		}
	}
	return d + near
}

// faulty is a deployment of one instance a region under that weather.
type faulty struct {
	*weather
	sealers []*crypto.Sealer
	rings   []*crypto.Ring
	records []record
}

type record struct {
	value  crypto.Value
	sealed crypto.Sealed
	copies []int
}

// outcome is what one client got.
type outcome struct {
	i      int // index of the record, or of the client
	sealed []crypto.Sealed
	value  []byte
	region string
	err    error
	took   time.Duration
}

// all runs n clients at the same moment.
func all(n int, client func(i int) outcome) []outcome {
	out := make([]outcome, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			start := time.Now()
			out[i] = client(i)
			out[i].took = time.Since(start)
		})
	}
	wait.Wait()
	return out
}

func (f *faulty) seal(t *testing.T, s step) error {
	t.Helper()
	at := s.region % len(f.rings)
	before, limit, anyKnown := states(f.rings[at]), f.patience(), false
	for i := range f.kind {
		anyKnown = anyKnown || f.known(i)
	}
	v := boundValue("x")
	values := slices.Repeat([]crypto.Value{v}, s.batch)
	for _, o := range all(s.clients, func(int) (o outcome) {
		o.sealed, o.err = f.sealers[at].Seal(t.Context(), values)
		return o
	}) {
		if o.took > limit {
			return fmt.Errorf("%v: a seal in %d took %v, not %v", f.kind, at, o.took, limit)
		}
		if o.err != nil {
			if anyKnown || !errors.Is(o.err, crypto.ErrTooFewCopies) { // G2
				return fmt.Errorf("%v: a seal in %d: %w", f.kind, at, o.err)
			}
			continue
		}
		for _, s := range o.sealed {
			if err := f.check(t, v, s, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// check compares what a record says of its copies with what it has (G3).
func (f *faulty) check(t *testing.T, v crypto.Value, s crypto.Sealed, before []string) error {
	t.Helper()
	m := dissect(t, s.Message)
	r := record{value: v, sealed: s}
	for i, k := range f.kmss {
		blob, has := m.copies[k.Keys()[0]]
		if has {
			r.copies = append(r.copies, i)
		}
		name := regionName(i)
		switch {
		case has == slices.Contains(s.Missing, name) || has != slices.Contains(s.Present, name):
			return fmt.Errorf("region %d: has a copy %v; present %v, missing %v", i, has, s.Present, s.Missing)
		case !has && before[i] == string(crypto.Up) && f.answers(i):
			return fmt.Errorf("region %d answers and has no copy: %v", i, f.kind)
		case has && before[i] == string(crypto.Denied) && f.denies(i):
			return fmt.Errorf("region %d denies and has a copy: %v", i, f.kind)
		case has && len(blob) == 0:
			return errors.New("an empty copy")
		}
	}
	if len(m.copies) != len(r.copies) {
		return fmt.Errorf("%d copies for %v", len(m.copies), r.copies)
	}
	f.records = append(f.records, r)
	return nil
}

func (f *faulty) open(t *testing.T, s step) error {
	t.Helper()
	if len(f.records) == 0 {
		return nil
	}
	at := s.region % len(f.rings)
	before, limit := states(f.rings[at]), f.patience()
	for _, o := range all(s.clients, func(i int) (o outcome) {
		o.i = (s.record + i) % len(f.records)
		r := f.records[o.i]
		o.value, o.region, o.err = open(t, f.sealers[at], r.sealed.Message, r.value)
		return o
	}) {
		r := f.records[o.i]
		context := fmt.Sprintf("%v (%v), opened in %d, copies %v: by %q: %v", f.kind, before, at, r.copies, o.region, o.err)
		if o.took > limit {
			return fmt.Errorf("%s: took %v, not %v", context, o.took, limit)
		}
		if problem := f.judge(at, r, o, before[at]); problem != "" {
			return fmt.Errorf("%s: %s", problem, context)
		}
	}
	return nil
}

// judge says what is wrong with the outcome of opening a record, if anything is.
func (f *faulty) judge(at int, r record, o outcome, before string) string {
	local := slices.Contains(r.copies, at)
	asked := before != string(crypto.Down) && (local || before == string(crypto.Denied))
	switch {
	case f.denies(at) && (f.settled(at) || asked):
		if !errors.Is(o.err, crypto.ErrDenied) {
			return "routed around a denial"
		}
	case o.err == nil:
		by := slices.IndexFunc(r.copies, func(i int) bool { return regionName(i) == o.region })
		if by < 0 || !f.answers(r.copies[by]) || !bytes.Equal(o.value, r.value.Plaintext.Bytes()) {
			return "opened by a KMS that does not answer, or another value"
		}
	case f.undenied(at) && slices.ContainsFunc(r.copies, f.known): // G2
		return "not opened though a region with a copy answers"
	}
	return ""
}

// G2, G3: rings of 2 to 4 regions, an instance in each, and any course of
// faults. A seal works while any region answers, and says exactly which copies
// are missing; a record opens while a region that has a copy answers, unless
// the local key refuses it, which nothing gets around; nobody waits longer
// than a timeout for each region that has just begun to hang; decisions and
// throttling open no breaker.
func TestFaultsAtRandom(t *testing.T) {
	c, kmss := remoteRing(t, 4)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(rt, "regions")
		ahead := crypto.PrefetchConfig{MaxKeys: rapid.SampledFrom([]int{0, 50}).Draw(rt, "prefetch")}
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 60).Draw(rt, "steps")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			c := c
			c.Regions = c.Regions[:n]
			failure = underFaults(t, c, kmss[:n], ahead, steps)
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// step is one thing that happens.
type step struct {
	what, kind                     string
	wait                           time.Duration
	region, clients, batch, record int
}

func drawStep(rt *rapid.T) step {
	return step{
		what:    rapid.SampledFrom([]string{"fault", "fault", "wait", "wait", "flap", "alone", "seal", "seal", "seal", "open", "open", "open"}).Draw(rt, "what"),
		kind:    rapid.SampledFrom([]string{"up", "up", "up", "slow", "hang", "hang", "refuse", "odd", "throttle", "deny", "disable"}).Draw(rt, "kind"),
		wait:    rapid.SampledFrom([]time.Duration{time.Millisecond, 400 * time.Millisecond, time.Second, 3 * time.Second, settle, time.Minute}).Draw(rt, "wait"),
		region:  rapid.IntRange(0, 3).Draw(rt, "region"),
		clients: rapid.IntRange(1, 8).Draw(rt, "clients"),
		batch:   rapid.IntRange(1, 3).Draw(rt, "batch"),
		record:  rapid.IntRange(0, 100).Draw(rt, "record"),
	}
}

func underFaults(t *testing.T, c crypto.RingConfig, kmss []*remoteKMS, ahead crypto.PrefetchConfig, steps []step) error {
	t.Helper()
	n := len(kmss)
	f := &faulty{weather: &weather{
		kmss: kmss, kind: make([]string, n), since: make([]time.Time, n), denied: make([]bool, n), tripped: make([]bool, n),
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for i := range n {
		f.set(i, "up")
		f.since[i] = time.Time{}
	}
	for i := range n {
		c.Local = regionName(i)
		r := mustRing(t, c)
		s := crypto.NewSealer(r, nil, nil)
		s.EnablePrefetch(ahead)
		wait.Go(func() { r.Run(ctx) })
		wait.Go(func() { s.Run(ctx) })
		f.rings, f.sealers = append(f.rings, r), append(f.sealers, s)
	}
	synctest.Wait()
	for i, s := range steps {
		if err := f.step(t, s); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (f *faulty) step(t *testing.T, s step) (err error) {
	t.Helper()
	switch s.what {
	case "fault":
		f.set(s.region%len(f.kmss), s.kind)
	case "flap":
		f.flap(s.region%len(f.kmss), s.kind)
	case "alone":
		for i := range f.kmss {
			if i != s.region%len(f.kmss) {
				f.set(i, s.kind)
			}
		}
	case "wait":
		time.Sleep(s.wait)
	case "seal":
		err = f.seal(t, s)
	case "open":
		err = f.open(t, s)
	}
	synctest.Wait()
	for _, r := range f.rings {
		for i, state := range states(r) {
			if state == string(crypto.Down) && !f.tripped[i] {
				return fmt.Errorf("the breaker of region %d opened on %v", i, f.kind)
			}
		}
	}
	return err
}
