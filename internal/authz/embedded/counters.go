package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"piivault/internal/authz"
	"piivault/internal/wal"
)

// Local rows of budgets (docs/design/format.md §6): a prefix, then length-
// prefixed names; values of a version and big-endian numbers.
const (
	prefixCounter = "Bc"
	prefixMark    = "Bm"
	counterSize   = 1 + 8 + 8
	markSize      = 1 + 8 + 8
	// markLife is how long a mark matters to some span, with room.
	markLife = 2 * time.Duration(authz.Day)
)

// Counters are one region's, in local rows of its engine: they do not
// replicate. Windows go by the engine's clock. It implements authz.Counters.
//
// A unit is given before its row is durable. The row is queued by then, so it
// is durable with or before whatever is submitted to the engine for what the
// unit pays for: what a crash takes away, nobody was answered.
type Counters struct {
	e     *wal.Engine
	swept atomic.Int64 // the day on which old rows were last removed

	mu     sync.Mutex             // guards counts, and orders their rows as they changed
	counts map[string]authz.Count // by key; where there is none, the row counts
}

var _ authz.Counters = (*Counters)(nil)

// NewCounters returns the counters of an engine, which has no others.
func NewCounters(e *wal.Engine) *Counters {
	return &Counters{e: e, counts: make(map[string]authz.Count)}
}

func localKey(prefix string, names ...string) ([]byte, error) {
	key := []byte(prefix)
	for _, name := range names {
		if len(name) > 0xffff {
			return nil, fmt.Errorf("%w: a name has at most 65535 bytes", errInvalid)
		}
		key = append(binary.BigEndian.AppendUint16(key, uint16(len(name))), name...)
	}
	return key, nil
}

func counterKey(c authz.Counter) ([]byte, error) {
	key, err := localKey(prefixCounter, c.Tenant, c.Name)
	return binary.BigEndian.AppendUint64(key, uint64(c.Span)), err
}

// encodeCounted is a counter's row.
func encodeCounted(c authz.Count) []byte {
	b := binary.BigEndian.AppendUint64([]byte{bodyVersion}, uint64(c.Window))
	return binary.BigEndian.AppendUint64(b, uint64(c.Used))
}

func decodeCounted(row []byte) (authz.Count, error) {
	if len(row) != counterSize || row[0] != bodyVersion {
		return authz.Count{}, fmt.Errorf("counter: %w", wal.ErrCorrupt)
	}
	return authz.Count{Window: int64(binary.BigEndian.Uint64(row[1:])), Used: int64(binary.BigEndian.Uint64(row[9:]))}, nil
}

// count is a counter as it stands; mu is held.
func (c *Counters) count(key []byte) (authz.Count, error) {
	if is, ok := c.counts[string(key)]; ok {
		return is, nil
	}
	row, err := c.e.GetLocal(key)
	if errors.Is(err, wal.ErrNotFound) {
		return authz.Count{}, nil
	}
	if err != nil {
		return authz.Count{}, err
	}
	return decodeCounted(row)
}

