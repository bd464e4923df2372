package embedded_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"piivault/internal/audit"
	"piivault/internal/audit/audittest"
	"piivault/internal/audit/embedded"
	"piivault/internal/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Modes of a faultyFS.
const (
	sound int32 = iota
	failing
	failingApplied
)

var errDisk = errors.New("injected disk fault")

// faultyFS fails writes of the write-ahead log, before or after making them.
type faultyFS struct {
	vfs.FS
	mode *atomic.Int32
	slow *atomic.Pointer[chan struct{}] // a sync waits for it
}

func (f faultyFS) wrap(file vfs.File, err error, name string) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return file, err
	}
	return faultyFile{file, f}, nil
}

func (f faultyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.wrap(file, err, name)
}

func (f faultyFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.wrap(file, err, newname)
}

type faultyFile struct {
	vfs.File
	fs faultyFS
}

func (f faultyFile) Write(p []byte) (int, error) {
	if f.fs.mode.Load() == failing {
		return 0, errDisk
	}
	return f.File.Write(p)
}

func (f faultyFile) after(err error) error {
	if until := f.fs.slow.Load(); until != nil {
		<-*until
	}
	if err == nil && f.fs.mode.Load() == failingApplied {
		return errDisk
	}
	return err
}

func (f faultyFile) Sync() error     { return f.after(f.File.Sync()) }
func (f faultyFile) SyncData() error { return f.after(f.File.SyncData()) }

func (f faultyFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.after(err)
}

// table is an engine in memory that is reopened after a fault.
type table struct {
	embedded.Stored
	fs     vfs.FS
	mode   atomic.Int32
	slow   atomic.Pointer[chan struct{}]
	region string
	open   []*embedded.Log
}

func newTable(t *testing.T, region string) *table {
	t.Helper()
	tab := &table{region: region}
	tab.fs = faultyFS{vfs.NewMem(), &tab.mode, &tab.slow}
	tab.start(t)
	t.Cleanup(func() { tab.end(t) })
	return tab
}

func (tab *table) start(tb testing.TB) {
	tb.Helper()
	e, err := wal.Open(wal.Options{Dir: "db", FS: tab.fs, Region: tab.region, Tables: []wal.Table{embedded.Table()}, Outbox: true, Logger: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	tab.Engine = e
}

// end closes everything; an engine that a fault was injected into may say so.
func (tab *table) end(tb testing.TB) {
	tb.Helper()
	for _, l := range tab.open {
		l.Close()
	}
	tab.open = nil
	if err := tab.Engine.Close(); err != nil && tab.mode.Load() == sound {
		tb.Error(err)
	}
}

func (tab *table) reopen(tb testing.TB) {
	tb.Helper()
	tab.end(tb)
	tab.mode.Store(sound)
	tab.start(tb)
}

func (tab *table) config(instance string) embedded.Config {
	return embedded.Config{
		Engine: tab.Engine, Region: tab.region, Instance: instance, Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(),
	}
}

func (tab *table) openLog(t *testing.T, instance string) *embedded.Log {
	t.Helper()
	if tab.mode.Load() != sound {
		tab.reopen(t)
	}
	l, err := embedded.Open(t.Context(), tab.config(instance))
	if err != nil {
		t.Fatal(err)
	}
	tab.open = append(tab.open, l)
	return l
}

func (tab *table) Open(t *testing.T, instance string) audittest.Instance {
	t.Helper()
	return tab.openLog(t, instance)
}

func (tab *table) Close(_ *testing.T, i audittest.Instance) {
	if l, ok := i.(*embedded.Log); ok {
		l.Close()
	}
}

func (tab *table) Fail(applied bool) {
	if applied {
		tab.mode.Store(failingApplied)
	} else {
		tab.mode.Store(failing)
	}
}

func (tab *table) Rewrite(t *testing.T, log audit.LogName, number uint64, change func([]byte) []byte) {
	t.Helper()
	key := embedded.BlockKey(log, number)
	old, err := tab.Engine.Get(embedded.TableID, key)
	if err != nil && !errors.Is(err, wal.ErrNotFound) {
		t.Fatal(err)
	}
	var next []byte
	if old != nil {
		next = change(slices.Clone(old))
	}
	put(t, tab.Engine, key, next)
}

// put writes an item of the audit table, or deletes it.
func put(tb testing.TB, e *wal.Engine, key, value []byte) {
	tb.Helper()
	err := e.Submit(func(tx *wal.Tx) error {
		if value == nil {
			tx.Delete(embedded.TableID, key)
		} else {
			tx.Put(embedded.TableID, key, value)
		}
		return nil
	}).Wait(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
}
