package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"piivault/client"
	"piivault/internal/httpapi/apitest"
)

const (
	regionA = "eu-west-1"
	regionB = "us-east-1"
)

// buffer is what a process wrote so far.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// process is one that serves two regions, `vault dev` as a rule.
type process struct {
	t        *testing.T
	contract *apitest.Contract
	cmd      *exec.Cmd
	dir      string
	addrs    map[string]string // by region
	screen   string
	stderr   *buffer
	ended    chan struct{}
	err      error // of Wait; read after ended
}

// devCommand is `vault dev` on free ports.
func devCommand(t *testing.T, dir string, more ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"dev", "--addr", "127.0.0.1:0", "--addr2", "127.0.0.1:0", "--data", dir}, more...)
	return exec.CommandContext(context.WithoutCancel(t.Context()), vaultBinary(t), args...)
}

// startDev starts `vault dev` and waits until it has printed its screen.
func startDev(t *testing.T, dir string, more ...string) *process {
	t.Helper()
	return start(t, dir, devCommand(t, dir, more...))
}

var address = regexp.MustCompile(`(?m)^  region (\S+) +(http://\S+)$`)

func start(t *testing.T, dir string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, contract: contractOf(t), cmd: cmd, dir: dir, addrs: map[string]string{}, stderr: &buffer{}, ended: make(chan struct{})}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the child has its own
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	out := bufio.NewScanner(read)
	for out.Scan() && !strings.HasPrefix(out.Text(), "Ctrl-C") {
		p.screen += out.Text() + "\n"
	}
	go func() { // until the process ends
		_, _ = io.Copy(io.Discard, read)
		_ = read.Close()
	}()
	for _, found := range address.FindAllStringSubmatch(p.screen, -1) {
		p.addrs[found[1]] = found[2]
	}
	if p.addrs[regionA] == "" {
		p.kill()
		t.Fatalf("it did not start:\n%s%s", p.screen, p.stderr)
	}
	return p
}

// kill is kill -9.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// wait returns the exit code, -1 of a process that was killed.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.signal(syscall.SIGQUIT) // says where it hangs
		<-p.ended
		p.t.Fatalf("it does not end:\n%s", p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends it as Ctrl-C does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != 0 {
		p.t.Errorf("exit code %d:\n%s", code, p.stderr)
	}
}

// key is the credential with every role.
func (p *process) key() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "dev.key"))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// client calls a region; every exchange is held against the contract.
func (p *process) client(region string) *client.Client {
	p.t.Helper()
	return newClient(p.t, p.addrs[region], p.key(), p.contract)
}

func newClient(t *testing.T, address, key string, contract *apitest.Contract) *client.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(address, key, client.Config{Retries: -1, Timeout: patience, HTTP: &http.Client{Transport: contract.Transport(transport)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fault turns switches of `vault dev`.
func (p *process) fault(body string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.addrs[regionA]+"/dev/faults", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		p.t.Fatalf("fault %s: status %d", body, resp.StatusCode)
	}
}

// eventually polls until ok says so. What is waited for happens in another
// process, on its own clock.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// runCLI runs a client command of the binary and returns its exit code.
func runCLI(t *testing.T, address, key string, args ...string) (code int, stderr string) {
	t.Helper()
	cmd := cliCommand(t, address, key, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func cliCommand(t *testing.T, address, key string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), vaultBinary(t), args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+address, "VAULT_KEY="+key)
	return cmd
}