// Take implements authz.Counters.
func (c *Counters) Take(ctx context.Context, counter authz.Counter, n, limit int64) (authz.Taken, error) {
	key, err := counterKey(counter)
	if err == nil && (n < 1 || limit < 0) {
		err = fmt.Errorf("%w: at least a unit is taken, of a limit", errInvalid)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	now := c.e.Now()
	taken, err := c.take(key, counter.Span, now, n, limit)
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	return taken, c.sweep(ctx, now)
}

func (c *Counters) take(key []byte, span authz.Span, now time.Time, n, limit int64) (taken authz.Taken, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, err := c.count(key)
	if err != nil {
		return taken, err
	}
	is := was.In(span.Window(now))
	taken = authz.Taken{Window: is.Window, Units: max(0, min(n, limit-is.Used))}
	taken.Left = max(0, limit-is.Used-taken.Units)
	taken.Ends = span.Ends(is.Window, now)
	is.Used += taken.Units
	c.counts[string(key)] = is
	row := encodeCounted(is)
	return taken, c.e.Submit(func(tx *wal.Tx) error { tx.SetLocal(key, row); return nil }).Refused()
}

// Now implements authz.Counters.
func (c *Counters) Now(context.Context) (time.Time, error) { return c.e.Now(), nil }

// Used implements authz.Counters.
func (c *Counters) Used(_ context.Context, counter authz.Counter) (int64, error) {
	key, err := counterKey(counter)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	is, err := c.count(key)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	return is.In(counter.Span.Window(c.e.Now())).Used, nil
}

// Mark implements authz.Counters.
func (c *Counters) Mark(ctx context.Context, m authz.Member, in authz.Windows) (authz.Windows, error) {
	return c.mark(ctx, m, &in)
}

// Marked implements authz.Counters.
func (c *Counters) Marked(ctx context.Context, m authz.Member) (authz.Windows, error) {
	return c.mark(ctx, m, nil)
}

func (c *Counters) mark(ctx context.Context, m authz.Member, in *authz.Windows) (authz.Windows, error) {
	key, err := localKey(prefixMark, m.Tenant, m.Set, m.Name)
	if err != nil {
		return authz.Windows{}, fault("mark", err)
	}
	var before authz.Windows
	err = c.e.Submit(func(tx *wal.Tx) error {
		row, found, err := tx.GetLocal(key)
		if err != nil {
			return err
		}
		if before, err = decodeMark(row, found); err != nil {
			return err
		}
		if in != nil && !in.Before(before) {
			tx.SetLocal(key, encodeMark(*in))
		}
		return nil
	}).Wait(ctx)
	if err != nil {
		return authz.Windows{}, fault("mark", err) // the op may be running still
	}
	return before, nil
}

// encodeMark is a mark's row.
func encodeMark(w authz.Windows) []byte {
	b := binary.BigEndian.AppendUint64([]byte{bodyVersion}, uint64(w.Hour))
	return binary.BigEndian.AppendUint64(b, uint64(w.Day))
}

func decodeMark(row []byte, found bool) (authz.Windows, error) {
	if !found {
		return authz.Windows{}, nil
	}
	if len(row) != markSize || row[0] != bodyVersion {
		return authz.Windows{}, fmt.Errorf("mark: %w", wal.ErrCorrupt)
	}
	return authz.Windows{Hour: int64(binary.BigEndian.Uint64(row[1:])), Day: int64(binary.BigEndian.Uint64(row[9:]))}, nil
}

// sweep removes, once a day, rows that no window needs.
func (c *Counters) sweep(ctx context.Context, now time.Time) error {
	today := authz.Day.Window(now)
	if last := c.swept.Load(); last >= today || !c.swept.CompareAndSwap(last, today) {
		return nil
	}
	old, err := c.old(now.Add(-markLife))
	if err != nil {
		return fault("sweep", err)
	}
	return fault("sweep", c.e.Submit(func(tx *wal.Tx) error {
		for key, row := range old {
			is, _, err := tx.GetLocal([]byte(key))
			if err != nil {
				return err
			}
			if string(is) == row { // not counted meanwhile
				tx.DeleteLocal([]byte(key))
			}
		}
		return nil
	}).Wait(ctx))
}

// old are the rows that mattered to no window since a time.
func (c *Counters) old(since time.Time) (rows map[string]string, err error) {
	rows = make(map[string]string)
	collect := func(prefix string, isOld func(key, row []byte) (bool, error)) error {
		return c.e.ScanLocal([]byte(prefix), []byte{prefix[0], prefix[1] + 1}, false, func(key, row []byte) (bool, error) {
			drop, err := isOld(key, row)
			if drop {
				rows[string(key)] = string(row)
			}
			return true, err
		})
	}
	outlived := func(key []byte, is authz.Count) bool {
		span := authz.Span(binary.BigEndian.Uint64(key[len(key)-8:]))
		return is.Window < span.Window(since)
	}
	c.mu.Lock()
	maps.DeleteFunc(c.counts, func(key string, is authz.Count) bool { return outlived([]byte(key), is) })
	c.mu.Unlock()
	return rows, errors.Join(
		collect(prefixCounter, func(key, row []byte) (bool, error) {
			is, err := decodeCounted(row)
			return err == nil && outlived(key, is), err
		}),
		collect(prefixMark, func(_, row []byte) (bool, error) {
			is, err := decodeMark(row, true)
			return err == nil && is.Day < authz.Day.Window(since), err
		}))
}
