package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"piivault/client"
)

// disk is small, and grows.
type disk struct {
	dir   string
	start func(t *testing.T) *process
	grow  func(t *testing.T)
}

// mounted is a tmpfs; false where this test may not mount one.
func mounted(t *testing.T) (disk, bool) {
	t.Helper()
	dir := t.TempDir()
	mount := func(options string) error {
		return exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).Run()
	}
	if err := mount("size=24m"); err != nil {
		t.Logf("mount: %v", err)
		return disk{}, false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	data := dir + "/data"
	return disk{
		dir:   data,
		start: func(t *testing.T) *process { t.Helper(); return startDev(t, data) },
		grow: func(t *testing.T) {
			t.Helper()
			if err := mount("remount,size=200m"); err != nil {
				t.Fatal(err)
			}
		},
	}, true
}

// limited is a limit on what a child of this binary may write.
func limited(t *testing.T) disk {
	t.Helper()
	dir, room := t.TempDir(), 24<<20
	return disk{
		dir: dir,
		start: func(t *testing.T) *process {
			t.Helper()
			cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=serve", dirEnv+"="+dir, fmt.Sprintf("%s=%d", roomEnv, room))
			return start(t, dir, cmd)
		},
		grow: func(*testing.T) { room = 200 << 20 },
	}
}

// G1, design §5: on a full disk clients get 503, never a token that is not
// durable, the process ends and says why, and with room again all that was
// acknowledged is there.
func TestFullDisk(t *testing.T) {
	t.Run("limited", func(t *testing.T) { fillDisk(t, limited(t)) })
	if d, ok := mounted(t); ok {
		t.Run("tmpfs", func(t *testing.T) { fillDisk(t, d) })
	}
}

func fillDisk(t *testing.T, d disk) {
	t.Helper()
	p := d.start(t)
	acked := fill(t, p)
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	said := p.stderr.String()
	wantText(t, said, "vault dev: ")
	wantText(t, said, "no space left on device")
	if strings.Contains(said, "goroutine ") {
		t.Error("it panicked")
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	d.grow(t)
	p = d.start(t)
	for _, region := range []string{regionA, regionB} {
		wantValues(t, p.client(region), acked)
	}
	p.stop()
	t.Logf("%d values of 4 KiB acknowledged", len(acked))
}

// fill writes from several clients until the vault stops.
func fill(t *testing.T, p *process) (acked []kept) {
	t.Helper()
	const clients = 4
	var mu sync.Mutex // guards acked and refused
	var refused int
	var wg sync.WaitGroup
	for i := range clients {
		c := p.client(regionA)
		wg.Go(func() {
			for n := range 10_000 {
				items := make([]client.TokenizeItem, 10)
				for k := range items {
					items[k] = item("text", fmt.Sprintf("%d %d %d %4000d", i, n, k, n))
				}
				answer, err := c.Tokenize(t.Context(), "", client.TokenizeRequest{Items: items})
				mu.Lock()
				if err == nil {
					acked = append(acked, keptOf(items, answer)...)
				}
				var refusal *client.Error
				answered := errors.As(err, &refusal)
				if answered {
					refused++
				}
				mu.Unlock()
				switch {
				case err == nil:
				case !answered:
					return // it has ended: nobody listens
				case refusal.Status != http.StatusServiceUnavailable:
					t.Errorf("on a full disk: %v", err)
					return
				}
			}
			t.Error("the disk never filled")
		})
	}
	wg.Wait()
	if refused == 0 {
		t.Error("no client was told 503")
	}
	return acked
}
