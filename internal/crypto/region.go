package crypto

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"piivault/internal/secret"
)

// State is how a region's KMS is known to be.
type State string

// The states of a region's KMS.
const (
	Up     State = "up"
	Down   State = "down"   // its breaker is open: only probes try it
	Denied State = "denied" // it answers, and refuses the key
)

const (
	defaultTimeout = time.Second
	// maxAbandoned bounds the calls that a KMS keeps after their timeout; at
	// the bound the region is left alone until some of them end.
	maxAbandoned = 64
	// flapWindow: a breaker that opens again so soon after a probe has closed
	// it stays open for twice as many good probes as the last time, at most
	// maxTrials.
	flapWindow = time.Minute
	maxTrials  = 16
)

// region is one member of the ring with its circuit breaker.
//
// The breaker is our own: gobreaker's half-open state lets client traffic try
// an open breaker when a timer says so, and nothing but such traffic closes
// it, while here the first fault opens it, probes alone close it, and nobody
// who waits for an answer is ever the one to try. A region that is back for a
// moment and gone again costs its clients a timeout each time, so closing is
// damped: see flapWindow.
type region struct {
	name    string
	kms     KMS
	key     keyARN
	former  []keyARN
	timeout time.Duration
	rank    int // position in the ring's order, the local region's being 0
	now     func() time.Time
	changed func(g *region, t transition) // called after each, without the lock

	abandoned atomic.Int32
	healthy   atomic.Bool   // neither open nor denied: the hot path's copy of the fields below
	turn      atomic.Uint32 // how often the breaker opened or closed; written under mu

	mu     sync.Mutex // guards what follows
	open   bool
	denied bool
	since  time.Time // when the state began
	closed time.Time // when the breaker last closed; zero: never
	trials int       // good probes in a row that will close it
	good   int       // such probes so far
}

// transition is what one outcome changed of a region's state.
type transition struct {
	from, to State
	decided  bool // a denial began or ended, reachable or not
}

func (g *region) stateLocked() State {
	switch {
	case g.open:
		return Down
	case g.denied:
		return Denied
	default:
		return Up
	}
}

func (g *region) health() RegionHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	return RegionHealth{Name: g.name, State: g.stateLocked(), Since: g.since}
}

// available reports that a call may be tried. A denied region is: it answers
// at once, and its answer tells when the denial is lifted.
func (g *region) available() bool {
	if g.abandoned.Load() >= maxAbandoned {
		return false
	}
	return g.healthy.Load() || g.health().State != Down
}

// refuses reports a denial that nothing has lifted yet, reachable or not.
func (g *region) refuses() bool {
	if g.healthy.Load() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.denied
}

