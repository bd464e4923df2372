package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
type Counters struct {
	e     *wal.Engine
	swept atomic.Int64 // the day on which old rows were last removed
}

var _ authz.Counters = (*Counters)(nil)

// NewCounters returns the counters of an engine.
func NewCounters(e *wal.Engine) *Counters { return &Counters{e: e} }

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

func decodeCounted(row []byte, found bool) (authz.Count, error) {
	if !found {
		return authz.Count{}, nil
	}
	if len(row) != counterSize || row[0] != bodyVersion {
		return authz.Count{}, fmt.Errorf("counter: %w", wal.ErrCorrupt)
	}
	return authz.Count{Window: int64(binary.BigEndian.Uint64(row[1:])), Used: int64(binary.BigEndian.Uint64(row[9:]))}, nil
}

// Take implements authz.Counters.
func (c *Counters) Take(ctx context.Context, counter authz.Counter, n, limit int64) (authz.Taken, error) {
	key, err := counterKey(counter)
	if err == nil && (n < 1 || limit < 0) {
		err = fmt.Errorf("%w: at least a unit is taken, of a limit", errInvalid)
	}
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	var taken authz.Taken
	var now time.Time
	err = c.e.Submit(func(tx *wal.Tx) error {
		now = tx.Now()
		row, found, err := tx.GetLocal(key)
		if err != nil {
			return err
		}
		was, err := decodeCounted(row, found)
		if err != nil {
			return err
		}
		is := was.In(counter.Span.Window(now))
		taken = authz.Taken{Window: is.Window, Units: max(0, min(n, limit-is.Used))}
		taken.Left = max(0, limit-is.Used-taken.Units)
		taken.Ends = counter.Span.Ends(is.Window, now)
		is.Used += taken.Units
		tx.SetLocal(key, encodeCounted(is))
		return nil
	}).Wait(ctx)
	if err != nil {
		return authz.Taken{}, fault("take", err)
	}
	return taken, c.sweep(ctx, now)
}

// Now implements authz.Counters.
func (c *Counters) Now(ctx context.Context) (now time.Time, err error) {
	var at time.Time
	err = c.e.Submit(func(tx *wal.Tx) error { at = tx.Now(); return nil }).Wait(ctx)
	if err != nil {
		return now, fault("read the clock", err) // the op may be running still
	}
	return at, nil
}

// Used implements authz.Counters.
func (c *Counters) Used(ctx context.Context, counter authz.Counter) (int64, error) {
	key, err := counterKey(counter)
	if err != nil {
		return 0, fault("read a counter", err)
	}
	var used int64
	err = c.e.Submit(func(tx *wal.Tx) error {
		row, found, err := tx.GetLocal(key)
		if err != nil {
			return err
		}
		was, err := decodeCounted(row, found)
		used = was.In(counter.Span.Window(tx.Now())).Used
		return err
	}).Wait(ctx)
	if err != nil {
		return 0, fault("read a counter", err) // the op may be running still
	}
	return used, nil
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
	var old [][]byte
	collect := func(prefix string, isOld func(key, row []byte) (bool, error)) error {
		return c.e.ScanLocal([]byte(prefix), []byte{prefix[0], prefix[1] + 1}, false, func(key, row []byte) (bool, error) {
			drop, err := isOld(key, row)
			if drop {
				old = append(old, append([]byte{}, key...))
			}
			return true, err
		})
	}
	before := now.Add(-markLife)
	err := errors.Join(
		collect(prefixCounter, func(key, row []byte) (bool, error) {
			is, err := decodeCounted(row, true)
			span := authz.Span(binary.BigEndian.Uint64(key[len(key)-8:]))
			return err == nil && is.Window < span.Window(before), err
		}),
		collect(prefixMark, func(_, row []byte) (bool, error) {
			is, err := decodeMark(row, true)
			return err == nil && is.Day < authz.Day.Window(before), err
		}))
	if err != nil {
		return fault("sweep", err)
	}
	return fault("sweep", c.e.Submit(func(tx *wal.Tx) error {
		for _, key := range old {
			tx.DeleteLocal(key)
		}
		return nil
	}).Wait(ctx))
}
