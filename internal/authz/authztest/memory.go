package authztest

import (
	"context"
	"sync"
	"time"

	"piivault/internal/authz"
)

// MemoryCounters are authz.Counters in memory, with faults to order.
type MemoryCounters struct {
	now func() time.Time

	// mu guards the rest.
	mu    sync.Mutex
	used  map[authz.Counter]map[int64]int64
	last  map[authz.Counter]int64
	marks map[authz.Member]authz.Windows
	calls int
	fault error
}

// NewMemoryCounters go by the clock given.
func NewMemoryCounters(now func() time.Time) *MemoryCounters {
	return &MemoryCounters{
		now: now, used: make(map[authz.Counter]map[int64]int64), last: make(map[authz.Counter]int64),
		marks: make(map[authz.Member]authz.Windows),
	}
}

// Fail has every call answer with the error, nil for none any more.
func (m *MemoryCounters) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = err
}

// Calls counts the calls so far.
func (m *MemoryCounters) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// begin locks and counts a call.
func (m *MemoryCounters) begin(ctx context.Context) error {
	m.mu.Lock()
	m.calls++
	if m.fault != nil {
		return m.fault
	}
	return ctx.Err()
}

// window is the counter's present one, with m locked.
func (m *MemoryCounters) window(c authz.Counter, now time.Time) int64 {
	m.last[c] = max(m.last[c], c.Span.Window(now))
	if m.used[c] == nil {
		m.used[c] = make(map[int64]int64)
	}
	return m.last[c]
}

// Take implements authz.Counters.
func (m *MemoryCounters) Take(ctx context.Context, c authz.Counter, n, limit int64) (authz.Taken, error) {
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return authz.Taken{}, err
	}
	if n < 1 {
		return authz.Taken{}, &authz.InputError{Code: "bad_units", Message: "at least a unit is taken"}
	}
	now := m.now()
	w := m.window(c, now)
	t := authz.Taken{Window: w, Units: max(0, min(n, limit-m.used[c][w]))}
	m.used[c][w] += t.Units
	t.Left = max(0, limit-m.used[c][w])
	t.Ends = c.Span.Ends(w, now)
	return t, nil
}

// Now implements authz.Counters.
func (m *MemoryCounters) Now(ctx context.Context) (time.Time, error) {
	defer m.mu.Unlock()
	return m.now(), m.begin(ctx)
}

// Used implements authz.Counters.
func (m *MemoryCounters) Used(ctx context.Context, c authz.Counter) (int64, error) {
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return 0, err
	}
	return m.used[c][m.window(c, m.now())], nil
}

// Mark implements authz.Counters.
func (m *MemoryCounters) Mark(ctx context.Context, member authz.Member, in authz.Windows) (authz.Windows, error) {
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return authz.Windows{}, err
	}
	before := m.marks[member]
	if !in.Before(before) {
		m.marks[member] = in
	}
	return before, nil
}

// Marked implements authz.Counters.
func (m *MemoryCounters) Marked(ctx context.Context, member authz.Member) (authz.Windows, error) {
	defer m.mu.Unlock()
	err := m.begin(ctx)
	return m.marks[member], err
}
