package crypto_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

func TestNewRingRefuses(t *testing.T) {
	kmss := newKMSs(t, 2)
	good := ringConfig(kmss) // before there are more keys to choose from
	primary, err := kmss[0].CreateKey(true)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := kmss[1].Replicate(kmss[0], primary)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*crypto.RingConfig){
		"no regions": func(c *crypto.RingConfig) { c.Regions = nil },
		"nine regions": func(c *crypto.RingConfig) {
			for i := 2; i < 9; i++ {
				r := c.Regions[0]
				r.Name, r.KeyARN = regionName(i), r.KeyARN+regionName(i)
				c.Regions = append(c.Regions, r)
			}
		},
		"a name twice":         func(c *crypto.RingConfig) { c.Regions[1].Name = c.Regions[0].Name },
		"no name":              func(c *crypto.RingConfig) { c.Regions[1].Name = "" },
		"no KMS":               func(c *crypto.RingConfig) { c.Regions[1].KMS = nil },
		"a key twice":          func(c *crypto.RingConfig) { c.Regions[1].KeyARN = c.Regions[0].KeyARN },
		"no ARN":               func(c *crypto.RingConfig) { c.Regions[1].KeyARN = "" },
		"an alias":             func(c *crypto.RingConfig) { c.Regions[1].KeyARN = "arn:aws:kms:r:000000000000:alias/x" },
		"another service":      func(c *crypto.RingConfig) { c.Regions[1].KeyARN = "arn:aws:s3:r:000000000000:key/x" },
		"no account":           func(c *crypto.RingConfig) { c.Regions[1].KeyARN = "arn:aws:kms:r::key/x" },
		"a former alias":       func(c *crypto.RingConfig) { c.Regions[1].Former = []string{"alias/x"} },
		"local is no member":   func(c *crypto.RingConfig) { c.Local = "elsewhere" },
		"no mode":              func(c *crypto.RingConfig) { c.Mode = "" },
		"too many copies":      func(c *crypto.RingConfig) { c.MinCopies = 3 },
		"replicas as copies":   func(c *crypto.RingConfig) { c.Regions[0].KeyARN, c.Regions[1].KeyARN = primary, replica },
		"copies as replicas":   func(c *crypto.RingConfig) { c.Mode = crypto.MultiRegion },
		"one key is a replica": func(c *crypto.RingConfig) { c.Mode = crypto.MultiRegion; c.Regions[0].KeyARN = primary },
	} {
		c := good
		c.Regions = slices.Clone(good.Regions)
		change(&c)
		if _, err := crypto.NewRing(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRingNames(t *testing.T) {
	c := ringConfig(newKMSs(t, 3))
	c.Local = "region-1"
	r := mustRing(t, c)
	equal(t, "names", r.Names(), []string{"region-0", "region-1", "region-2"})
	if r.Local() != "region-1" || r.Epoch() != 7 {
		t.Errorf("local %s, epoch %d", r.Local(), r.Epoch())
	}
	for name, change := range map[string]func(*crypto.RingConfig){
		"order": func(c *crypto.RingConfig) { slices.Reverse(c.Regions) },
		"fewer": func(c *crypto.RingConfig) { c.Regions = c.Regions[:2] },
		"name":  func(c *crypto.RingConfig) { c.Regions[0].Name = "other" },
		"key":   func(c *crypto.RingConfig) { c.Regions[0].KeyARN += "0" },
	} {
		other := c
		other.Regions = slices.Clone(c.Regions)
		change(&other)
		if mustRing(t, other).Hash() == r.Hash() {
			t.Errorf("the hash does not tell another %s", name)
		}
	}
	c.Local, c.Epoch, c.MinCopies = "region-2", 8, 2
	if mustRing(t, c).Hash() != r.Hash() {
		t.Error("the hash differs between instances")
	}
}

// G2: whichever regions are reachable, the local one included in those that
// may not be, a seal works, says who is missing, and opens in every region
// that has a copy.
func TestAnySubsetOfRegions(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for up := 1; up < 1<<n; up++ {
			kmss := newKMSs(t, n)
			c := ringConfig(kmss)
			s := crypto.NewSealer(mustRing(t, c), nil, nil)
			var present, missing []string
			for i, k := range kmss {
				if up&(1<<i) == 0 {
					k.SetFault(localkms.Down, 0)
					missing = append(missing, regionName(i))
				} else {
					present = append(present, regionName(i))
				}
			}
			v := boundValue("jane@example.com")
			sealed := mustSeal(t, s, v)
			equal(t, "present", sealed.Present, present)
			equal(t, "missing", sealed.Missing, missing)
			if (sealed.Missing == nil) != (len(missing) == 0) || sealed.RingEpoch != 7 {
				t.Error("missing is not nil exactly when nothing is, or the epoch is wrong")
			}
			mustOpen(t, s, sealed.Message, v)
			for i, k := range kmss {
				for _, other := range kmss {
					other.SetFault(localkms.Down, 0)
				}
				k.SetFault(localkms.Up, 0)
				there := localTo(t, c, regionName(i))
				if up&(1<<i) != 0 {
					if region := mustOpen(t, there, sealed.Message, v); region != regionName(i) {
						t.Errorf("opened by %s", region)
					}
				} else if _, _, err := open(t, there, sealed.Message, v); !errors.Is(err, crypto.ErrUnreachable) {
					t.Errorf("without a copy: %v", err)
				}
			}
		}
	}
}

func TestCopiesOfAMessage(t *testing.T) {
	kmss := newKMSs(t, 3)
	r := newRing(t, kmss)
	s := crypto.NewSealer(r, nil, nil)
	kmss[2].SetFault(localkms.Down, 0)
	m, err := crypto.Parse(mustSeal(t, s, boundValue("x")).Message)
	if err != nil {
		t.Fatal(err)
	}
	present, missing := r.Copies(m)
	equal(t, "present", present, []string{"region-0", "region-1"})
	equal(t, "missing", missing, []string{"region-2"})
}

func TestTooFewCopies(t *testing.T) {
	kmss := newKMSs(t, 3)
	c := ringConfig(kmss)
	c.MinCopies = 2
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	kmss[0].SetFault(localkms.Down, 0)
	mustSeal(t, s, boundValue("x"))
	kmss[1].SetFault(localkms.Denied, 0)
	if _, err := s.Seal(t.Context(), []crypto.Value{boundValue("x")}); !errors.Is(err, crypto.ErrTooFewCopies) {
		t.Errorf("one copy of two: %v", err)
	}
	kmss[2].SetFault(localkms.Down, 0)
	if _, err := s.Seal(t.Context(), []crypto.Value{boundValue("x")}); !errors.Is(err, crypto.ErrTooFewCopies) {
		t.Errorf("no copy: %v", err)
	}
}

// An unreachable region costs one timeout; then its breaker is open, and
// nobody waits for it again until a probe has closed it.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		var restored atomic.Int32
		c.OnRestored = func(region string) {
			if region == "region-0" {
				restored.Add(1)
			}
		}
		r := mustRing(t, c)
		s := crypto.NewSealer(r, nil, nil)
		v := boundValue("x")
		before := mustSeal(t, s, v)
		kmss[0].set(hangs)

		start := time.Now()
		equal(t, "missing", mustSeal(t, s, v).Missing, []string{"region-0"})
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v for the first fault", waited)
		}
		start, called := time.Now(), kmss[0].calls.Load()
		for range 100 {
			equal(t, "missing", mustSeal(t, s, v).Missing, []string{"region-0"})
			if region := mustOpen(t, s, before.Message, v); region != "region-1" {
				t.Errorf("opened by %s", region)
			}
		}
		if waited := time.Since(start); waited != 0 || kmss[0].calls.Load() != called {
			t.Errorf("waited %v for an open breaker, called it %d times", waited, kmss[0].calls.Load()-called)
		}
		equal(t, "states", states(r), []string{"down", "up"})

		kmss[0].set(nil) // clients do not find out
		time.Sleep(time.Hour)
		equal(t, "states", states(r), []string{"down", "up"})
		equal(t, "missing", mustSeal(t, s, v).Missing, []string{"region-0"})

		if restored.Load() != 0 {
			t.Errorf("told %d times before it is back", restored.Load())
		}
		stop := runRing(t, r)
		synctest.Wait()
		equal(t, "states", states(r), []string{"up", "up"})
		if restored.Load() != 1 {
			t.Errorf("told %d times", restored.Load())
		}
		equal(t, "missing", mustSeal(t, s, v).Missing, nil)
		stop()
	})
}

