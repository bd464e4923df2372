package pinned_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"piivault/internal/sim/pinned"
)

func TestRoot(t *testing.T) {
	root, err := pinned.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "internal", "sim", "pinned")); err != nil {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	if _, err := pinned.Root(); err == nil {
		t.Error("found a module where none is")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not yet", "lock")
	unlock, err := pinned.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		release, err := pinned.Lock(path)
		if err == nil {
			err = release()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("a second one holds it: %v", err)
	case <-time.After(50 * time.Millisecond): // never too short: the second one waits for ever
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// An empty list makes an environment of its own, once; another hash another.
func TestVenv(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "go.mod", "module m\n")
	write(t, "list.txt", "# nothing\n")
	bin, err := pinned.Venv(t.Context(), "none", "list.txt")
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(bin, "mark")
	write(t, mark, "")
	if again, err := pinned.Venv(t.Context(), "none", "list.txt"); err != nil || again != bin {
		t.Errorf("again: %s, %v", again, err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("it was made again")
	}
	write(t, "list.txt", "no-hash==1.0\n")
	if _, err := pinned.Venv(t.Context(), "none", "list.txt"); err == nil {
		t.Error("installed without a hash")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
