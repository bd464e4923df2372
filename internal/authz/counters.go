package authz

import (
	"context"
	"time"
)

// Span is how long a window of a counter lasts. Windows are aligned to the
// Unix epoch, so hours and days are those of UTC.
type Span time.Duration

// The spans of budgets.
const (
	Hour = Span(time.Hour)
	Day  = Span(24 * time.Hour)
)

// Window is the number of the window that a time lies in.
func (s Span) Window(at time.Time) int64 { return at.UnixMilli() / time.Duration(s).Milliseconds() }

// Ends is how long after a time a window ends: more than a span for one that
// is ahead of the clock.
func (s Span) Ends(window int64, at time.Time) time.Duration {
	left := time.Duration(s) - time.Duration(at.UnixMilli())*time.Millisecond%time.Duration(s)
	return left + time.Duration(window-s.Window(at))*time.Duration(s)
}

// Count is how much of a window is used, as a counter keeps it.
type Count struct{ Window, Used int64 }

// In is the count as it stands in a window: windows never go back.
func (c Count) In(window int64) Count {
	if c.Window < window {
		return Count{Window: window}
	}
	return c
}

// Counter names what one region counts in windows of a span.
type Counter struct {
	Tenant string
	Name   string
	Span   Span
}

// Taken is what a counter gave.
type Taken struct {
	Window int64         // its number
	Units  int64         // of those asked for
	Left   int64         // in the window afterwards
	Ends   time.Duration // until the window does, by the counters' clock
}

// Counters are one region's: they hold across its instances and are no other
// region's business. Windows go by the counters' own clock, the same for all
// instances, and never back. All methods are safe for concurrent use and
// strongly consistent; an error is ErrUnavailable, after which a unit may have
// been taken and a mark set: budgets err on the side of denying.
type Counters interface {
	// Take takes up to n units (at least 1) of the counter's present window,
	// never more than limit in all, however many take at once.
	Take(ctx context.Context, c Counter, n, limit int64) (Taken, error)

	// Now is the counters' clock.
	Now(ctx context.Context) (time.Time, error)

	// Used tells how many units of the present window are taken.
	Used(ctx context.Context, c Counter) (int64, error)

	// Mark notes that a member of a set was counted in windows, and tells in
	// which it was before: the zero Windows if in none, too long ago to matter,
	// or not to be told from this very mark.
	// Where a later window is noted than one of these it notes nothing.
	Mark(ctx context.Context, m Member, in Windows) (before Windows, err error)

	// Marked tells what Mark would, and notes nothing.
	Marked(ctx context.Context, m Member) (Windows, error)
}

// Windows are an hour and a day in which something was counted; 0: none. They
// are those that were paid for, however late that is noted: a note that comes
// when the next window has begun must not count there.
type Windows struct{ Hour, Day int64 }

// In is the window of a span.
func (w Windows) In(s Span) int64 {
	if s == Hour {
		return w.Hour
	}
	return w.Day
}

func (w *Windows) set(s Span, window int64) {
	if s == Hour {
		w.Hour = window
	} else {
		w.Day = window
	}
}

// Before reports that w lies before another in any span.
func (w Windows) Before(o Windows) bool { return w.Hour < o.Hour || w.Day < o.Day }

// Member is one of a set whose distinct members are counted.
type Member struct {
	Tenant string
	Set    string
	Name   string
}
