package kms_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/secret"
	"piivault/internal/sim/kmsserver"
)

// ringTimeout is each call's, so long that a busy machine does not exceed it; a
// test of waiting counts in it.
const ringTimeout = 2 * time.Second

// ringConfig is a ring of both regions of s; here is local.
func ringConfig(tb testing.TB, s *service, mode crypto.Mode) crypto.RingConfig {
	tb.Helper()
	var keys [2]string
	if mode == crypto.MultiRegion {
		keys[0], keys[1] = s.replicated(tb)
	} else {
		keys[0], keys[1] = s.key(tb, kmsserver.KeySpec{Region: here}), s.key(tb, kmsserver.KeySpec{Region: there})
	}
	c := crypto.RingConfig{Local: here, Mode: mode, Epoch: 1}
	for i, name := range []string{here, there} {
		c.Regions = append(c.Regions, crypto.Region{Name: name, KMS: client(tb, name, s.url), KeyARN: keys[i], Timeout: ringTimeout})
	}
	return c
}

func ring(tb testing.TB, c crypto.RingConfig, local string) (*crypto.Ring, *crypto.Sealer) {
	tb.Helper()
	c.Local = local
	r, err := crypto.NewRing(c)
	if err != nil {
		tb.Fatal(err)
	}
	return r, crypto.NewSealer(r, nil, nil)
}

func value(text string) crypto.Value {
	return crypto.Value{
		Place: crypto.Place{
			Tenant: "tn_1", Record: "cmVjb3JkLWlkLW9mLWZvcnR5LXRocmVlLWNoYXJhY3RlcnM", Type: "email",
			Subject: "c3ViamVjdA", Created: 1_700_000_000_000,
		},
		Plaintext: secret.NewPlaintext([]byte(text)),
		Token:     secret.NewText("tok_test_email_euw1_0123456789abcdefghijklmnopqrstuv"),
	}
}

func seal(tb testing.TB, s *crypto.Sealer, values ...crypto.Value) []crypto.Sealed {
	tb.Helper()
	sealed, err := s.Seal(tb.Context(), values)
	if err != nil {
		tb.Fatal(err)
	}
	return sealed
}

// opens checks that a message opens, and says which region's KMS did it.
func opens(tb testing.TB, s *crypto.Sealer, message []byte, v crypto.Value) string {
	tb.Helper()
	m, err := crypto.Parse(message)
	if err != nil {
		tb.Fatal(err)
	}
	u := s.Unwrap(tb.Context(), v.Place.Tenant, []*crypto.Message{m})[0]
	if u.Err != nil {
		tb.Fatal(u.Err)
	}
	defer u.Key.Wipe()
	opened, err := s.Open(u.Key, m, v.Place, v.Token)
	if err != nil || !bytes.Equal(opened.Bytes(), v.Plaintext.Bytes()) {
		tb.Fatalf("another value: %v", err)
	}
	return u.Region
}

func wantMissing(tb testing.TB, sealed []crypto.Sealed, want ...string) {
	tb.Helper()
	for _, one := range sealed {
		if !slices.Equal(one.Missing, want) {
			tb.Errorf("missing %v, want %v", one.Missing, want)
		}
	}
}

// G2: with either region's KMS failing in any way, a seal works and says what
// is missing, and each region opens what has a copy for it or for the other.
func TestRingGoesRoundFaults(t *testing.T) {
	for _, mode := range []kmsserver.Mode{kmsserver.Down, kmsserver.Hang, kmsserver.Throttle, kmsserver.Broken, kmsserver.Slow, kmsserver.Late} {
		for _, out := range []string{here, there} {
			t.Run(string(mode)+"/"+out, func(t *testing.T) {
				t.Parallel()
				goesRound(t, mode, out)
			})
		}
	}
}

func goesRound(t *testing.T, mode kmsserver.Mode, out string) {
	t.Helper()
	v := value("jane@example.com")
	s := newService(t)
	c := ringConfig(t, s, crypto.Copies)
	r, sealer := ring(t, c, here)
	full := seal(t, sealer, v)
	wantMissing(t, full)
	s.set(t, kmsserver.Fault{Region: out, Mode: mode})
	degraded := seal(t, sealer, v)
	wantMissing(t, degraded, out)
	for _, local := range []string{here, there} {
		_, opener := ring(t, c, local)
		by := opens(t, opener, degraded[0].Message, v)
		if by != other(out) {
			t.Errorf("in %s: a degraded record was opened by %s", local, by)
		}
		if by = opens(t, opener, full[0].Message, v); by != other(out) && local == out {
			t.Errorf("in %s: a full record was opened by %s", local, by)
		}
	}
	s.set(t, kmsserver.Fault{Region: out, Mode: kmsserver.Up})
	r.Probe(t.Context())
	wantMissing(t, seal(t, sealer, v))
	_, opener := ring(t, c, out)
	if by := opens(t, opener, full[0].Message, v); by != out {
		t.Errorf("it is over: opened by %s", by)
	}
}

func other(region string) string {
	if region == here {
		return there
	}
	return here
}

