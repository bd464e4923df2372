package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"piivault/client"
)

// The sample of people, and what of them is imported.
const (
	people       = "../../internal/pii/testdata/people.jsonl"
	peopleMap    = "name=name,email=email,phone=phone:country,date_of_birth=date_of_birth,address=address,card_number=card_number,ip=ip,ssn=ssn,iban=iban"
	peopleFields = "name,email,phone,date_of_birth,address,card_number,ip,ssn,iban"
)

func importArgs(out string) []string {
	return []string{"import", people, "--map", peopleMap, "--subject", "customer_id", "--out", out, "--batch", "50"}
}

// wantExpected compares an export with what Python says it must be, and
// returns how many fields that were.
func wantExpected(t *testing.T, exported string) (fields int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", "../expect/normalize.py", people, "--compare", exported).CombinedOutput()
	text := string(out)
	if err != nil || !strings.HasSuffix(text, "mismatches 0\n") {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := fmt.Sscanf(text[strings.LastIndex(text, "fields "):], "fields %d,", &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

// exportPeople is the way back in a region.
func exportPeople(t *testing.T, p *process, region, tokens string) (fields int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "plain.jsonl")
	if code, said := runCLI(t, p.addrs[region], p.key(), "export", tokens, "--fields", peopleFields, "--purpose", "e2e", "--out", out); code != 0 {
		t.Fatalf("export: exit code %d: %s", code, said)
	}
	return wantExpected(t, out)
}

// The main job: people in through region A, out in region B, every field as
// an expectation says that knows none of our code; no two fields share a
// token and none has two.
func TestPeopleThereAndBack(t *testing.T) {
	p := startDev(t, t.TempDir())
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	if code, said := runCLI(t, p.addrs[regionA], p.key(), importArgs(tokens)...); code != 0 {
		t.Fatalf("import: exit code %d: %s", code, said)
	}
	fields := exportPeople(t, p, regionB, tokens)
	p.wantRecords(fields)
	p.stop()
	t.Logf("%d fields", fields)
}

// wantRecords counts the records that were ever made, by their entries. They
// are indexed in their order, but behind: a last one says that all are there.
func (p *process) wantRecords(want int) {
	p.t.Helper()
	c := p.client(regionA)
	last := keep(p.t, c, item("email", "last@example.com"))
	eventually(p.t, "the index of the audit log", func() bool {
		return len(auditOf(p.t, c, client.AuditQueryRequest{Token: last[0].Token})) > 0
	})
	made := recordsOf(auditOf(p.t, c, client.AuditQueryRequest{Action: "tokenize", Outcome: "authorized"}))
	if len(made) != want+1 {
		p.t.Errorf("%d records were made for %d fields", len(made)-1, want)
	}
}

// killer is a proxy that kills a command with -9 at its n-th tokenize, before
// the vault hears of it or after it has answered.
type killer struct {
	at      int64
	after   bool
	to      string
	seen    atomic.Int64
	cmd     *exec.Cmd
	started chan struct{} // closed when cmd is
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	last := r.URL.Path == "/v1/tokenize" && k.seen.Add(1) == k.at
	if last && !k.after {
		k.kill()
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the command is gone
	}
	onward, err := http.NewRequestWithContext(r.Context(), r.Method, k.to+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	onward.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(onward)
	if err != nil {
		http.Error(w, "gone", http.StatusBadGateway)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	if last {
		k.kill()
		return
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

func (k *killer) kill() {
	<-k.started
	_ = k.cmd.Process.Kill() // its end is what the test waits for
}

// importKilled runs the import until it is killed; it reports one that was
// through before.
func importKilled(t *testing.T, p *process, k *killer, out string) (ended bool) {
	t.Helper()
	k.to, k.started = p.addrs[regionA], make(chan struct{})
	proxy := httptest.NewServer(k)
	defer proxy.Close()
	cmd := cliCommand(t, proxy.URL, p.key(), importArgs(out)...)
	var said buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.cmd = cmd
	close(k.started)
	err := cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || err != nil && (!status.Signaled() || status.Signal() != syscall.SIGKILL) {
		t.Fatalf("import: %v: %s", err, said.String())
	}
	return err == nil
}

// An import that is killed with -9 again and again, its requests and their
// answers lost, goes on where it was and makes no token twice.
func TestPeopleImportKilledAndResumed(t *testing.T) {
	p := startDev(t, t.TempDir())
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	kills := 0
	for _, k := range []*killer{{at: 1}, {at: 2, after: true}, {at: 5}, {at: 7, after: true}, {at: 9}, {at: 12, after: true}} {
		if importKilled(t, p, k, tokens) {
			t.Fatalf("it was through after %d kills", kills)
		}
		kills++
	}
	if code, said := runCLI(t, p.addrs[regionA], p.key(), importArgs(tokens)...); code != 0 {
		t.Fatalf("resume: exit code %d: %s", code, said)
	}
	fields := exportPeople(t, p, regionB, tokens)
	p.wantRecords(fields)
	wantNoJournal(t, tokens)
	p.stop()
	t.Logf("%d kills, %d fields", kills, fields)
}

func wantNoJournal(t *testing.T, tokens string) {
	t.Helper()
	if _, err := os.Stat(tokens + ".journal"); !os.IsNotExist(err) {
		t.Errorf("the journal is left: %v", err)
	}
}
