package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is how many units of /proc/PID/stat make a second (proc(5), USER_HZ).
const ticks = 100

// server is one of the two processes under load.
type server struct {
	name, addr, key string
	cmd             *exec.Cmd
	exited          chan struct{}
	tokens          []string
}

func startFloor(ctx context.Context, dir string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{name: "floor", addr: addr, key: "none"}
	return s, s.start(ctx, dir, self, "floor", addr, dir)
}

// startVault builds the command that users run, with further flags of the
// build, and starts it on dir.
func startVault(ctx context.Context, dir string, args []string, flags ...string) (*server, error) {
	binary, data := filepath.Join(dir, "vault"), filepath.Join(dir, "data")
	flags = append([]string{"build", "-o", binary}, flags...)
	build := exec.CommandContext(ctx, "go", append(flags, "./cmd/vault")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build ./cmd/vault: %w", err)
	}
	first, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	second, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{name: "vault", addr: first}
	args = append(args, "--addr", first, "--addr2", second, "--data", data)
	if err := s.start(ctx, dir, binary, args...); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(data, "dev.key"))
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.key = strings.TrimSpace(string(key))
	return s, nil
}

// start runs the command and waits until it answers /readyz.
func (s *server) start(ctx context.Context, dir, name string, args ...string) error {
	s.cmd = exec.Command(name, args...) //nolint:noctx // stopped by stop, with time to close its files
	log, err := os.Create(filepath.Join(dir, s.name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // stop asks ProcessState
		close(s.exited)
	}()
	if err := s.ready(ctx); err != nil {
		said, _ := os.ReadFile(log.Name())
		return errors.Join(fmt.Errorf("%w; it said:\n%s", err, said), s.stop())
	}
	return nil
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/readyz", nil)
	if err != nil {
		return err
	}
	for {
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s exited", s.name)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", s.name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop lets the server close its files, for ten seconds at most.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have exited
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("%s did not stop when asked", s.name)
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s", s.name, s.cmd.ProcessState)
	}
	return nil
}

// settle waits, three seconds at most, until the server does nothing: what it
// put off (compaction, replication) must not run in the other's turn. It
// returns the CPU time used so far.
func (s *server) settle(ctx context.Context) (time.Duration, error) {
	const quiet = 100 * time.Millisecond
	last, err := s.cpu()
	for range 3 * time.Second / quiet {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(quiet):
		}
		var now time.Duration
		if now, err = s.cpu(); err != nil || now-last <= quiet/10 {
			return now, err
		}
		last = now
	}
	return last, err
}

// cpu is the process's user and system time (proc(5), stat fields 14 and 15).
func (s *server) cpu() (time.Duration, error) {
	stat, err := s.proc("stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("unknown form of /proc/PID/stat")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticks, errors.Join(err1, err2)
}

// resetPeak makes the peak of resident memory start anew (proc(5), clear_refs).
func (s *server) resetPeak() error {
	return os.WriteFile(s.procPath("clear_refs"), []byte("5"), 0)
}

// memory is the resident set and its peak in MiB.
func (s *server) memory() (rss, peak float64, err error) {
	status, err := s.proc("status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			rss = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return rss, peak, nil
}

func (s *server) proc(name string) (string, error) {
	b, err := os.ReadFile(s.procPath(name))
	return string(b), err
}

func (s *server) procPath(name string) string {
	return fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name)
}

func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
