package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence stands between Pebble and the file system. The first write, sync,
// create, rename or link that fails poisons the engine and freezes the
// directory as a crash at that moment would leave it: from then on, that very
// call included, every change is said to succeed and is not made.
//
// Pebble answers such failures with panics that unlock what is not locked, and
// with Fatalf; behind the fence it never sees one, so its goroutines end, its
// locks are released and Close works, while nobody is told a lie: the engine
// looks at err after every commit and every read, before anyone is answered.
type fence struct {
	vfs.FS
	fault atomic.Pointer[error]
	alarm func() // wakes the committer; does not block

	scratch *vfs.MemFS // files created since the fault
	locks   sync.Mutex // guards held
	held    []*heldLock

	logs    sync.Mutex // guards what follows
	opening bool       // Pebble may have no new log yet
	kept    []string   // logs that it wants removed meanwhile
}

func newFence(fs vfs.FS, alarm func()) *fence {
	return &fence{FS: fs, alarm: alarm, scratch: vfs.NewMem(), opening: true}
}

// err is nil until the engine is poisoned.
func (f *fence) err() error {
	if p := f.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// frozen reports that nothing more is changed in the directory.
func (f *fence) frozen() bool { return f.fault.Load() != nil }

// poison sets the cause, once.
func (f *fence) poison(cause error) {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	if f.fault.CompareAndSwap(nil, &err) {
		f.alarm()
	}
}

// change makes a change of the directory unless it is frozen.
func (f *fence) change(do func() error) error {
	if f.frozen() {
		return nil
	}
	if err := do(); err != nil {
		f.poison(err)
	}
	return nil
}

// open opens a file for writing, or a scratch file where that fails.
func (f *fence) open(name string, do func() (vfs.File, error)) (vfs.File, error) {
	if !f.frozen() {
		file, err := do()
		if err == nil {
			return &fencedFile{file, f}, nil
		}
		f.poison(err)
	}
	return f.scratch.Create(f.scratchName(name), vfs.WriteCategoryUnspecified)
}

func (f *fence) scratchName(name string) string { return "/" + f.PathBase(name) }

// Create implements vfs.FS.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// Open implements vfs.FS: a scratch file is found by its name.
func (f *fence) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.frozen() {
		if file, err := f.scratch.Open(f.scratchName(name)); err == nil {
			return file, nil
		}
	}
	return f.FS.Open(name, opts...)
}

// Stat implements vfs.FS.
func (f *fence) Stat(name string) (vfs.FileInfo, error) {
	if f.frozen() {
		if info, err := f.scratch.Stat(f.scratchName(name)); err == nil {
			return info, nil
		}
	}
	return f.FS.Stat(name)
}

// OpenDir implements vfs.FS: directories are synced.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fencedFile{dir, f}, nil
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	return f.change(func() error { return f.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	if f.frozen() {
		_ = f.scratch.Rename(f.scratchName(oldname), f.scratchName(newname)) // not there: it is in the frozen directory
		return nil
	}
	return f.change(func() error { return f.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	return f.change(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Remove implements vfs.FS. A file that stays costs space, not truth: Pebble
// tries again at the next open.
func (f *fence) Remove(name string) error {
	if f.frozen() {
		return nil
	}
	if f.keep(name) {
		return nil
	}
	if err := f.FS.Remove(name); err != nil && !oserror.IsNotExist(err) {
		return fmt.Errorf("remove an obsolete file: %w", err)
	}
	return nil
}

// keep puts off removing a log. Pebble removes those that it has replayed while
// it makes the next one: killed in between, it would leave tables without any
// log, which checkFiles refuses.
func (f *fence) keep(name string) bool {
	f.logs.Lock()
	defer f.logs.Unlock()
	if !f.opening || !strings.HasSuffix(name, ".log") {
		return false
	}
	f.kept = append(f.kept, name)
	return true
}

// opened says that there is a new log, and removes those that keep has kept.
func (f *fence) opened() {
	f.logs.Lock()
	kept := f.kept
	f.opening, f.kept = false, nil
	f.logs.Unlock()
	for _, name := range kept {
		_ = f.Remove(name) // one that stays is removed by the next open
	}
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error { return f.Remove(name) }

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// Lock implements vfs.FS.
func (f *fence) Lock(name string) (io.Closer, error) {
	c, err := f.FS.Lock(name)
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("create the lock file: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	l := &heldLock{Closer: c}
	f.locks.Lock()
	defer f.locks.Unlock()
	f.held = append(f.held, l)
	return l, nil
}

// release gives the directory's lock back where Pebble no longer can.
func (f *fence) release() {
	f.locks.Lock()
	defer f.locks.Unlock()
	for _, l := range f.held {
		_ = l.Close()
	}
}

// heldLock is a lock file that is closed once, by Pebble or by release.
type heldLock struct {
	io.Closer
	once sync.Once
	err  error
}

func (l *heldLock) Close() error {
	l.once.Do(func() { l.err = l.Closer.Close() })
	return l.err
}

// fencedFile is a file or directory whose changes pass the fence.
type fencedFile struct {
	vfs.File
	f *fence
}

func (w *fencedFile) Write(p []byte) (int, error) {
	return len(p), w.f.change(func() error { _, err := w.File.Write(p); return err })
}

func (w *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), w.f.change(func() error { _, err := w.File.WriteAt(p, off); return err })
}

func (w *fencedFile) Sync() error     { return w.f.change(w.File.Sync) }
func (w *fencedFile) SyncData() error { return w.f.change(w.File.SyncData) }

func (w *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = w.f.change(func() (err error) { full, err = w.File.SyncTo(length); return err })
	return full, err
}

// Close closes the file, frozen or not; a close that fails may have lost a write.
func (w *fencedFile) Close() error {
	if err := w.File.Close(); err != nil {
		w.f.poison(err)
	}
	return nil
}
