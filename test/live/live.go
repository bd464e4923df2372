// Package live starts `vault dev`, the real command, for tests that drive it
// from other languages.
package live

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Vault is a running `vault dev`.
type Vault struct {
	Addrs []string // of its two regions, in the order of its screen
	Key   string   // a credential with every role
}

var address = regexp.MustCompile(`(?m)^  region \S+ +(http://\S+)$`)

// Start builds the command and runs it with an empty data directory on free
// ports until tb ends, which fails when it does not drain and exit with 0.
func Start(tb testing.TB) Vault {
	tb.Helper()
	dir := tb.TempDir()
	binary, data := filepath.Join(dir, "vault"), filepath.Join(dir, "data")
	if out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, "piivault/cmd/vault").CombinedOutput(); err != nil { //nolint:gosec // our own path
		tb.Fatalf("build cmd/vault: %v\n%s", err, out)
	}
	var stderr bytes.Buffer // read after the process has ended
	out, in := io.Pipe()
	cmd := exec.CommandContext(tb.Context(), binary, "dev", "--addr", "127.0.0.1:0", "--addr2", "127.0.0.1:0", "--data", data) //nolint:gosec // our own paths
	cmd.Stdout, cmd.Stderr = in, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	screen, ended := make(chan string, 1), make(chan struct{})
	go func() {
		screen <- read(out)
		_, _ = io.Copy(io.Discard, out) // until it ends
	}()
	go func() {
		defer close(ended)
		_ = cmd.Wait() // that it was told to end; ProcessState says how it did
		_ = in.Close()
	}()
	tb.Cleanup(func() {
		if <-ended; !cmd.ProcessState.Success() {
			tb.Errorf("vault dev: %s\n%s", cmd.ProcessState, stderr.String())
		}
	})
	v := Vault{}
	for _, found := range address.FindAllStringSubmatch(<-screen, -1) {
		v.Addrs = append(v.Addrs, found[1])
	}
	if len(v.Addrs) != 2 {
		tb.Fatal("vault dev did not start")
	}
	key, err := os.ReadFile(filepath.Join(data, "dev.key"))
	if err != nil {
		tb.Fatal(err)
	}
	v.Key = strings.TrimSpace(string(key))
	return v
}

// read returns what is printed before the last line, by when all is there.
func read(out io.Reader) string {
	var screen strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "Ctrl-C"); {
		screen.WriteString(lines.Text() + "\n")
	}
	return screen.String()
}