// A breaker opens on a fault that only probes have met, and stays open while
// the key can be described but not used.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		c.ProbeEvery = time.Minute
		r := mustRing(t, c)
		defer runRing(t, r)()
		synctest.Wait()
		for _, step := range []struct {
			hook func(context.Context, string) error
			want string
		}{
			{hangs, "down"},
			{fails(crypto.ErrUnreachable, "generate"), "down"},
			{fails(crypto.ErrUnreachable, "decrypt"), "down"},
			{fails(crypto.ErrThrottled), "down"},
			{fails(crypto.ErrDisabled), "denied"},
			{fails(crypto.ErrDenied, "generate"), "denied"},
			{fails(crypto.ErrDenied, "decrypt"), "denied"},
			{fails(crypto.ErrThrottled), "denied"},
			{nil, "up"},
			{fails(crypto.ErrThrottled), "up"},
			{fails(errors.New("anything else")), "down"},
			{nil, "up"},
		} {
			kmss[1].set(step.hook)
			time.Sleep(time.Minute + 3*time.Second)
			equal(t, "states", states(r), []string{"up", step.want})
		}
	})
}

// What a call that began before the breaker opened returns after that changes nothing.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, late := range []error{nil, crypto.ErrDenied} {
			c, kmss := remoteRing(t, 2)
			slow := &slowKMS{remoteKMS: kmss[0], late: late}
			c.Regions[0].KMS = slow
			r := mustRing(t, c)
			s := crypto.NewSealer(r, nil, nil)
			var wait sync.WaitGroup
			wait.Go(func() { mustSeal(t, s, boundValue("x")) }) // opens the breaker after a second
			time.Sleep(500 * time.Millisecond)
			slow.delay.Store(int64(900 * time.Millisecond)) // in time, but after that
			wait.Go(func() { mustSeal(t, s, boundValue("x")) })
			time.Sleep(time.Hour)
			wait.Wait()
			equal(t, "states", states(r), []string{"down", "up"})
		}
	})
}

