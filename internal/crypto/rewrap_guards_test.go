package crypto_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

// lacking is a sealer of two regions and a message without region-1's copy.
func lacking(t *testing.T, c crypto.RingConfig, kmss []*remoteKMS) []byte {
	t.Helper()
	kmss[1].set(fails(crypto.ErrThrottled))
	defer kmss[1].set(nil)
	return mustSeal(t, crypto.NewSealer(mustRing(t, c), nil, nil), boundValue("x")).Message
}

// What needs no copy costs no call.
func TestRewrapOfACompleteMessageAsksNobody(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	sealed := mustSeal(t, s, boundValue("x"))
	before := kmss[0].calls.Load() + kmss[1].calls.Load()
	if _, err := s.Rewrap(t.Context(), sealed.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("got %v", err)
	}
	if n := kmss[0].calls.Load() + kmss[1].calls.Load() - before; n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A missing copy costs a call to open one, and one to make it, whether that
// succeeds or not.
func TestRewrapCosts(t *testing.T) {
	for _, throttled := range []bool{false, true} {
		c, kmss := remoteRing(t, 3)
		message := lacking(t, c, kmss)
		if throttled {
			kmss[1].set(fails(crypto.ErrThrottled))
		}
		before := [3]int32{kmss[0].calls.Load(), kmss[1].calls.Load(), kmss[2].calls.Load()}
		if _, err := crypto.NewSealer(mustRing(t, c), nil, nil).Rewrap(t.Context(), message); (err == nil) == throttled {
			t.Error(err)
		}
		for i, want := range []int32{1, 1, 0} {
			if n := kmss[i].calls.Load() - before[i]; n != want {
				t.Errorf("throttled %v: %d calls of region %d, want %d", throttled, n, i, want)
			}
		}
	}
}

// G3: the one copy of a multi-Region ring is made by the next region where the
// first cannot make it.
func TestRewrapToMultiRegionByAnotherRegion(t *testing.T) {
	kmss := newKMSs(t, 2)
	c := ringConfig(kmss)
	v := boundValue("x")
	message := mustSeal(t, localTo(t, c, regionName(0)), v).Message
	primary, err := kmss[0].CreateKey(true)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := kmss[1].Replicate(kmss[0], primary)
	if err != nil {
		t.Fatal(err)
	}
	c.Mode = crypto.MultiRegion
	for i, arn := range []string{primary, replica} {
		c.Regions[i].Former, c.Regions[i].KeyARN = []string{c.Regions[i].KeyARN}, arn
	}
	kmss[0].SetFault(localkms.Down, 0)
	again, err := localTo(t, c, regionName(0)).Rewrap(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "missing", again.Missing, nil)
	kmss[0].SetFault(localkms.Up, 0)
	for i := range kmss {
		if region := mustOpen(t, localTo(t, c, regionName(i)), again.Message, v); region != regionName(i) {
			t.Errorf("opened by %s", region)
		}
	}
}

// What a region's former key answers says nothing of its present one; that the
// region cannot be reached is so for both.
func TestFormerKeys(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	v := boundValue("x")
	message := mustSeal(t, crypto.NewSealer(mustRing(t, c), nil, nil), v).Message
	former := c.Regions[0].KeyARN
	present, err := kmss[0].CreateKey(false)
	if err != nil {
		t.Fatal(err)
	}
	c.Regions[0].Former, c.Regions[0].KeyARN = []string{former}, present
	disabled := func(arn string, is bool) {
		if err := kmss[0].SetDisabled(arn, is); err != nil {
			t.Fatal(err)
		}
	}

	r := mustRing(t, c)
	s := crypto.NewSealer(r, nil, nil)
	disabled(former, true)
	if _, _, err := open(t, s, message, v); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("by a former key that refuses: %v", err)
	}
	equal(t, "the former refuses", states(r), []string{"up", "up"})
	disabled(former, false)
	disabled(present, true)
	r.Probe(t.Context())
	equal(t, "the present refuses", states(r), []string{"denied", "up"})
	if region := mustOpen(t, s, message, v); region != regionName(0) {
		t.Errorf("opened by %s", region)
	}
	equal(t, "the former opened", states(r), []string{"denied", "up"})
	disabled(present, false)
	r.Probe(t.Context())
	kmss[0].set(fails(crypto.ErrThrottled))
	if region := mustOpen(t, s, message, v); region != regionName(1) {
		t.Errorf("opened by %s", region)
	}
	equal(t, "throttled", states(r), []string{"up", "up"})
	kmss[0].set(fails(crypto.ErrUnreachable))
	mustOpen(t, s, message, v)
	equal(t, "unreachable", states(r), []string{"down", "up"})
}

// A probe asks for the ring's key and for one tenant's in turn, and for some of
// those that refuse, however many there are; of a region that is out, for no more.
func TestAProbeAsksForSome(t *testing.T) {
	const tenants = 20
	c, kmss := remoteRing(t, 1)
	var arns []string
	for i := range tenants {
		arns = append(arns, own(t, &c, locals(kmss), fmt.Sprintf("tn_%d", i))...)
	}
	r := mustRing(t, c)
	checks := 0
	var answer error
	kmss[0].set(func(_ context.Context, op string) error {
		if op == "check" {
			checks++
		}
		return answer
	})
	probe := func() int {
		checks = 0
		r.Probe(t.Context())
		return checks
	}
	if n := probe(); n != 2 {
		t.Errorf("%d keys are asked for", n)
	}
	disable(t, locals(kmss), true, arns...)
	for range tenants {
		probe()
	}
	if n := probe(); n < 9 || n > 10 {
		t.Errorf("%d keys are asked for, and all refuse", n)
	}
	answer = crypto.ErrUnreachable
	if n := probe(); n != 1 {
		t.Errorf("%d keys are asked for in a region that is out", n)
	}
}

// A caller that gives up while copies are made gets its own error: that a copy
// is missing then says nothing of the region.
func TestRewrapGivenUp(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	ctx, cancel := context.WithCancel(t.Context())
	kmss[1].set(func(ctx context.Context, op string) error {
		if op != "encrypt" {
			return nil
		}
		cancel()
		return ctx.Err()
	})
	if _, err := crypto.NewSealer(mustRing(t, c), nil, nil).Rewrap(ctx, message); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// spent has no randomness left.
type spent struct{}

func (spent) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// G8: without randomness there is no fresh message id, and so no message.
func TestRewrapWithoutRandomness(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	sealed, err := crypto.NewSealer(mustRing(t, c), nil, spent{}).Rewrap(t.Context(), message)
	if err == nil || sealed.Message != nil {
		t.Errorf("rewrapped: %v", err)
	}
}

// swollen makes copies that no message has room for.
type swollen struct{ *remoteKMS }

func (k swollen) Encrypt(context.Context, string, secret.Key, map[string]string) ([]byte, error) {
	return make([]byte, 1<<16), nil
}

// A copy of an impossible size makes no message.
func TestRewrapOfAnImpossibleCopy(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	c.Regions[1].KMS = swollen{kmss[1]}
	sealed, err := crypto.NewSealer(mustRing(t, c), nil, nil).Rewrap(t.Context(), message)
	if err == nil || errors.Is(err, crypto.ErrNothingToAdd) || sealed.Message != nil {
		t.Errorf("rewrapped: %v", err)
	}
}
