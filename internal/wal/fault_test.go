package wal_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"piivault/internal/wal"
)

// faulty is a life of an engine whose file system fails once.
type faulty struct {
	fs       *vfs.MemFS
	poisoned atomic.Int32 // calls of OnPoison
	acked    []string
}

const faultOps = 40

var padding = strings.Repeat("p", 8<<10)

// live opens the engine, writes until something fails and closes it. It
// reports the first error.
func (f *faulty) live(t *testing.T, inject errorfs.Injector) error {
	t.Helper()
	o := options("/data")
	o.FS = errorfs.Wrap(f.fs, inject)
	o.OnPoison = func(error) { f.poisoned.Add(1) }
	e, err := wal.OpenSmall(o)
	if err != nil {
		return err
	}
	first := f.write(t, e)
	closed := e.Close()
	if first == nil {
		first = closed
	}
	if e.Fault() != nil && !errors.Is(closed, wal.ErrPoisoned) {
		t.Errorf("close of a poisoned engine: %v", closed)
	}
	return first
}

func (f *faulty) write(t *testing.T, e *wal.Engine) error {
	t.Helper()
	for i := range faultOps {
		key := fmt.Sprintf("k%02d", i)
		err := e.Submit(put(key, key+padding)).Wait(t.Context())
		if err == nil {
			f.acked = append(f.acked, key)
			err = e.SetLocalBatch([]wal.KV{{Key: []byte(key), Value: []byte(key)}})
		}
		if err != nil {
			f.checkPoisoned(t, e, err)
			return err
		}
	}
	return nil
}

// checkPoisoned: after a fault nothing is answered, nothing is released.
func (f *faulty) checkPoisoned(t *testing.T, e *wal.Engine, err error) {
	t.Helper()
	_, got := e.Get(table, []byte("k00"))
	for name, err := range map[string]error{
		"the write":   err,
		"a write":     e.Submit(put("late", "x")).Wait(t.Context()),
		"a read":      got,
		"a scan":      e.Scan(table, nil, nil, func(_, _ []byte) (bool, error) { return true, nil }),
		"a batch":     e.SetLocalBatch([]wal.KV{{Key: []byte("late"), Value: []byte("x")}}),
		"a replicate": e.Apply(t.Context(), nil),
	} {
		if !errors.Is(err, wal.ErrPoisoned) || !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("%s on a poisoned engine: %v", name, err)
		}
	}
}

// checkRecovered reopens the directory: all that was acknowledged is there,
// and nothing that was never written.
func (f *faulty) checkRecovered(t *testing.T, fs vfs.FS) {
	t.Helper()
	o := options("/data")
	o.FS = fs
	e, err := wal.OpenSmall(o)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	items, rows := dump(t, e)
	for _, key := range f.acked {
		if items[key] != key+padding {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
	if len(items) > len(f.acked)+1 || len(rows) != len(items) {
		t.Errorf("%d items and %d rows, %d were acknowledged", len(items), len(rows), len(f.acked))
	}
	if items["late"] != "" {
		t.Error("a write after the fault was made")
	}
}

// G1, G6: whichever write, sync, create, rename or remove fails, nothing
// acknowledged is lost, nothing is released afterwards, and reopening recovers:
// with what the page cache still held, and with all that was not synced gone.
func TestAFaultAtEveryChange(t *testing.T) {
	poisoned := 0
	for n := int32(0); ; n++ {
		f := &faulty{fs: vfs.NewCrashableMem()}
		var count atomic.Int32
		var failed atomic.Pointer[errorfs.Op]
		err := f.live(t, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) == n+1 {
				failed.Store(&op)
				return errorfs.ErrInjected
			}
			return nil
		}))
		op := failed.Load()
		if op == nil {
			if n < 100 || poisoned < 50 || err != nil {
				t.Errorf("only %d changes and %d poisonings were seen, then %v", n, poisoned, err)
			}
			return
		}
		if err != nil && !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("fault %d (%v): %v", n, *op, err)
		}
		want := int32(0)
		if errors.Is(err, wal.ErrPoisoned) && len(f.acked) > 0 {
			poisoned++
			want = 1
		}
		if got := f.poisoned.Load(); got < want || got > 1 {
			t.Errorf("fault %d: OnPoison was called %d times", n, got)
		}
		crashed := f.fs.CrashClone(vfs.CrashCloneCfg{})
		f.checkRecovered(t, crashed)
		f.checkRecovered(t, f.fs)
		if t.Failed() {
			t.Fatalf("fault %d was %+v, the life ended with %v", n, *op, err)
		}
	}
}
