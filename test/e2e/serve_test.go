package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/sim"
)

// roomEnv is how many bytes a serving child may write: a disk for machines
// where the test may not mount one.
const roomEnv = "E2E_ROOM"

// serveChild serves two regions as `vault dev` does, on a disk that fills up.
func serveChild() int {
	room, err := strconv.ParseInt(os.Getenv(roomEnv), 10, 64)
	if err == nil {
		err = serveUntilPoisoned(os.Getenv(dirEnv), fullAfter(room))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vault dev: %v\n", err)
		return 1
	}
	return 0
}

func serveUntilPoisoned(dir string, fs vfs.FS) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	poisoned := make(chan error, 2)
	cfg := worldConfig(dir, fs)
	cfg.OnPoison = func(_ string, err error) { poisoned <- err }
	w, err := sim.Open(ctx, cfg)
	if err != nil {
		return err
	}
	s, err := serve(w, func(h http.Handler) http.Handler { return h })
	if err != nil {
		return err
	}
	if err := ensureKey(ctx, w, filepath.Join(dir, "dev.key")); err != nil {
		return err
	}
	w.Run(ctx)
	for _, r := range w.Regions {
		fmt.Fprintf(os.Stdout, "  region %-12s %s\n", r.Name, s.servers[r.Name].URL)
	}
	fmt.Fprintln(os.Stdout, "Ctrl-C stops it")
	select {
	case <-ctx.Done():
		return s.close()
	case err := <-poisoned:
		_ = s.close() // says the same
		return err
	}
}

func ensureKey(ctx context.Context, w *sim.World, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	credential, err := w.Bootstrap(ctx)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(credential.Reveal()), 0o600)
}

// fullAfter is the real file system until so many bytes are written.
func fullAfter(room int64) vfs.FS {
	var left atomic.Int64
	left.Store(room)
	return &limitedFS{vfs.Default, &left}
}

type limitedFS struct {
	vfs.FS
	left *atomic.Int64
}

func (l *limitedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return limitedFile{f, l}, err
}

func (l *limitedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(oldname, newname, c)
	return limitedFile{f, l}, err
}

type limitedFile struct {
	vfs.File
	fs *limitedFS
}

func (f limitedFile) Write(p []byte) (int, error) {
	if f.fs.left.Add(-int64(len(p))) < 0 {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}