// recovering reports an open breaker that the last probe found no reason for:
// nobody's first choice, but better than to refuse.
func (g *region) recovering() bool {
	if g.abandoned.Load() >= maxAbandoned {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open && g.good > 0
}

// note learns from the outcome of a call that was begun in the given turn of
// the breaker. Probes alone close an open breaker. What was begun in an
// earlier turn says nothing of this one's reachability: a call that times out
// after a probe has closed the breaker does not open it again.
func (g *region) note(err error, turn uint32, probe bool) {
	if err == nil && g.healthy.Load() {
		return
	}
	g.mu.Lock()
	t := transition{from: g.stateLocked()}
	answered := err == nil || isDenial(err)
	if answered {
		t.decided = g.denied != (err != nil)
		g.denied = err != nil
	}
	if turn == g.turn.Load() {
		switch {
		case errors.Is(err, ErrUnreachable):
			g.openLocked()
		case probe && g.open:
			g.triedLocked(answered)
		}
	}
	t.to = g.stateLocked()
	g.healthy.Store(t.to == Up)
	if t.from != t.to {
		g.since = g.now()
	}
	g.mu.Unlock()
	if t.decided || t.from != t.to {
		g.changed(g, t)
	}
}

// openLocked opens the breaker, or starts its trials anew.
func (g *region) openLocked() {
	g.good = 0
	if g.open {
		return
	}
	g.open = true
	g.turn.Add(1)
	if g.now().Sub(g.closed) < flapWindow {
		g.trials = min(2*g.trials, maxTrials)
	} else {
		g.trials = 1
	}
}

// triedLocked counts a probe of an open breaker, and closes it after enough good ones.
func (g *region) triedLocked(answered bool) {
	if !answered { // throttled
		g.good = 0
		return
	}
	if g.good++; g.good < g.trials {
		return
	}
	g.open, g.closed = false, g.now()
	g.turn.Add(1)
}

func isDenial(err error) bool { return errors.Is(err, ErrDenied) || errors.Is(err, ErrDisabled) }

// dataKeyPair is what GenerateDataKey returns.
type dataKeyPair struct {
	key        secret.Key
	ciphertext []byte
}

func (g *region) generate(ctx context.Context, ec map[string]string, probe bool) (dataKeyPair, error) {
	return invoke(ctx, g.newCall(probe), func(ctx context.Context) (dataKeyPair, error) {
		key, ciphertext, err := g.kms.GenerateDataKey(ctx, g.key.text, ec)
		return dataKeyPair{key, ciphertext}, err
	}, func(p dataKeyPair) { p.key.Wipe() })
}

func (g *region) encrypt(ctx context.Context, key secret.Key, ec map[string]string) ([]byte, error) {
	c := g.newCall(false)
	if !c.inline {
		// The call may outlive the caller's patience, and then the caller's key.
		own := key.Clone()
		return invoke(ctx, c, func(ctx context.Context) ([]byte, error) {
			defer own.Wipe()
			return g.kms.Encrypt(ctx, g.key.text, own, ec)
		}, func([]byte) {})
	}
	return invoke(ctx, c, func(ctx context.Context) ([]byte, error) {
		return g.kms.Encrypt(ctx, g.key.text, key, ec)
	}, nil)
}

func (g *region) decrypt(ctx context.Context, c keyCopy, ec map[string]string, probe bool) (secret.Key, error) {
	return invoke(ctx, g.newCall(probe), func(ctx context.Context) (secret.Key, error) {
		return g.kms.Decrypt(ctx, c.arn, c.ciphertext, ec)
	}, secret.Key.Wipe)
}

func (g *region) check(ctx context.Context) error {
	_, err := invoke(ctx, g.newCall(true), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.kms.Check(ctx, g.key.text)
	}, func(struct{}) {})
	return err
}

// call is how one call is made: in line or awaited, decided once.
type call struct {
	*region
	inline bool
	probe  bool   // noted as a whole, by the probe
	turn   uint32 // of the breaker when it was begun
}

func (g *region) newCall(probe bool) call {
	p, ok := g.kms.(Prompt)
	return call{g, ok && p.Prompt(), probe, g.turn.Load()}
}

// invoke makes one call within the region's timeout, even if the KMS ignores
// its context, and notes the outcome; a caller that gave up says nothing of
// the region. The result of a call that nobody waits for any more goes to discard.
func invoke[T any](ctx context.Context, c call, do func(context.Context) (T, error), discard func(T)) (v T, err error) {
	if ctx.Err() != nil {
		return v, classify(ctx, nil)
	}
	if c.inline {
		v, err = do(ctx)
	} else {
		v, err = await(ctx, c.region, do, discard)
	}
	if err != nil {
		err = classify(ctx, err)
	}
	if !c.probe {
		c.note(err, c.turn, false)
	}
	return v, err
}

// The life of an awaited call.
const (
	callRunning = iota
	callDone
	callAbandoned
)

// await runs do on a goroutine of its own and waits for the timeout at most.
// What is left running then is bounded by maxAbandoned and ends when the KMS
// keeps its promise to return soon after its context is done.
func await[T any](ctx context.Context, g *region, do func(context.Context) (T, error), discard func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	var state atomic.Int32
	done := make(chan result, 1)
	go func() {
		v, err := do(ctx)
		if state.CompareAndSwap(callRunning, callDone) {
			done <- result{v, err}
			return
		}
		discard(v)
		g.abandoned.Add(-1)
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	}
	g.abandoned.Add(1)
	if state.CompareAndSwap(callRunning, callAbandoned) {
		var none T
		return none, ctx.Err()
	}
	g.abandoned.Add(-1)
	r := <-done
	return r.v, r.err
}

// classify makes every error wrap one sentinel, or the caller's own context error.
func classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("crypto: kms call: %w", ctx.Err())
	}
	for _, known := range []error{ErrUnreachable, ErrThrottled, ErrDenied, ErrDisabled, ErrInvalidCiphertext} {
		if errors.Is(err, known) {
			return err
		}
	}
	// The timeout was the ring's: it must not read as the caller's.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: timeout", ErrUnreachable)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
