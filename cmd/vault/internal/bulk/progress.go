package bulk

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Status is how far a run is.
type Status struct {
	Counts
	Done, Total int64 // bytes of the input; Total 0: not known
}

// Progress shows how a run goes. It is safe for concurrent use.
type Progress interface {
	Update(Status)
	// Waiting says that an exchange is to be tried again.
	Waiting(why string, wait time.Duration)
	// Close leaves the terminal clean for what comes next.
	Close()
}

// Lines writes a plain line every few seconds.
type Lines struct {
	now   func() time.Time
	every time.Duration

	mu          sync.Mutex // guards all below
	to          io.Writer
	began, last time.Time
	first       *Status // where this run began
}

// NewLines starts the clock.
func NewLines(to io.Writer, now func() time.Time, every time.Duration) *Lines {
	t := now()
	return &Lines{to: to, now: now, every: every, began: t, last: t}
}

// Update writes a line if the last one is long enough ago.
func (l *Lines) Update(s Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = &s
	}
	if t := l.now(); l.due(t) {
		_, _ = fmt.Fprintln(l.to, l.line(s, t)) // nothing to do when stderr is gone
	}
}

// Waiting writes a line if the last one is long enough ago.
func (l *Lines) Waiting(why string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due(l.now()) {
		_, _ = fmt.Fprintln(l.to, waiting(why, wait)) // nothing to do when stderr is gone
	}
}

func (l *Lines) due(t time.Time) bool {
	if t.Sub(l.last) < l.every {
		return false
	}
	l.last = t
	return true
}

func waiting(why string, wait time.Duration) string {
	return fmt.Sprintf("%s; trying again in %s", why, wait.Round(100*time.Millisecond))
}

func (l *Lines) line(s Status, t time.Time) string {
	text := fmt.Sprintf("%s rows, %s refused", Count(s.Rows), Count(s.Refused))
	seconds := t.Sub(l.began).Seconds()
	text += fmt.Sprintf(", %s rows/s", Count(perSecond(s.Rows-l.first.Rows, t.Sub(l.began))))
	if moved := s.Done - l.first.Done; s.Total > 0 && moved > 0 {
		left := time.Duration(seconds * float64(s.Total-s.Done) / float64(moved) * float64(time.Second))
		text += fmt.Sprintf(", %d %% done, %s left", s.Done*100/s.Total, left.Round(time.Second))
	}
	return text
}

// Close does nothing.
func (*Lines) Close() {}

// Bar draws a progress bar; for terminals.
type Bar struct {
	label string
	now   func() time.Time

	mu          sync.Mutex // guards all below
	bar         *progressbar.ProgressBar
	began, last time.Time
	first       *Status // where this run began
}

// NewBar draws on w, which must be a terminal. The bar measures bytes of the
// input, the one total that is known beforehand.
func NewBar(w io.Writer, label string, now func() time.Time) *Bar {
	return &Bar{label: label, now: now, began: now(), bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(label),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it draws from a goroutine that nobody can end
		progressbar.OptionClearOnFinish(),
	)}
}

// Update moves the bar, ten times a second at most.
func (b *Bar) Update(s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rate, due := b.rate(s)
	if !due {
		return
	}
	if s.Total > 0 && b.bar.GetMax64() != s.Total {
		b.bar.ChangeMax64(s.Total)
	}
	b.bar.Describe(fmt.Sprintf("%s %s rows, %s refused, %s rows/s", b.label, Count(s.Rows), Count(s.Refused), Count(rate)))
	_ = b.bar.Set64(s.Done) // nothing to do when the terminal is gone
}

func (b *Bar) rate(s Status) (rowsPerSecond int64, due bool) {
	if b.first == nil {
		b.first = &s
	}
	t := b.now()
	if t.Sub(b.last) < 100*time.Millisecond {
		return 0, false
	}
	b.last = t
	return perSecond(s.Rows-b.first.Rows, t.Sub(b.began)), true
}

func perSecond(n int64, d time.Duration) int64 {
	return int64(float64(n) / max(d.Seconds(), 0.001))
}

// Waiting says so beside the bar.
func (b *Bar) Waiting(why string, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.Describe(b.label + " " + waiting(why, wait))
}

// Close takes the bar away.
func (b *Bar) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.bar.Clear() // nothing to do when the terminal is gone
}

// Count writes n with its thousands apart: 12,345.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