// A region that hangs costs one timeout, however many wait for it, and nobody
// waits once its breaker is open; probes find it again.
func TestHangCostsOneTimeout(t *testing.T) {
	for _, out := range []string{here, there} {
		s := newService(t)
		r, sealer := ring(t, ringConfig(t, s, crypto.Copies), here)
		v := value("x")
		seal(t, sealer, v)
		s.set(t, kmsserver.Fault{Region: out, Mode: kmsserver.Hang})

		start := time.Now()
		wantMissing(t, seal(t, sealer, slices.Repeat([]crypto.Value{v}, 20)...), out)
		if waited := time.Since(start); waited < ringTimeout || waited > 4*ringTimeout {
			t.Errorf("%s: a batch waited %v, the timeout is %v", out, waited, ringTimeout)
		}
		asked, start := s.total(out), time.Now()
		for range 10 {
			wantMissing(t, seal(t, sealer, v), out)
		}
		if waited := time.Since(start); waited > 4*ringTimeout {
			t.Errorf("%s: ten seals with the breaker open waited %v", out, waited)
		}
		if n := s.total(out) - asked; n != 0 {
			t.Errorf("%s: %d requests past an open breaker", out, n)
		}
		if states := health(r); states[out] != crypto.Down || states[other(out)] != crypto.Up {
			t.Errorf("states %v", states)
		}
		s.set(t, kmsserver.Fault{Region: out, Mode: kmsserver.Up})
		r.Probe(t.Context())
		wantMissing(t, seal(t, sealer, v))
	}
}

func health(r *crypto.Ring) map[string]crypto.State {
	states := make(map[string]crypto.State)
	for _, h := range r.Health() {
		states[h.Name] = h.State
	}
	return states
}

// A key that is disabled, or that the caller is denied, is a decision: it
// opens no breaker, and a reveal is not routed around the local one.
func TestDecisionsAreNotFaults(t *testing.T) {
	v := value("x")
	for name, test := range map[string]struct {
		decide func(s *service, keyARN string) error
		want   error
	}{
		"denied": {func(s *service, _ string) error {
			return s.SetFault(kmsserver.Fault{Region: here, Mode: kmsserver.Deny})
		}, crypto.ErrDenied},
		"disabled":         {func(s *service, arn string) error { return s.SetEnabled(arn, false) }, crypto.ErrDisabled},
		"pending deletion": {func(s *service, arn string) error { return s.ScheduleDeletion(arn, 7*24*time.Hour) }, crypto.ErrDisabled},
	} {
		s := newService(t)
		c := ringConfig(t, s, crypto.Copies)
		r, sealer := ring(t, c, here)
		before := seal(t, sealer, v)
		check(t, test.decide(s, c.Regions[0].KeyARN))
		wantMissing(t, seal(t, sealer, v), here)
		m, err := crypto.Parse(before[0].Message)
		check(t, err)
		if u := sealer.Unwrap(t.Context(), v.Place.Tenant, []*crypto.Message{m})[0]; !errors.Is(u.Err, test.want) {
			t.Errorf("%s: %v", name, u.Err)
		}
		if states := health(r); states[here] != crypto.Denied {
			t.Errorf("%s: states %v", name, states)
		}
		_, elsewhere := ring(t, c, there)
		if by := opens(t, elsewhere, before[0].Message, v); by != there {
			t.Errorf("%s: the other region opened by %s", name, by)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Replicas of one multi-Region key: one copy, which each region opens with its
// own replica, whichever of them made it.
func TestReplicasOpenOneCopy(t *testing.T) {
	s := newService(t)
	c := ringConfig(t, s, crypto.MultiRegion)
	c.MinCopies = 2
	v := value("x")
	for _, maker := range []string{here, there} {
		_, sealer := ring(t, c, maker)
		sealed := seal(t, sealer, v)
		if !slices.Equal(sealed[0].Present, []string{here, there}) || sealed[0].Missing != nil {
			t.Errorf("present %v, missing %v", sealed[0].Present, sealed[0].Missing)
		}
		for _, local := range []string{here, there} {
			_, opener := ring(t, c, local)
			if by := opens(t, opener, sealed[0].Message, v); by != local {
				t.Errorf("made in %s, opened in %s by %s", maker, local, by)
			}
			s.set(t, kmsserver.Fault{Region: local, Mode: kmsserver.Down})
			if by := opens(t, opener, sealed[0].Message, v); by != other(local) {
				t.Errorf("%s is down: opened by %s", local, by)
			}
			s.set(t, kmsserver.Fault{Region: local, Mode: kmsserver.Up})
		}
	}
	if n := s.Calls(here)["Encrypt"] + s.Calls(there)["Encrypt"]; n != 0 {
		t.Errorf("%d copies beside the one", n)
	}
}

// Calls are those of the design: one to make a key, one for each other copy, one to open.
func TestCallsPerField(t *testing.T) {
	s := newService(t)
	_, sealer := ring(t, ringConfig(t, s, crypto.Copies), here)
	v := value("x")
	sealed := seal(t, sealer, v)
	opens(t, sealer, sealed[0].Message, v)
	if n := s.Calls(here); n["GenerateDataKey"] != 1 || n["Decrypt"] != 1 || len(n) != 2 {
		t.Errorf("here: %v", n)
	}
	if n := s.Calls(there); n["Encrypt"] != 1 || len(n) != 1 {
		t.Errorf("there: %v", n)
	}
}

// Probes are bounded by the ring's timeout too.
func TestProbeOfAHangingRegion(t *testing.T) {
	s := newService(t)
	r, _ := ring(t, ringConfig(t, s, crypto.Copies), here)
	s.set(t, kmsserver.Fault{Region: there, Mode: kmsserver.Hang})
	start := time.Now()
	r.Probe(context.WithoutCancel(t.Context()))
	if waited := time.Since(start); waited > 4*ringTimeout {
		t.Errorf("a probe waited %v", waited)
	}
	if states := health(r); states[there] != crypto.Down || states[here] != crypto.Up {
		t.Errorf("states %v", states)
	}
}
