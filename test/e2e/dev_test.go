package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"piivault/client"
)

// curl is the command of the screen, as it is printed.
func (p *process) curl() string {
	p.t.Helper()
	_, rest, found := strings.Cut(p.screen, "\n  curl ")
	command, _, ended := strings.Cut("  curl "+rest, "\n\n")
	if !found || !ended {
		p.t.Fatalf("no curl on the screen:\n%s", p.screen)
	}
	return command
}

// The first minutes: the printed curl gives a token, which opens in the other
// region, and a restart keeps everything.
func TestDevPrintsACurlThatWorks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := startDev(t, dir)
	out, err := exec.CommandContext(t.Context(), "sh", "-c", p.curl()).Output()
	if err != nil {
		t.Fatalf("%s: %v", p.curl(), err)
	}
	var answer client.TokenizeResponse
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.Items) != 1 || answer.Items[0].Token == "" {
		t.Fatalf("the printed curl did not give a token: %v", err)
	}
	list := []kept{{"ann@example.com", answer.Items[0].Token}}
	wantValues(t, p.client(regionB), list)
	if copies := answer.Items[0].KeyCopies; len(copies.Present) != 2 || len(copies.Missing) != 0 {
		t.Errorf("key copies %v", copies)
	}
	key := p.key()
	info, err := os.Stat(filepath.Join(dir, "dev.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("dev.key: %v, %v", info.Mode(), err)
	}
	p.stop()

	again := startDev(t, dir)
	if again.key() != key {
		t.Error("a restart changed dev.key")
	}
	wantValues(t, again.client(regionA), list)
	wantValues(t, again.client(regionB), list)
	again.stop()
}

// heldRequest is a tokenize whose handler has begun to read a body that is
// not sent whole yet.
type heldRequest struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	rest string
}

func (p *process) hold(region string) *heldRequest {
	p.t.Helper()
	var d net.Dialer
	host := strings.TrimPrefix(p.addrs[region], "http://")
	conn, err := d.DialContext(p.t.Context(), "tcp", host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	const body = `{"items":[{"type":"email","value":"held@example.com"}]}`
	h := &heldRequest{p.t, conn, bufio.NewReader(conn), body[10:]}
	fmt.Fprintf(conn, "POST /v1/tokenize HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", host, p.key(), len(body))
	line, err := h.in.ReadString('\n') // sent when the handler reads
	if err != nil || !strings.Contains(line, "100 Continue") {
		p.t.Fatalf("%q, %v", line, err)
	}
	_, _ = h.in.ReadString('\n')
	fmt.Fprint(conn, body[:10])
	return h
}

// finish sends the rest and returns the token.
func (h *heldRequest) finish() string {
	h.t.Helper()
	fmt.Fprint(h.conn, h.rest)
	resp, err := http.ReadResponse(h.in, nil)
	if err != nil {
		h.t.Fatalf("a request under way got no answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	var answer client.TokenizeResponse
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK || len(answer.Items) != 1 {
		h.t.Fatalf("a request under way: status %d, %v", resp.StatusCode, err)
	}
	return answer.Items[0].Token
}

// Ctrl-C and SIGTERM let requests under way end, and no others begin.
func TestDevDrains(t *testing.T) {
	dir := t.TempDir()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startDev(t, dir)
		held := []*heldRequest{p.hold(regionA), p.hold(regionB)}
		p.signal(signal)
		for _, h := range held {
			eventually(t, "no new connections", func() bool {
				var d net.Dialer
				conn, err := d.DialContext(t.Context(), "tcp", h.conn.RemoteAddr().String())
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
		}
		var list []kept
		for _, h := range held {
			list = append(list, kept{"held@example.com", h.finish()})
		}
		if code := p.wait(); code != 0 {
			t.Errorf("%v: exit code %d: %s", signal, code, p.stderr)
		}
		again := startDev(t, dir)
		wantValues(t, again.client(regionA), list)
		wantValues(t, again.client(regionB), list)
		again.stop()
	}
}

// G1: kill -9 under load loses nothing that was acknowledged, in both regions.
func TestDevSurvivesKill9UnderLoad(t *testing.T) {
	const clients, enough = 4, 100
	dir := t.TempDir()
	p := startDev(t, dir)
	var mu sync.Mutex // guards acked
	var acked []kept
	full := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		c := p.client([]string{regionA, regionB}[i%2])
		wg.Go(func() {
			for n := 0; ; n++ {
				items := []client.TokenizeItem{item("email", fmt.Sprintf("u%d.%d@example.com", i, n)), item("text", fmt.Sprintf("note %d of client %d", n, i))}
				answer, err := c.Tokenize(t.Context(), "", client.TokenizeRequest{Items: items})
				if err != nil {
					return // it was killed
				}
				mu.Lock()
				before := len(acked)
				acked = append(acked, keptOf(items, answer)...)
				if before < enough && len(acked) >= enough {
					close(full)
				}
				mu.Unlock()
			}
		})
	}
	<-full
	p.kill()
	wg.Wait()
	again := startDev(t, dir)
	wantValues(t, again.client(regionA), acked)
	wantValues(t, again.client(regionB), acked)
	again.stop()
	t.Logf("%d acknowledged", len(acked))
}

// refused runs a command that must not start, and returns what it says.
func refused(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if stdout.Len() > 0 {
		t.Errorf("it printed:\n%s", stdout.String())
	}
	log, last, _ := strings.Cut("\n"+strings.TrimSuffix(stderr.String(), "\n"), "\nvault dev: ")
	for line := range strings.Lines(strings.TrimPrefix(log, "\n")) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("neither the log nor a clear line: %s", line)
		}
	}
	if last == "" || strings.Contains(last, "\n") {
		t.Errorf("not one clear line at the end:\n%s", stderr.String())
	}
	return last
}

func wantText(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("it should say %q, and says: %s", want, text)
	}
}

func TestDevRefusesWhatIsTaken(t *testing.T) {
	dir := t.TempDir()
	p := startDev(t, dir)
	list := keep(t, p.client(regionA), item("email", "ann@example.com"))

	wantText(t, refused(t, devCommand(t, dir)), "in use")
	other := devCommand(t, filepath.Join(t.TempDir(), "other"))
	for i, arg := range other.Args {
		if arg == "--addr2" {
			other.Args[i+1] = strings.TrimPrefix(p.addrs[regionA], "http://")
		}
	}
	wantText(t, refused(t, other), "address already in use")
	open := devCommand(t, filepath.Join(t.TempDir(), "open"), "--addr", "0.0.0.0:0")
	wantText(t, refused(t, open), "loopback")

	wantValues(t, p.client(regionB), list) // undisturbed
	p.stop()
}
