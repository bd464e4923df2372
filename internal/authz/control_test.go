package authz

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// A fault is what becomes of a call.
type fault int

const (
	works   fault = iota
	fails         // ErrUnavailable, nothing happened
	applied       // ErrUnavailable, and yet it happened
	hangs         // until the context ends, nothing happened
)

// memory is a Control table with a fault hook.
type memory struct {
	mu    sync.Mutex // guards all below
	items map[Kind]map[string][]byte
	fault func(op string, kind Kind) fault
	page  int // at most so many items a listing; 0: as asked
}

func newMemory() *memory {
	return &memory{items: make(map[Kind]map[string][]byte)}
}

// breaks makes every call fail in one way from now on.
func (m *memory) breaks(f fault) {
	m.breaksOn(func(string, Kind) fault { return f })
}

func (m *memory) breaksOn(hook func(op string, kind Kind) fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = hook
}

// on answers for the hook; do reports that the call takes effect.
func (m *memory) on(ctx context.Context, op string, kind Kind) (do bool, err error) {
	m.mu.Lock()
	hook := m.fault
	m.mu.Unlock()
	if ctx.Err() != nil {
		return false, ErrUnavailable
	}
	if hook == nil {
		return true, nil
	}
	switch hook(op, kind) {
	case fails:
		return false, ErrUnavailable
	case applied:
		return true, ErrUnavailable
	case hangs:
		<-ctx.Done()
		return false, ErrUnavailable
	default:
		return true, nil
	}
}

func (m *memory) Insert(ctx context.Context, item Item) error {
	do, err := m.on(ctx, "insert", item.Kind)
	if !do {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.items[item.Kind][item.ID]; ok {
		return cmp.Or(err, ErrExists)
	}
	m.put(item)
	return err
}

// put needs mu.
func (m *memory) put(item Item) {
	if m.items[item.Kind] == nil {
		m.items[item.Kind] = make(map[string][]byte)
	}
	m.items[item.Kind][item.ID] = slices.Clone(item.Body)
}

func (m *memory) Get(ctx context.Context, kind Kind, id string) (Item, error) {
	if do, err := m.on(ctx, "get", kind); !do || err != nil {
		return Item{}, ErrUnavailable
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.items[kind][id]
	if !ok {
		return Item{}, ErrNotFound
	}
	return Item{kind, id, slices.Clone(body)}, nil
}

func (m *memory) List(ctx context.Context, kind Kind, after string, limit int) ([]Item, error) {
	if do, err := m.on(ctx, "list", kind); !do || err != nil {
		return nil, ErrUnavailable
	}
	defer func() { _, _ = m.on(ctx, "listed", kind) }() // for tests that hold the answer up
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.page > 0 {
		limit = min(limit, m.page)
	}
	var items []Item
	for _, id := range slices.Sorted(maps.Keys(m.items[kind])) {
		if id > after && len(items) < limit {
			items = append(items, Item{kind, id, slices.Clone(m.items[kind][id])})
		}
	}
	return items, nil
}

func (m *memory) Replace(ctx context.Context, old, next Item) error {
	do, err := m.on(ctx, "replace", old.Kind)
	if !do {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.items[old.Kind][old.ID], old.Body) {
		return ErrConflict
	}
	m.put(next)
	return err
}

// set writes an item past the contract, as somebody with rights on the table could.
func (m *memory) set(item Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(item)
}

func (m *memory) body(kind Kind, id string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.items[kind][id]
}

func (m *memory) count(kind Kind) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items[kind])
}

// regions are two tables that do not replicate: what reaches the second was written to it.
func regions(local, remote *memory) []RegionControl {
	return []RegionControl{{"eu-west-1", local}, {"us-east-1", remote}}
}

// at is a clock that stands still.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// start is when the tests with a clock that stands begin.
func start(tb testing.TB) time.Time {
	tb.Helper()
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
}
