package authz

import (
	"context"
	"time"
)

// lease is what this instance holds of a counter's window.
type lease struct {
	counter Counter
	kind    BudgetKind
	limit   int64 // all regions'
	shares  *shares

	// lock guards the rest, also while the counter is asked: a channel, so that
	// waiting for it ends with the context.
	lock   chan struct{}
	window int64
	until  time.Time // when the window ends, by cfg.Now
	units  int64     // held
	left   int64     // in the counter, when last asked; before, at most
	// known are subjects that the window has counted.
	known map[string]struct{}
}

func (l *lease) acquire(ctx context.Context) error {
	select {
	case l.lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lease) release() { <-l.lock }

// turn drops what belonged to a window that has ended: late units would not
// exceed any window's limit, but two windows' units would meet in one hour.
func (l *lease) turn(now time.Time) {
	if now.Before(l.until) {
		return
	}
	l.units, l.left = 0, l.limit // asked for even where this region has no part, to know until when
	clear(l.known)
}

// take gives up to n units: held ones, and where these are too few, a chunk
// of the counter's. They are of the window that it tells.
func (l *lease) take(ctx context.Context, c Counters, now time.Time, n int64) (got, window int64, err error) {
	if err := l.acquire(ctx); err != nil {
		return 0, 0, err
	}
	defer l.release()
	l.turn(now)
	if l.units < n && l.left > 0 {
		part := l.shares.of(l.kind, l.limit, l.counter.Span)
		chunk := min(max(part/100, minChunk), maxChunk)
		taken, err := c.Take(ctx, l.counter, max(n-l.units, chunk), part)
		if err != nil {
			return 0, 0, err
		}
		if taken.Window != l.window {
			l.turn(l.until)
		}
		taken.Left = max(0, taken.Left)
		l.window, l.until = taken.Window, now.Add(taken.Ends)
		l.units, l.left = l.units+taken.Units, taken.Left
	}
	got = min(n, l.units)
	l.units -= got
	return got, l.window, nil
}

// has takes n units if so many are held and nobody else is at the lease.
func (l *lease) has(now time.Time, n int64) (window int64, ok bool) {
	select {
	case l.lock <- struct{}{}:
	default:
		return 0, false
	}
	defer l.release()
	l.turn(now)
	if l.units < n {
		return 0, false
	}
	l.units -= n
	return l.window, true
}

// give returns units of a window that were taken and not used, unless it ended.
func (l *lease) give(now time.Time, n, window int64) {
	l.lock <- struct{}{}
	defer l.release()
	if l.turn(now); now.Before(l.until) && window == l.window {
		l.units += n
	}
}

// knows reports whether the window, which it tells, has counted a subject. 0:
// the window is not known.
func (l *lease) knows(ctx context.Context, now time.Time, subject string) (window int64, known bool, err error) {
	if err := l.acquire(ctx); err != nil {
		return 0, false, err
	}
	defer l.release()
	if l.turn(now); !now.Before(l.until) {
		return 0, false, nil
	}
	_, known = l.known[subject]
	return l.window, known, nil
}

// learn remembers that a window has counted a subject, unless it ended.
func (l *lease) learn(subject string, window int64) {
	l.lock <- struct{}{}
	defer l.release()
	if window != l.window {
		return
	}
	if l.known == nil {
		l.known = make(map[string]struct{})
	}
	if len(l.known) < maxKnown {
		l.known[subject] = struct{}{}
	}
}

// state is what remains, and for how long.
func (l *lease) state(now time.Time) (units int64, ends time.Duration) {
	l.lock <- struct{}{}
	defer l.release()
	l.turn(now)
	return l.units + l.left, max(0, l.until.Sub(now))
}
