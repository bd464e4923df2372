package authz

import (
	"context"
	"sync"
	"time"
)

// lease is what this instance holds of a counter's window.
type lease struct {
	counter Counter
	kind    BudgetKind
	limit   int64 // all regions'
	shares  *shares

	mu     sync.Mutex // guards the rest
	window int64
	until  time.Time // when the window ends, by cfg.Now
	units  int64     // held
	left   int64     // in the counter, when last asked; before, at most
	chunk  int64     // kept when last asked
	// known are subjects that the window has counted.
	known map[string]struct{}

	asking chan struct{} // closed when the counter has answered who asks it; nil: nobody does
	wanted int64         // by those who wait for that
	busy   bool          // somebody once had to
	queued bool          // to be refilled
}

// drawn is units taken of a lease, and what the lease is afterwards.
type drawn struct {
	got, window int64         // the window is theirs
	left        int64         // held, or in the counter
	ends        time.Duration // until the window does
	low         bool          // to be refilled, which is told once
}

// draw takes up to n of the units held; mu is held.
func (l *lease) draw(now time.Time, n int64) drawn {
	got := min(n, l.units)
	l.units -= got
	low := !l.queued && l.runsOut(now)
	l.queued = l.queued || low
	return drawn{got, l.window, l.units + l.left, max(0, l.until.Sub(now)), low}
}

// turn drops what belonged to a window that has ended: late units would not
// exceed any window's limit, but two windows' units would meet in one hour.
func (l *lease) turn(now time.Time) {
	if now.Before(l.until) {
		return
	}
	l.units, l.left = 0, l.limit // asked for even where this region has no part, to know until when
	clear(l.known)
}

// take gives up to n units: held ones and, where these are too few, of the
// counter's.
func (l *lease) take(ctx context.Context, c Counters, now time.Time, n int64) (drawn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	for l.units < n && l.left > 0 {
		if l.asking != nil {
			if err := l.await(ctx, n); err != nil {
				return drawn{}, err
			}
			l.turn(now)
			continue
		}
		given, err := l.ask(ctx, c, now, n-l.units)
		if err != nil {
			return drawn{}, err
		}
		if given == 0 {
			break
		}
	}
	return l.draw(now, n), nil
}

// await waits for the counter to answer whoever asks it, for what n units
// lack, too; mu is held, but not meanwhile.
func (l *lease) await(ctx context.Context, n int64) error {
	asking := l.asking
	l.wanted, l.busy = l.wanted+n, true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.wanted -= n
	}()
	select {
	case <-asking:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask asks the counter for what is lacking, at least a chunk, and for what
// others wait for; mu is held, but not meanwhile.
func (l *lease) ask(ctx context.Context, c Counters, now time.Time, lacking int64) (given int64, err error) {
	asking := make(chan struct{})
	l.asking, l.queued = asking, false
	defer func() {
		l.asking = nil
		close(asking)
	}()
	part := l.shares.of(l.kind, l.limit, l.counter.Span)
	l.chunk = min(max(part/100, minChunk), maxChunk)
	taken, err := l.unlocked(ctx, c, max(lacking, l.chunk)+l.wanted, part)
	if err != nil {
		return 0, err
	}
	if taken.Window != l.window {
		l.turn(l.until)
	}
	l.window, l.until = taken.Window, now.Add(taken.Ends)
	l.units, l.left = l.units+taken.Units, max(0, taken.Left)
	return taken.Units, nil
}

func (l *lease) unlocked(ctx context.Context, c Counters, n, limit int64) (Taken, error) {
	l.mu.Unlock()
	defer l.mu.Lock()
	return c.Take(ctx, l.counter, n, limit)
}

// has takes n units if so many are held.
func (l *lease) has(now time.Time, n int64) (d drawn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	if l.units < n {
		return d, false
	}
	return l.draw(now, n), true
}

// runsOut reports that a lease is to be refilled before it is used up: one of a
// large budget that many use at once, who would all wait for the counter.
func (l *lease) runsOut(now time.Time) bool {
	return l.asking == nil && l.busy && l.chunk == maxChunk && l.units < maxChunk && l.left > 0 && now.Before(l.until)
}

// refill asks for a chunk if that is still to be done. Whoever needs units that
// it did not get asks for them, and is told.
func (l *lease) refill(ctx context.Context, c Counters, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.runsOut(now) {
		_, _ = l.ask(ctx, c, now, 0)
	}
	l.queued = false
}

// give returns units of a window that were taken and not used, unless it ended.
func (l *lease) give(now time.Time, n, window int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn(now); now.Before(l.until) && window == l.window {
		l.units += n
	}
}

// knows reports whether the window, which it tells, has counted a subject. 0:
// the window is not known.
func (l *lease) knows(now time.Time, subject string) (window int64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn(now); !now.Before(l.until) {
		return 0, false
	}
	_, known = l.known[subject]
	return l.window, known
}

// learn remembers that a window has counted a subject, unless it ended.
func (l *lease) learn(subject string, window int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
