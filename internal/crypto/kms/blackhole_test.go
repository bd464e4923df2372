package kms_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"piivault/internal/crypto"
)

// blackhole is an address whose packets are dropped, as a lost route or a
// security group drops them: nobody accepts, and its queue is full, so that
// the kernel leaves further SYNs unanswered (listen(2), tcp(7)).
type blackhole struct {
	listener net.Listener
	waiting  []net.Conn // fill the queue
}

func newBlackhole(t *testing.T) *blackhole {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	check(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(t, syscall.Listen(fd, 0))
	file := os.NewFile(uintptr(fd), "blackhole")
	b := &blackhole{}
	b.listener, err = net.FileListener(file)
	check(t, err)
	check(t, file.Close())
	t.Cleanup(func() {
		_ = b.listener.Close()
		for _, c := range b.waiting {
			_ = c.Close()
		}
	})
	for {
		dialer := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := dialer.DialContext(t.Context(), "tcp", b.listener.Addr().String())
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return b
		}
		check(t, err)
		b.waiting = append(b.waiting, c)
	}
}

func (b *blackhole) url() string { return fmt.Sprintf("http://%s", b.listener.Addr()) }

// heal has the handler answer there from now on.
func (b *blackhole) heal(t *testing.T, handler http.Handler) {
	t.Helper()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	var wait sync.WaitGroup
	wait.Go(func() { _ = server.Serve(b.listener) })
	t.Cleanup(func() {
		_ = server.Close()
		wait.Wait()
	})
}

// G2: packets to the remote KMS are dropped. The first writes, 64 at once,
// wait for one timeout; the next ones for nothing and go on without its copy;
// a probe finds out that the packets pass again.
func TestBlackHole(t *testing.T) {
	s := newService(t)
	hole := newBlackhole(t)
	c := ringConfig(t, s, crypto.Copies)
	c.Regions[1].KMS = client(t, there, hole.url())
	r, sealer := ring(t, c, here)
	v := value("x")

	var wait sync.WaitGroup
	start := time.Now()
	for range 64 {
		wait.Go(func() {
			sealed, err := sealer.Seal(t.Context(), []crypto.Value{v})
			if err != nil {
				t.Error(err)
				return
			}
			wantMissing(t, sealed, there)
		})
	}
	wait.Wait()
	if waited := time.Since(start); waited < ringTimeout || waited > 4*ringTimeout {
		t.Errorf("the first writes waited %v, the timeout is %v", waited, ringTimeout)
	}
	var slowest time.Duration
	for range 50 {
		start := time.Now()
		wantMissing(t, seal(t, sealer, v), there)
		slowest = max(slowest, time.Since(start))
	}
	if slowest >= ringTimeout {
		t.Errorf("with the breaker open a write waited %v", slowest)
	}
	r.Probe(t.Context())
	if states := health(r); states[there] != crypto.Down || states[here] != crypto.Up {
		t.Errorf("states %v", states)
	}

	hole.heal(t, s)
	r.Probe(t.Context())
	wantMissing(t, seal(t, sealer, v))
	if n := s.Calls(there)["Encrypt"]; n != 1 {
		t.Errorf("%d copies", n)
	}
}