// slowKMS never makes its first data key, and the others after a delay.
type slowKMS struct {
	*remoteKMS
	late  error
	delay atomic.Int64
}

func (k *slowKMS) GenerateDataKey(ctx context.Context, arn string, ec map[string]string) (secret.Key, []byte, error) {
	if d := k.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
		if k.late != nil {
			return secret.Key{}, nil, k.late
		}
		return k.remoteKMS.GenerateDataKey(ctx, arn, ec)
	}
	<-ctx.Done()
	return secret.Key{}, nil, ctx.Err()
}

// A caller that gives up is told its own error, and the region is not blamed.
func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		r := mustRing(t, c)
		s := crypto.NewSealer(r, nil, nil)
		v := boundValue("x")
		m, err := crypto.Parse(mustSeal(t, s, v).Message)
		if err != nil {
			t.Fatal(err)
		}
		for i := range kmss {
			kmss[i].set(hangs)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			if _, err := s.Seal(ctx, []crypto.Value{v}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("seal: %v", err)
			}
			if i == 0 {
				if u := s.Unwrap(ctx, v.Place.Tenant, []*crypto.Message{m})[0]; !errors.Is(u.Err, context.DeadlineExceeded) {
					t.Errorf("unwrap: %v", u.Err)
				}
			}
			cancel()
			kmss[i].set(nil)
		}
		equal(t, "states", states(r), []string{"up", "up"})
	})
}

func TestUnwrapRoutes(t *testing.T) {
	v := boundValue("x")
	for _, test := range []struct {
		name   string
		hooks  []func(context.Context, string) error
		region string
		want   error
	}{
		{"local", nil, "region-0", nil},
		{"unreachable", hooks(fails(crypto.ErrUnreachable)), "region-1", nil},
		{"throttled", hooks(fails(crypto.ErrThrottled)), "region-1", nil},
		{"something else", hooks(fails(errors.New("what?"))), "region-1", nil},
		{"two unreachable", hooks(fails(crypto.ErrUnreachable), fails(crypto.ErrThrottled)), "region-2", nil},
		{"next denied", hooks(fails(crypto.ErrUnreachable), fails(crypto.ErrDenied)), "region-2", nil},
		{"all unreachable", hooks(fails(crypto.ErrUnreachable), fails(crypto.ErrUnreachable), fails(crypto.ErrUnreachable)), "", crypto.ErrUnreachable},
		{"fault or decision", hooks(fails(crypto.ErrThrottled), fails(crypto.ErrDenied), fails(crypto.ErrDisabled)), "", crypto.ErrThrottled},
		{"denied here", hooks(fails(crypto.ErrDenied)), "", crypto.ErrDenied},
		{"disabled here", hooks(fails(crypto.ErrDisabled)), "", crypto.ErrDenied},
		{"invalid here", hooks(fails(crypto.ErrInvalidCiphertext)), "", crypto.ErrAuthentication},
		{"invalid there", hooks(fails(crypto.ErrUnreachable), fails(crypto.ErrInvalidCiphertext)), "", crypto.ErrAuthentication},
	} {
		c, kmss := remoteRing(t, 3)
		s := crypto.NewSealer(mustRing(t, c), nil, nil)
		sealed := mustSeal(t, s, v)
		for i, hook := range test.hooks {
			kmss[i].set(hook)
		}
		_, region, err := open(t, s, sealed.Message, v)
		if region != test.region || !errors.Is(err, test.want) {
			t.Errorf("%s: opened by %q: %v", test.name, region, err)
		}
		if test.name == "fault or decision" && errors.Is(err, crypto.ErrDenied) {
			t.Errorf("%s: reads as a decision: %v", test.name, err)
		}
	}
}

