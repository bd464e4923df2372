package simulation

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/crypto"
)

// mode is how an endpoint behaves.
type mode string

// The modes. Of all but up and slow, clients may be told that it cannot be done now.
const (
	up       mode = "up"
	hangs    mode = "hangs"    // answers nobody
	refuses  mode = "refuses"  // fails at once
	flaps    mode = "flaps"    // any of up and refuses, call by call; of writes, "failed but applied"
	throttle mode = "throttle" // is asked too often
	denied   mode = "denied"   // KMS: somebody's decision
	disabled mode = "disabled" // KMS: another
	slow     mode = "slow"     // KMS: later than the ring waits
)

// endpoint is one service of one region.
type endpoint struct {
	region *region
	kms    bool
	mode   mode
	since  time.Time // of the mode
	stands bool      // a denial does, until everybody has seen the endpoint up
}

func (e *endpoint) String() string { return e.region.name + " " + e.kind() }

func (e *endpoint) kind() string {
	if e.kms {
		return "kms"
	}
	return "tables"
}

// modesOf are the faults that an endpoint can have.
func (e *endpoint) faults() []mode {
	if e.kms {
		return []mode{hangs, refuses, flaps, throttle, denied, disabled, slow}
	}
	return []mode{hangs, refuses, flaps, flaps, throttle}
}

// verdict is what becomes of a call now.
type verdict int

const (
	answered verdict = iota
	unanswered
	failed         // not applied
	failedApplied  // applied, and nobody heard
	failedInPart   // a batch of which some was applied
	refusedThrottl // not applied, and said so
	refusedDenied
	refusedDisabled
)

func (v verdict) String() string {
	return [...]string{"ok", "-", "failed", "failed but applied", "failed, applied in part", "throttled", "denied", "disabled"}[v]
}

// judge draws what becomes of a call that is looked at now.
func (w *World) judge(c *call) verdict {
	if c.to == nil {
		return answered
	}
	m := c.to.mode
	if w.cut(c.from.region, c.to.region) {
		m = hangs
		if w.partitionRefuses {
			m = refuses
		}
	}
	switch m {
	case up:
	case hangs:
		return unanswered
	case refuses:
		return failed
	case throttle:
		return refusedThrottl
	case denied:
		return refusedDenied
	case disabled:
		return refusedDisabled
	case slow:
		if time.Since(c.born) < 1500*time.Millisecond {
			return unanswered
		}
	case flaps:
		switch n := w.random.IntN(8); {
		case n == 0:
			return failed
		case n == 1 && c.write:
			return failedApplied
		case n == 2 && c.write:
			return failedInPart
		case n == 3:
			return refusedThrottl
		}
	}
	return answered
}

// healthy reports that a call will be answered promptly.
func (w *World) healthy(c *call) bool {
	return c.to == nil || c.to.mode == up && !w.cut(c.from.region, c.to.region)
}

// failure is the error of a verdict, in the endpoint's own words.
func (c *call) failure(v verdict) error {
	switch {
	case v == refusedDenied:
		return crypto.ErrDenied
	case v == refusedDisabled:
		return crypto.ErrDisabled
	case v == refusedThrottl && c.to.kms:
		return crypto.ErrThrottled
	case v == refusedThrottl:
		return &types.ProvisionedThroughputExceededException{}
	case c.to != nil && c.to.kms:
		return crypto.ErrUnreachable
	default:
		return errNoReply
	}
}

// conclude applies a verdict.
func (w *World) conclude(c *call, v verdict) {
	if v == unanswered {
		return
	}
	err := w.apply(c, v)
	note := ""
	if c.orphan.Load() {
		note = " (late)"
	}
	if v == answered && err != nil {
		note += " (" + brief(err) + ")"
	}
	w.tracef("%s: %s%s", w.short(c.name), v, note)
	w.finish(c, err)
	for _, other := range w.waiting() {
		if other.twin(c) {
			w.finish(other, w.apply(other, v))
		}
	}
}

// twin reports a read that cannot be told from another by the same caller: of
// two messages of a batch that share a key copy. What becomes of one becomes of
// both, since which is which would be nobody's choice.
func (c *call) twin(other *call) bool {
	return !c.write && c.to != nil && c.name == other.name && c.step == other.step
}

func (w *World) apply(c *call, v verdict) error {
	switch v {
	case answered:
		return c.do(whole)
	case failedApplied:
		_ = c.do(whole)
	case failedInPart:
		_ = c.do(func(int) bool { return w.oneIn(2) })
	case unanswered, failed, refusedThrottl, refusedDenied, refusedDisabled:
	}
	return c.failure(v)
}
