package e2e

import (
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// stepFS hands every operation that changes the file system to step, which
// must do it.
type stepFS struct {
	vfs.FS
	step func(do func() error) error
}

func (s *stepFS) open(do func() (vfs.File, error)) (file vfs.File, err error) {
	err = s.step(func() (err error) { file, err = do(); return err })
	if err != nil {
		return nil, err
	}
	return &stepFile{file, s}, nil
}

func (s *stepFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.open(func() (vfs.File, error) { return s.FS.Create(name, c) })
}

func (s *stepFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.open(func() (vfs.File, error) { return s.FS.OpenReadWrite(name, c, opts...) })
}

func (s *stepFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.open(func() (vfs.File, error) { return s.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir implements vfs.FS: directories are synced.
func (s *stepFS) OpenDir(name string) (vfs.File, error) {
	dir, err := s.FS.OpenDir(name)
	return &stepFile{dir, s}, err
}

func (s *stepFS) Link(oldname, newname string) error {
	return s.step(func() error { return s.FS.Link(oldname, newname) })
}

func (s *stepFS) Rename(oldname, newname string) error {
	return s.step(func() error { return s.FS.Rename(oldname, newname) })
}

func (s *stepFS) MkdirAll(dir string, perm os.FileMode) error {
	return s.step(func() error { return s.FS.MkdirAll(dir, perm) })
}

func (s *stepFS) Remove(name string) error {
	return s.step(func() error { return s.FS.Remove(name) })
}

func (s *stepFS) RemoveAll(name string) error {
	return s.step(func() error { return s.FS.RemoveAll(name) })
}

func (s *stepFS) Unwrap() vfs.FS { return s.FS }

type stepFile struct {
	vfs.File
	fs *stepFS
}

func (f *stepFile) Write(p []byte) (n int, err error) {
	err = f.fs.step(func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *stepFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fs.step(func() (err error) { n, err = f.File.WriteAt(p, at); return err })
	return n, err
}

func (f *stepFile) Sync() error     { return f.fs.step(f.File.Sync) }
func (f *stepFile) SyncData() error { return f.fs.step(f.File.SyncData) }

func (f *stepFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.step(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// killAt returns a step that kills this process with its n-th call, before or
// after the operation is done. 0 never does.
func killAt(n int64, after bool) func(do func() error) error {
	var steps atomic.Int64
	die := func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing of this process happens any more
	}
	return func(do func() error) error {
		now := steps.Add(1)
		if now == n && !after {
			die()
		}
		err := do()
		if now == n && after {
			die()
		}
		return err
	}
}