func hooks(h ...func(context.Context, string) error) []func(context.Context, string) error { return h }

// A denial is a decision: it opens no breaker, a write goes on without that
// copy, a reveal is not routed around the local key, and it is over when a
// call or a probe succeeds.
func TestDenial(t *testing.T) { synctest.Test(t, testDenial) }

func testDenial(t *testing.T) {
	t.Helper()
	c, kmss := remoteRing(t, 3)
	var restored []string
	c.OnRestored = func(region string) { restored = append(restored, region) }
	r := mustRing(t, c)
	s := crypto.NewSealer(r, nil, nil)
	v := boundValue("x")
	before := mustSeal(t, s, v)

	kmss[0].set(fails(crypto.ErrDenied))
	sealed := mustSeal(t, s, v)
	equal(t, "missing", sealed.Missing, []string{"region-0"})
	equal(t, "states", states(r), []string{"denied", "up", "up"})
	for name, message := range map[string][]byte{"with a local copy": before.Message, "without": sealed.Message} {
		if _, _, err := open(t, s, message, v); !errors.Is(err, crypto.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Out of reach, the local key's last word stands.
	kmss[0].set(fails(crypto.ErrUnreachable))
	mustSeal(t, s, v)
	equal(t, "states", states(r), []string{"down", "up", "up"})
	if _, _, err := open(t, s, before.Message, v); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("a denial was lifted by an outage: %v", err)
	}
	kmss[0].set(nil)
	stop := runRing(t, r)
	synctest.Wait()
	stop()
	mustOpen(t, s, before.Message, v)
	mustOpen(t, s, sealed.Message, v)

	// Another region's denial concerns nobody here.
	kmss[1].set(fails(crypto.ErrDisabled))
	sealed = mustSeal(t, s, v)
	equal(t, "missing", sealed.Missing, []string{"region-1"})
	mustOpen(t, s, before.Message, v)
	kmss[1].set(nil)
	equal(t, "missing", mustSeal(t, s, v).Missing, nil)
	equal(t, "states", states(r), []string{"up", "up", "up"})
	if !slices.Contains(restored, "region-1") {
		t.Errorf("restored %v", restored)
	}
}

// With every breaker open there is an answer at once.
func TestAllBreakersOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 2)
		s := crypto.NewSealer(mustRing(t, c), nil, nil)
		v := boundValue("x")
		sealed := mustSeal(t, s, v)
		for _, k := range kmss {
			k.set(hangs)
		}
		for range 3 {
			_, err := s.Seal(t.Context(), []crypto.Value{v})
			if !errors.Is(err, crypto.ErrTooFewCopies) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("seal: %v", err)
			}
		}
		start := time.Now()
		if _, err := s.Seal(t.Context(), []crypto.Value{v}); !errors.Is(err, crypto.ErrTooFewCopies) || !errors.Is(err, crypto.ErrUnreachable) {
			t.Errorf("seal: %v", err)
		}
		if _, _, err := open(t, s, sealed.Message, v); !errors.Is(err, crypto.ErrUnreachable) {
			t.Errorf("open: %v", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
	})
}

// A batch meets an unreachable region with one timeout, not one per value.
func TestBatchCostsOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, kmss := remoteRing(t, 3)
		s := crypto.NewSealer(mustRing(t, c), nil, nil)
		kmss[1].set(hangs)
		values := slices.Repeat([]crypto.Value{boundValue("x")}, 500)
		start := time.Now()
		sealed, err := s.Seal(t.Context(), values)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
		for _, one := range sealed {
			equal(t, "missing", one.Missing, []string{"region-1"})
		}
	})
}

