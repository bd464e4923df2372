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
	// flapWindow: a breaker that opens again so soon after a probe has closed
	// it stays open for twice as many good probes as the last time, at most
	// maxTrials.
	flapWindow = time.Minute
	maxTrials  = 16
)

// site is a region's KMS with its circuit breaker, which the default keys and
// all tenants' own share: what cannot be reached is out for all of them.
//
// The breaker is our own: gobreaker's half-open state lets client traffic try
// an open breaker when a timer says so, and nothing but such traffic closes
// it, while here the first fault opens it, probes alone close it, and nobody
// who waits for an answer is ever the one to try. A region that is back for a
// moment and gone again costs its clients a timeout each time, so closing is
// damped: see flapWindow.
type site struct {
	name    string
	kms     KMS
	timeout time.Duration
	rank    int // position in the ring's order, the local region's being 0
	now     func() time.Time
	changed func(g *region, t transition) // called after each, without the lock

	first   *region   // the default key here
	tenants []*region // tenants' keys here, in the order of their ids

	down atomic.Bool   // the breaker is open; written under mu
	turn atomic.Uint32 // how often it opened or closed; written under mu

	mu     sync.Mutex // guards what follows, and each region's verdict
	since  time.Time  // when the breaker last opened or closed
	closed time.Time  // when it last closed; zero: never
	trials int        // good probes in a row that will close it
	good   int        // such probes so far
	next   int        // which of tenants the next probe asks
}

// region is a keyset's key at a site. That the key refuses is its own matter,
// and says nothing of the site nor of other keys there.
type region struct {
	*site
	of      *Keyset
	key     keyARN
	former  []keyARN
	denied  atomic.Bool // written under mu
	decided time.Time   // when that began or ended
}

// transition is what one outcome changed of a region's state.
type transition struct {
	from, to State
	decided  bool // a denial began or ended, reachable or not
	closed   bool // the site's breaker did
}

func (g *region) state() State {
	switch {
	case g.down.Load():
		return Down
	case g.denied.Load():
		return Denied
	default:
		return Up
	}
}

// healthy: neither open nor denied.
func (g *region) healthy() bool { return !g.down.Load() && !g.denied.Load() }

func (g *region) health() RegionHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := RegionHealth{Name: g.name, State: g.state(), Since: g.since}
	if h.State != Down && g.decided.After(h.Since) {
		h.Since = g.decided
	}
	return h
}

// available reports that a call may be tried. A denied region is: it answers
// at once, and its answer tells when the denial is lifted.
func (g *region) available() bool { return !g.down.Load() }

// refuses reports a denial that nothing has lifted yet, reachable or not.
func (g *region) refuses() bool { return g.denied.Load() }

// recovering reports an open breaker that the last probe found no reason for:
// nobody's first choice, but better than to refuse.
func (g *region) recovering() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down.Load() && g.good > 0
}

// note learns from the outcome of a call that was begun in the given turn of
// the breaker: of the key, whether it refuses; of the site, whether it can be
// reached. Probes alone close an open breaker. What was begun in an earlier
// turn says nothing of this one's reachability: a call that times out after a
// probe has closed the breaker does not open it again.
func (g *region) note(err error, turn uint32, probe bool) {
	if err == nil && g.healthy() {
		return
	}
	g.mu.Lock()
	own, shared := transition{from: g.state()}, transition{from: g.first.state()}
	answered := err == nil || isDenial(err)
	if answered && g.denied.Load() != (err != nil) {
		own.decided = true
		g.denied.Store(err != nil)
		g.decided = g.now()
	}
	if turn == g.turn.Load() {
		switch {
		case errors.Is(err, ErrUnreachable):
			g.openLocked()
		case probe && g.down.Load():
			shared.closed = g.triedLocked(answered)
		}
	}
	own.to, shared.to = g.state(), g.first.state()
	g.mu.Unlock()
	if g == g.first {
		shared.decided = own.decided
	} else if own.decided {
		g.changed(g, own)
	}
	if shared.decided || shared.closed || shared.from != shared.to {
		g.changed(g.first, shared)
	}
}

// openLocked opens the breaker, or starts its trials anew.
func (s *site) openLocked() {
	s.good = 0
	if s.down.Load() {
		return
	}
	s.down.Store(true)
	s.turn.Add(1)
	s.since = s.now()
	if s.since.Sub(s.closed) < flapWindow {
		s.trials = min(2*s.trials, maxTrials)
	} else {
		s.trials = 1
	}
}

// triedLocked counts a probe of an open breaker, and closes it after enough good ones.
func (s *site) triedLocked(answered bool) (closed bool) {
	if !answered { // throttled
		s.good = 0
		return false
	}
	if s.good++; s.good < s.trials {
		return false
	}
	s.down.Store(false)
	s.turn.Add(1)
	s.since = s.now()
	s.closed = s.since
	return true
}

func isDenial(err error) bool { return errors.Is(err, ErrDenied) || errors.Is(err, ErrDisabled) }

// dataKeyPair is what GenerateDataKey returns.
type dataKeyPair struct {
	key        secret.Key
	ciphertext []byte
}

func (g *region) generate(ctx context.Context, ec map[string]string, probe bool) (dataKeyPair, error) {
	return invoke(ctx, g, probe, func(ctx context.Context) (dataKeyPair, error) {
		key, ciphertext, err := g.kms.GenerateDataKey(ctx, g.key.text, ec)
		return dataKeyPair{key, ciphertext}, err
	})
}

func (g *region) encrypt(ctx context.Context, key secret.Key, ec map[string]string) ([]byte, error) {
	return invoke(ctx, g, false, func(ctx context.Context) ([]byte, error) {
		return g.kms.Encrypt(ctx, g.key.text, key, ec)
	})
}

// decrypt opens a copy under the present key or a former one, which says
// nothing of whether the present one refuses.
func (g *region) decrypt(ctx context.Context, c keyCopy, ec map[string]string, probe bool) (secret.Key, error) {
	turn, former := g.turn.Load(), c.arn != g.key.text
	key, err := invoke(ctx, g, probe || former, func(ctx context.Context) (secret.Key, error) {
		return g.kms.Decrypt(ctx, c.arn, c.ciphertext, ec)
	})
	if former && errors.Is(err, ErrUnreachable) {
		g.note(err, turn, false)
	}
	return key, err
}

func (g *region) check(ctx context.Context) error {
	_, err := invoke(ctx, g, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.kms.Check(ctx, g.key.text)
	})
	return err
}

// prompt reports that the site's KMS waits for nothing at present.
func (s *site) prompt() bool {
	p, ok := s.kms.(Prompt)
	return ok && p.Prompt()
}

// invoke makes one call within the region's timeout and notes the outcome,
// unless it is a probe's, which is noted as a whole; a caller that gave up
// says nothing of the region.
func invoke[T any](ctx context.Context, g *region, probe bool, do func(context.Context) (T, error)) (v T, err error) {
	if ctx.Err() != nil {
		return v, classify(ctx, nil)
	}
	turn := g.turn.Load()
	if g.prompt() {
		v, err = do(ctx)
	} else {
		limited, cancel := context.WithTimeout(ctx, g.timeout)
		v, err = do(limited)
		cancel()
	}
	if err != nil {
		err = classify(ctx, err)
	}
	if !probe {
		g.note(err, turn, false)
	}
	return v, err
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
