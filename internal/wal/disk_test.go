package wal_test

import (
	"errors"
	"fmt"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/wal"
)

// disk is a small file system that can grow: a tmpfs, or where mounting is
// not allowed, a limit on the bytes written to the temporary directory.
type disk struct {
	dir  string
	fs   vfs.FS
	grow func()
}

func smallDisk(t *testing.T) disk {
	t.Helper()
	dir := t.TempDir()
	mount := func(opts string) error {
		out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", opts, "tmpfs", dir).CombinedOutput()
		if err != nil {
			t.Logf("mount: %s", out)
		}
		return err
	}
	if mount("size=20m") != nil {
		limited := &limitedFS{FS: vfs.Default}
		limited.left.Store(20 << 20)
		return disk{dir, limited, func() { limited.left.Store(80 << 20) }}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return disk{dir, nil, func() {
		if err := mount("remount,size=80m"); err != nil {
			t.Fatal(err)
		}
	}}
}

// limitedFS takes so many bytes and no more; what is removed gives nothing back.
type limitedFS struct {
	vfs.FS
	left atomic.Int64
}

type limitedFile struct {
	vfs.File
	fs *limitedFS
}

func (l *limitedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return limitedFile{f, l}, err
}

func (l *limitedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(oldname, newname, c)
	return limitedFile{f, l}, err
}

func (f limitedFile) Write(p []byte) (int, error) {
	if room := f.fs.left.Add(-int64(len(p))); room < 0 {
		n, err := f.File.Write(p[:max(0, int64(len(p))+room)])
		return n, errors.Join(syscall.ENOSPC, err)
	}
	return f.File.Write(p)
}

// G1: a full disk poisons; with room again everything acknowledged is there.
func TestAFullDisk(t *testing.T) {
	d := smallDisk(t)
	o := options(d.dir + "/data")
	o.FS = d.fs
	e := open(t, o)
	acked := fill(t, e)
	if err := e.Close(); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("close: %v", err)
	}
	if e, err := wal.Open(o); err == nil {
		_ = e.Close() // there was room for what opening writes
	} else if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("open on a full disk: %v", err)
	}
	d.grow()
	e = open(t, o)
	items, _ := dump(t, e)
	for _, key := range acked {
		if items[key] != key+padding {
			t.Fatalf("%s of %d was acknowledged and is lost", key, len(acked))
		}
	}
	if len(items) > len(acked)+1 {
		t.Errorf("%d items, %d acknowledged", len(items), len(acked))
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// fill writes until the disk is full and lists what was acknowledged.
func fill(t *testing.T, e *wal.Engine) (acked []string) {
	t.Helper()
	for i := range 10_000 {
		key := fmt.Sprintf("k%05d", i)
		err := e.Submit(put(key, key+padding)).Wait(t.Context())
		if errors.Is(err, wal.ErrPoisoned) && errors.Is(err, syscall.ENOSPC) {
			return acked
		}
		if err != nil {
			t.Fatal(err)
		}
		acked = append(acked, key)
	}
	t.Fatal("the disk never filled")
	return nil
}
