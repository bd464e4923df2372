package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"piivault/cmd/vault/internal/fakevault"
)

// killer is the process that a hook of the fake vault may kill.
type killer struct{ process atomic.Pointer[os.Process] }

func (k *killer) kill(t *testing.T) {
	t.Helper()
	if p := k.process.Load(); p != nil {
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
}

// vault runs the real program in dir and says whether it was killed.
func (k *killer) vault(t *testing.T, dir, address string, args ...string) (killed bool) {
	t.Helper()
	exe, err := exec.LookPath("vault") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+address, "VAULT_KEY="+fakevault.Key)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.process.Store(cmd.Process)
	err = cmd.Wait()
	k.process.Store(nil)
	if cmd.ProcessState.ExitCode() == -1 {
		return true // by a signal
	}
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return false
}

func manyPeople(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"C-%d", "email" : "p%d@example.com","phone":"+1201555%04d"}`+"\n", i, i, i)
	}
	return b.String()
}

// TestImportSurvivesKill9 kills the real program with SIGKILL again and again:
// before a request is applied, after it was applied and before the answer, and
// as the answer leaves. In the end every row is there once, in order, the vault
// made no token that nobody holds, and the bytes are those of a run that went
// on from the same journal head undisturbed.
func TestImportSurvivesKill9(t *testing.T) {
	const rows = 2500
	args := []string{"import", "people.jsonl", "--map", "email=email,phone=phone", "--subject", "id", "--out", "tokens.jsonl", "--batch", "20", "--parallel", "3"}
	dir, calm := t.TempDir(), t.TempDir()
	people := manyPeople(rows)
	for _, d := range []string{dir, calm} {
		writeFile(t, filepath.Join(d, "people.jsonl"), people)
	}
	fake, k := fakevault.New(), new(killer)
	kills, last := 0, 0
	hook := func(when int) func(string, int) *fakevault.Fault {
		return func(path string, n int) *fakevault.Fault {
			if path == "/v1/tokenize" && kills < 12 && n-last > 10+3*kills && kills%3 == when {
				kills, last = kills+1, n
				k.kill(t)
				if when < 2 {
					return &fakevault.Fault{} // no answer
				}
			}
			return nil
		}
	}
	fake.Before = hook(0)
	lost, answered := hook(1), hook(2)
	fake.After = func(path string, n int) *fakevault.Fault {
		if f := lost(path, n); f != nil {
			return f
		}
		return answered(path, n)
	}
	server := httptest.NewServer(fake)
	defer server.Close()

	runs, resumed := 1, 0
	for head := ""; k.vault(t, dir, server.URL, args...); runs++ {
		journal := readFile(t, filepath.Join(dir, "tokens.jsonl.journal"))
		first, _, _ := strings.Cut(journal, "\n")
		if head == "" {
			head = first
			writeFile(t, filepath.Join(calm, "tokens.jsonl.journal"), head+"\n")
		}
		if first != head {
			t.Fatal("a resumed run has an import id of its own")
		}
		if strings.Count(journal, "\n") > 1 {
			resumed++ // from the middle
		}
	}
	if kills < 10 || runs < 8 || resumed < 3 {
		t.Fatalf("%d kills, %d runs, %d of them resumed in the middle", kills, runs, resumed)
	}
	records := fake.Records()
	if len(records) != 2*rows {
		t.Errorf("the vault made %d tokens for %d values", len(records), 2*rows)
	}
	got := readFile(t, filepath.Join(dir, "tokens.jsonl"))
	if untokenized(t, got, records) != people {
		t.Error("the output does not stand for the input")
	}
	if k.vault(t, calm, server.URL, args...) || readFile(t, filepath.Join(calm, "tokens.jsonl")) != got {
		t.Error("an undisturbed run writes other bytes")
	}
	if n := len(fake.Records()); n != 2*rows {
		t.Errorf("the undisturbed run made %d tokens more", n-2*rows)
	}
	t.Logf("%d kills in %d runs, %d of them resumed in the middle", kills, runs, resumed)
}

// TestCtrlCStopsBetweenBatches: what was asked for is written, and the line on
// standard error says how to go on.
func TestCtrlCStopsBetweenBatches(t *testing.T) {
	dir := t.TempDir()
	people := manyPeople(200)
	writeFile(t, filepath.Join(dir, "people.jsonl"), people)
	fake := fakevault.New()
	var running atomic.Pointer[os.Process]
	fake.Before = func(path string, n int) *fakevault.Fault {
		if path == "/v1/tokenize" && n == 5 {
			if err := running.Load().Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	server := httptest.NewServer(fake)
	defer server.Close()
	command := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "vault", "import", "people.jsonl", "--map", "email=email,phone=phone", "--batch", "4", "--out", "tokens.jsonl")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "VAULT_ADDR="+server.URL, "VAULT_KEY="+fakevault.Key)
		return cmd
	}
	first := command()
	var stderr bytes.Buffer
	first.Stderr = &stderr
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	running.Store(first.Process)
	if err := first.Wait(); err == nil || first.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("exit %v: %s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "vault import: interrupted; give the same command again to resume\n") {
		t.Errorf("it said %s", stderr.String())
	}
	done := readFile(t, filepath.Join(dir, "tokens.jsonl"))
	if n := 2 * strings.Count(done, "\n"); n == 0 || n != len(fake.Records()) {
		t.Errorf("%d tokens are written, the vault made %d", n, len(fake.Records()))
	}
	if out, err := command().CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if untokenized(t, readFile(t, filepath.Join(dir, "tokens.jsonl")), fake.Records()) != people || len(fake.Records()) != 400 {
		t.Error("the output does not stand for the input")
	}
}

// untokenized puts values in the places of tokens.
func untokenized(t *testing.T, text string, records map[string]fakevault.Record) string {
	t.Helper()
	var back strings.Builder
	for line := range strings.Lines(text) {
		var row struct{ Email, Phone string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{row.Email, row.Phone} {
			line = strings.Replace(line, token, records[token].Value, 1)
		}
		back.WriteString(line)
	}
	return back.String()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
