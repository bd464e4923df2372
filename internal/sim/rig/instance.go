package rig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/client"
)

const (
	// patience is how long anything that must happen may take on a busy machine.
	patience = 60 * time.Second
	// kept are how many of an instance's last lines a failed test shows.
	kept = 40
)

// Instance is one `vault serve`, a process that can be killed and started again.
type Instance struct {
	Name   string
	Region string

	rig    *Rig
	config string // the file's path

	mu  sync.Mutex // guards what follows
	run *running   // nil before the first Start
	url string     // of the last life that served
}

// running is one life of an instance.
type running struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	told   bool // to end, or killed
	failed error

	mu    sync.Mutex // guards lines and raced
	lines []string
	raced bool
}

// Start starts the process and waits until it serves.
func (i *Instance) Start() error {
	cmd := exec.Command(i.rig.ground.Binary, "serve", "--config", i.config) //nolint:gosec,noctx // the binary that was built; Stop and Kill end it
	cmd.Env = i.rig.env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", i.Name, err)
	}
	run := &running{cmd: cmd, ended: make(chan struct{})}
	serving := make(chan string, 1)
	go run.watch(stderr, serving)
	i.mu.Lock()
	i.run = run
	i.mu.Unlock()
	select {
	case url := <-serving:
		i.mu.Lock()
		defer i.mu.Unlock()
		i.url = url
		return nil
	case <-run.ended:
		return fmt.Errorf("%s did not start: %w:\n%s", i.Name, run.failed, run.tail())
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s does not start:\n%s", i.Name, run.tail()), i.Kill())
	}
}

// watch reads what the process says until it ends.
func (r *running) watch(stderr io.Reader, serving chan<- string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Message, Listener, Addr string }
		if json.Unmarshal(lines.Bytes(), &line, json.MatchCaseInsensitiveNames(true)) == nil && line.Message == "serving" && line.Listener == "api" {
			serving <- "http://" + line.Addr
		}
		r.keep(lines.Text())
	}
	r.failed = r.cmd.Wait()
	close(r.ended)
}

func (r *running) keep(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raced = r.raced || strings.Contains(line, "WARNING: DATA RACE")
	if r.lines = append(r.lines, line); len(r.lines) > kept && !r.raced {
		r.lines = r.lines[1:]
	}
}

func (r *running) tail() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// Said are the last lines of the instance's log.
func (i *Instance) Said() string {
	if run := i.current(); run != nil {
		return run.tail()
	}
	return ""
}

// current is the instance's life, nil where it never began.
func (i *Instance) current() *running {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.run
}

// Kill is kill -9; it waits for the end.
func (i *Instance) Kill() error { return i.end(syscall.SIGKILL) }

// Stop ends the process as a deployment does and waits for it. It is an
// error if it ended by itself before, or badly, or had a data race.
func (i *Instance) Stop() error { return i.end(syscall.SIGTERM) }

func (i *Instance) end(signal os.Signal) error {
	run := i.current()
	if run == nil || run.told {
		return nil
	}
	run.told = true
	select {
	case <-run.ended:
		return fmt.Errorf("%s ended by itself: %w:\n%s", i.Name, run.failed, run.tail())
	default:
	}
	err := run.cmd.Process.Signal(signal)
	select {
	case <-run.ended:
	case <-time.After(patience):
		err = errors.Join(fmt.Errorf("%s does not end:\n%s", i.Name, run.tail()), run.cmd.Process.Kill())
		<-run.ended
	}
	if run.raced || (signal != syscall.SIGKILL && run.failed != nil) {
		err = errors.Join(err, fmt.Errorf("%s ended badly: %w:\n%s", i.Name, run.failed, run.tail()))
	}
	return err
}

// Client calls the instance where it served last, with the rig's key and no
// retries.
func (i *Instance) Client(tb testing.TB) *client.Client {
	tb.Helper()
	return i.ClientOf(tb, i.rig.Key)
}

// ClientOf is Client with another key.
func (i *Instance) ClientOf(tb testing.TB, key string) *client.Client {
	tb.Helper()
	i.mu.Lock()
	url := i.url
	i.mu.Unlock()
	c, err := client.New(url, key, client.Config{Retries: -1, Timeout: patience, HTTP: i.rig.http})
	if err != nil {
		tb.Fatalf("%s: %v", i.Name, err)
	}
	return c
}
