package embedded_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	"piivault/internal/authz/embedded"
	"piivault/internal/wal"
)

func engineAt(t *testing.T, clock *authztest.Clock) *wal.Engine {
	t.Helper()
	return engineOn(t, vfs.NewMem(), clock)
}

func engineOn(t *testing.T, fs vfs.FS, clock *authztest.Clock) *wal.Engine {
	t.Helper()
	e, err := wal.Open(wal.Options{
		Dir: "/data", FS: fs, Region: "eu-west-1", Logger: zerolog.Nop(), Now: clock.Now,
		Tables: []wal.Table{embedded.Table()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func TestCountersConformance(t *testing.T) {
	authztest.RunCounters(t, func(t *testing.T, clock *authztest.Clock) authz.Counters {
		t.Helper()
		return embedded.NewCounters(engineAt(t, clock))
	})
}

// rows counts the local rows of counters and marks.
func rows(t *testing.T, e *wal.Engine) (n int) {
	t.Helper()
	if err := e.ScanLocal([]byte("B"), []byte("C"), false, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// Rows that no window needs any more are removed, once a day.
func TestOldCountersGo(t *testing.T) {
	clock := authztest.NewClock()
	e := engineAt(t, clock)
	c := embedded.NewCounters(e)
	use := func(name string) {
		t.Helper()
		for _, span := range []authz.Span{authz.Hour, authz.Day} {
			if _, err := c.Take(t.Context(), authz.Counter{Tenant: "t", Name: name, Span: span}, 1, 9); err != nil {
				t.Fatal(err)
			}
		}
		in := authz.Windows{Hour: authz.Hour.Window(clock.Now()), Day: authz.Day.Window(clock.Now())}
		if _, err := c.Mark(t.Context(), authz.Member{Tenant: "t", Set: name, Name: "m"}, in); err != nil {
			t.Fatal(err)
		}
	}
	use("old")
	clock.Add(24 * time.Hour)
	use("young")
	if n := rows(t, e); n != 6 {
		t.Errorf("%d rows, want all 6", n)
	}
	clock.Add(36 * time.Hour)
	use("new")
	if n := rows(t, e); n != 6 {
		t.Errorf("%d rows, want those of young and new", n)
	}
	if used, err := c.Used(t.Context(), authz.Counter{Tenant: "t", Name: "new", Span: authz.Day}); err != nil || used != 1 {
		t.Errorf("used %d, %v", used, err)
	}
}

// G5, G6: a unit is durable with whatever is written for what it pays for: a
// crash between the two leaves neither.
func TestUnitsOutliveWhatTheyPayFor(t *testing.T) {
	clock := authztest.NewClock()
	fs := vfs.NewCrashableMem()
	e := engineOn(t, fs, clock)
	c := embedded.NewCounters(e)
	counter := authz.Counter{Tenant: "t", Name: "n", Span: authz.Hour}
	for range 3 {
		if _, err := c.Take(t.Context(), counter, 10, 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Submit(func(tx *wal.Tx) error { tx.SetLocal([]byte("entry"), nil); return nil }).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	crashed := engineOn(t, fs.CrashClone(vfs.CrashCloneCfg{}), clock) // only what was synced
	again := embedded.NewCounters(crashed)
	if used, err := again.Used(t.Context(), counter); err != nil || used != 30 {
		t.Errorf("used %d, %v, want 30", used, err)
	}
	taken, err := again.Take(t.Context(), counter, 100, 100)
	if err != nil || taken.Units != 70 {
		t.Errorf("took %d, %v, want 70", taken.Units, err)
	}
}

// G5: counters that cannot be written give nothing.
func TestNoUnitOfAnEndedEngine(t *testing.T) {
	e := engineAt(t, authztest.NewClock())
	c := embedded.NewCounters(e)
	counter := authz.Counter{Tenant: "t", Name: "n", Span: authz.Hour}
	if _, err := c.Take(t.Context(), counter, 1, 100); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if taken, err := c.Take(t.Context(), counter, 1, 100); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("took %d, %v", taken.Units, err)
	}
}