// Replicas of one multi-Region key: one copy that every region opens.
func TestMultiRegion(t *testing.T) {
	kmss := newKMSs(t, 3)
	c := ringConfig(kmss)
	c.Mode, c.MinCopies = crypto.MultiRegion, 3
	var err error
	if c.Regions[0].KeyARN, err = kmss[0].CreateKey(true); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(kmss); i++ {
		if c.Regions[i].KeyARN, err = kmss[i].Replicate(kmss[0], c.Regions[0].KeyARN); err != nil {
			t.Fatal(err)
		}
	}
	r := mustRing(t, c)
	s := crypto.NewSealer(r, nil, nil)
	v := boundValue("x")
	kmss[0].SetFault(localkms.Down, 0) // the copy is region-1's
	sealed := mustSeal(t, s, v)
	equal(t, "present", sealed.Present, []string{"region-0", "region-1", "region-2"})
	equal(t, "missing", sealed.Missing, nil)
	m, err := crypto.Parse(sealed.Message)
	if err != nil {
		t.Fatal(err)
	}
	present, missing := r.Copies(m)
	equal(t, "present", present, sealed.Present)
	equal(t, "missing", missing, nil)
	kmss[0].SetFault(localkms.Up, 0)
	for i := range kmss {
		if region := mustOpen(t, localTo(t, c, regionName(i)), sealed.Message, v); region != regionName(i) {
			t.Errorf("opened by %s", region)
		}
	}
	kmss[2].SetFault(localkms.Down, 0)
	if region := mustOpen(t, localTo(t, c, regionName(2)), sealed.Message, v); region != regionName(0) {
		t.Errorf("opened by %s", region)
	}
	// A region that has left the ring made the copy: its siblings still open it.
	c.Regions, c.MinCopies = []crypto.Region{c.Regions[0], c.Regions[2]}, 2
	mustOpen(t, localTo(t, c, regionName(0)), sealed.Message, v)
	if _, err := localTo(t, c, regionName(0)).Rewrap(t.Context(), sealed.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("a rewrap: %v", err)
	}
}

func TestUnwrapWithoutACopy(t *testing.T) {
	v := boundValue("x")
	sealed := mustSeal(t, crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil), v)
	strangers := crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil)
	if _, _, err := open(t, strangers, sealed.Message, v); !errors.Is(err, crypto.ErrNoCopy) {
		t.Errorf("got %v", err)
	}
}

// Messages that share a data key cost one call, others one each, and every
// caller has a key of its own to wipe.
func TestUnwrapBatch(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	v := boundValue("x")
	v.Policy = crypto.Policy{Reuse: true, MaxMessages: 10, MaxBytes: 1 << 20, MaxAge: time.Hour}
	own := boundValue("x")
	sealed, err := s.Seal(t.Context(), []crypto.Value{v, own, v, own, v})
	if err != nil {
		t.Fatal(err)
	}
	messages := make([]*crypto.Message, len(sealed))
	for i := range sealed {
		if messages[i], err = crypto.Parse(sealed[i].Message); err != nil {
			t.Fatal(err)
		}
	}
	called := kmss[0].calls.Load()
	unwrapped := s.Unwrap(t.Context(), v.Place.Tenant, messages)
	if n := kmss[0].calls.Load() - called; n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
	for i, u := range unwrapped {
		if u.Err != nil || u.Region != "region-0" {
			t.Fatalf("by %q: %v", u.Region, u.Err)
		}
		if _, err := s.Open(u.Key, messages[i], v.Place, v.Token); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		u.Key.Wipe()
	}
	if got := s.Unwrap(t.Context(), v.Place.Tenant, nil); len(got) != 0 {
		t.Error("nothing was unwrapped into something")
	}
}

func TestConcurrentUse(t *testing.T) {
	c, kmss := remoteRing(t, 3)
	c.ProbeEvery = time.Millisecond
	r := mustRing(t, c)
	stop := runRing(t, r)
	s := crypto.NewSealer(r, nil, nil)
	v := boundValue("x")
	v.Policy = crypto.Policy{Reuse: true, MaxMessages: 5, MaxBytes: 1 << 20, MaxAge: time.Hour}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 20 {
				if i == 0 {
					kmss[j%2].set([]func(context.Context, string) error{fails(crypto.ErrUnreachable), fails(crypto.ErrDenied), nil}[j%3])
				}
				sealed, err := s.Seal(t.Context(), []crypto.Value{v, boundValue("y")})
				if err != nil {
					t.Error(err)
					return
				}
				value, _, err := open(t, s, sealed[0].Message, v)
				if err != nil && !errors.Is(err, crypto.ErrDenied) || err == nil && string(value) != "x" {
					t.Errorf("another value, or %v", err)
				}
			}
		})
	}
	wait.Wait()
	stop()
	s.Close()
}
