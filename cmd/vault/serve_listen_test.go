package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
)

// slow is an instance's listener whose requests are held until release.
type slow struct {
	*servers
	url     string
	entered chan struct{}
	release chan struct{}
}

func newSlow(t *testing.T, drain config.Drain) *slow {
	t.Helper()
	s := &slow{
		servers: &servers{logger: zerolog.New(t.Output()), drain: drain, draining: new(atomic.Bool)},
		entered: make(chan struct{}, 1), release: make(chan struct{}),
	}
	held := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.entered <- struct{}{}
		select {
		case <-s.release:
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	})
	if err := s.listen(t.Context(), &config.Config{Listen: "127.0.0.1:0"}, held, http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + s.list[0].listener.Addr().String()
	return s
}

// run serves until cancel; the request that is asked then is under way.
func (s *slow) run(t *testing.T) (cancel context.CancelFunc, served <-chan error, status <-chan int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done, answer := make(chan error, 1), make(chan int, 1)
	go func() { done <- s.serve(ctx, nil) }()
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
		if err != nil {
			answer <- 0
			return
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			answer <- 0
			return
		}
		_ = res.Body.Close()
		answer <- res.StatusCode
	}()
	<-s.entered
	return cancel, done, answer
}

// accepts reports that new connections are still taken.
func (s *slow) accepts(t *testing.T) bool {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	return err == nil && conn.Close() == nil
}

// TestDrainLetsRequestsFinish: what was begun is answered, and then it ends.
func TestDrainLetsRequestsFinish(t *testing.T) {
	s := newSlow(t, config.Drain{Timeout: time.Minute})
	cancel, served, status := s.run(t)
	cancel()
	for s.accepts(t) {
		runtime.Gosched()
	}
	select {
	case err := <-served:
		t.Fatalf("it ended with a request under way: %v", err)
	default:
	}
	close(s.release)
	if got := <-status; got != http.StatusNoContent {
		t.Errorf("a request under way was answered %d", got)
	}
	if err := <-served; err != nil || !s.draining.Load() {
		t.Errorf("%v", err)
	}
}

// TestDrainIsBounded: a request that does not end is cut off, and the error says so.
func TestDrainIsBounded(t *testing.T) {
	s := newSlow(t, config.Drain{Timeout: 20 * time.Millisecond})
	cancel, served, status := s.run(t)
	cancel()
	if err := <-served; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "requests of api did not finish in time") {
		t.Errorf("%v", err)
	}
	if got := <-status; got != 0 {
		t.Errorf("a request that was cut off was answered %d", got)
	}
}

// TestPoisonEndsServing: readiness goes first, nothing waits for load
// balancers, and the error says why.
func TestPoisonEndsServing(t *testing.T) {
	s := newSlow(t, config.Drain{Wait: time.Hour, Timeout: time.Second})
	poisoned := make(chan error, 1)
	poisoned <- io.ErrUnexpectedEOF
	if err := s.serve(t.Context(), poisoned); !errors.Is(err, io.ErrUnexpectedEOF) || !s.draining.Load() {
		t.Errorf("%v, draining: %v", err, s.draining.Load())
	}
}

// TestPoisonEndsDraining: nor does it wait when that happens while it drains.
func TestPoisonEndsDraining(t *testing.T) {
	s := newSlow(t, config.Drain{Wait: time.Hour, Timeout: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	poisoned := make(chan error)
	go func() { poisoned <- io.ErrUnexpectedEOF }()
	if err := s.serve(ctx, poisoned); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

// TestListenFailsCleanly: a taken address frees those that were bound before.
func TestListenFailsCleanly(t *testing.T) {
	taken := newSlow(t, config.Drain{})
	address := strings.TrimPrefix(taken.url, "http://")
	s := &servers{logger: zerolog.Nop(), draining: new(atomic.Bool)}
	err := s.listen(t.Context(), &config.Config{Listen: "127.0.0.1:0", Metrics: address}, http.NotFoundHandler(), http.NotFoundHandler())
	if err == nil || !strings.Contains(err.Error(), "listen for metrics") {
		t.Errorf("%v", err)
	}
	if err := errors.Join(s.close(), taken.close()); err != nil || len(s.list) != 1 {
		t.Errorf("%v, %d listeners", err, len(s.list))
	}
}
