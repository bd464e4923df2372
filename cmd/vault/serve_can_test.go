package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/sim/kmsserver"
)

// keyPolicy stands before a KMS and is what terraform/keys grants to
// tokenizing roles: Decrypt of tenants' secrets and of probes only.
type keyPolicy struct {
	next http.Handler

	mu     sync.Mutex // guards what follows
	lifted bool
	opened []string // pv-type of each Decrypt
	denied int
}

func (k *keyPolicy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Decrypt") && !k.mayOpen(body) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"no"}`)
		return
	}
	k.next.ServeHTTP(w, r)
}

func (k *keyPolicy) mayOpen(body []byte) bool {
	var in struct{ EncryptionContext map[string]string }
	err := json.Unmarshal(body, &in)
	k.mu.Lock()
	defer k.mu.Unlock()
	of := in.EncryptionContext["pv-type"]
	k.opened = append(k.opened, of)
	allowed := err == nil && (k.lifted || of == "!tenant-secret" || of == "!probe")
	if !allowed {
		k.denied++
	}
	return allowed
}

// newDutyRig is one region in a directory, with a KMS behind a key policy.
func newDutyRig(t *testing.T) (*rig, *keyPolicy) {
	t.Helper()
	dir := t.TempDir()
	r := &rig{dir: dir, file: filepath.Join(dir, "vault.yaml"), client: certify(t, dir)}
	t.Cleanup(r.client.CloseIdleConnections)
	var err error
	if r.kms, err = kmsserver.Open(kmsserver.Config{Dir: filepath.Join(dir, "kms"), Regions: []string{"eu-west-1"}}); err != nil {
		t.Fatal(err)
	}
	policy := &keyPolicy{next: r.kms}
	kms := httptest.NewServer(policy)
	t.Cleanup(func() { r.kms.Close(); kms.Close() })
	arn, err := r.kms.CreateKey(kmsserver.KeySpec{Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "serve", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
	} {
		t.Setenv(name, v)
	}
	writeFile(t, r.file, fmt.Sprintf(`env: test
region: eu-west-1
instance: one
listen: 127.0.0.1:0
tls: {cert: %[1]s/tls.crt, key: %[1]s/tls.key}
metrics: {listen: "127.0.0.1:0"}
pprof: {listen: "127.0.0.1:0"}
store: embedded
data: %[1]s/data
regions: [{name: eu-west-1, kms: {key_arn: %[2]q, endpoint: %[3]q}}]
types: [{name: email, kind: email}, {name: login, kind: email, token: deterministic}]
drain: {wait: 0s}
`, dir, arn, kms.URL))
	r.must(t, "tenant", "create", "--alias", "acme")
	return r, policy
}

// during serves, does, and waits for a clean end.
func (r *rig) during(t *testing.T, args []string, do func(s *served)) {
	t.Helper()
	s := r.serveAs(t, args)
	do(s)
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("vault serve %v ends with %d", args, code)
	}
}

func (r *rig) wantStatus(t *testing.T, s *served, key, path, body string, status int, code string) string {
	t.Helper()
	var text string
	if got := r.post(t, s.at["api"]+path, key, body, &text); got != status || !strings.Contains(text, code) {
		t.Errorf("%s: %d, not %d %s: %s", path, got, status, code, text)
	}
	return text
}

// An instance that only tokenizes does all of it with a key policy that lets
// it open no record, asks to open none, and answers nothing else (issue 6).
func TestServeCan(t *testing.T) {
	r, policy := newDutyRig(t)
	key := r.must(t, "key", "create", "--name", "all", "--roles", "admin,writer,reader,eraser,auditor,operator", "--tenant", "acme")
	var made tokens
	r.during(t, []string{"--can", "tokenize"}, func(s *served) {
		const body = `{"items":[{"type":"email","value":"ann@example.com"},{"type":"login","value":"ann@example.com"}]}`
		for range 2 { // the second finds the deterministic one
			if status := r.post(t, s.at["api"]+"/v1/tokenize", key, body, &made); status != http.StatusOK {
				t.Fatalf("tokenize: %d", status)
			}
		}
		token := fmt.Sprintf(`{"items":[{"token":%q}]}`, made.Items[0].Token)
		r.wantStatus(t, s, key, "/v1/inspect", token, http.StatusOK, `"key_copies"`)
		for path, body := range map[string]string{
			"/v1/detokenize": fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token),
			"/v1/erase":      token, "/v1/repair": "", "/v1/keys": `{"name":"n","roles":["admin"]}`, "/v1/stop": `{"reason":"r"}`, "/v1/audit/query": "{}",
		} {
			r.wantStatus(t, s, key, path, body, http.StatusNotFound, "not_served_here")
		}
	})
	if others := slices.DeleteFunc(slices.Clone(policy.opened), func(of string) bool { return of == "!tenant-secret" || of == "!probe" }); policy.denied != 0 || len(others) != 0 {
		t.Errorf("a tokenizing instance asked to open %q", others)
	}
	if !slices.Contains(policy.opened, "!tenant-secret") {
		t.Error("no tenant secret was opened: the test sees nothing")
	}
	body := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token)
	r.during(t, []string{"--can", "detokenize,audit"}, func(s *served) {
		r.wantStatus(t, s, key, "/v1/detokenize", body, http.StatusServiceUnavailable, "kms_denied") // with the tokenizing role
		policy.mu.Lock()
		policy.lifted = true
		policy.mu.Unlock()
		r.wantStatus(t, s, key, "/v1/detokenize", body, http.StatusOK, "ann@example.com")
		r.wantStatus(t, s, key, "/v1/tokenize", "{}", http.StatusNotFound, "not_served_here")
		r.wantStatus(t, s, key, "/v1/repair", "", http.StatusNotFound, "not_served_here")
	})
	for _, can := range []string{"everything", "audit,audit", ""} {
		if code, _, stderr := r.command(t, nil, "serve", "--can", can+","); code != exitUsage || !strings.Contains(stderr, "--can takes") {
			t.Errorf("--can %q: exit %d: %s", can, code, stderr)
		}
	}
}

// The operator's stop needs no running vault, and no tenant lifts it.
func TestStopByTheTables(t *testing.T) {
	r, policy := newDutyRig(t)
	policy.lifted = true
	key := r.must(t, "key", "create", "--name", "all", "--roles", "admin,writer,reader,operator", "--tenant", "acme")
	if out := r.must(t, "stop", "--reason", "breach", "--tenant", "acme"); !strings.HasPrefix(out, "stopped by ") {
		t.Error(out)
	}
	if out := r.must(t, "resume", "--reason", "over", "--tenant", "acme"); out != "1 stops lifted; reveals go on" {
		t.Error(out)
	}
	r.must(t, "stop", "--reason", "breach")
	for want, args := range map[string][]string{
		"--reason is needed":      {"stop"},
		"there is no such tenant": {"stop", "--reason", "x", "--tenant", "other"},
		"invalid_reason":          {"stop", "--reason", "two\nlines"},
	} {
		if code, _, stderr := r.command(t, nil, args...); code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("vault %v: exit %d: %s", args, code, stderr)
		}
	}
	var made tokens
	var body string
	r.during(t, nil, func(s *served) {
		if status := r.post(t, s.at["api"]+"/v1/tokenize", key, `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made); status != http.StatusOK {
			t.Fatalf("tokenize while stopped: %d", status)
		}
		body = fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token)
		r.wantStatus(t, s, key, "/v1/detokenize", body, http.StatusServiceUnavailable, `"stopped"`)
		r.wantStatus(t, s, key, "/v1/resume", `{"reason":"let me"}`, http.StatusOK, `"stopped":true`)
		r.wantStatus(t, s, key, "/v1/detokenize", body, http.StatusServiceUnavailable, `"stopped"`)
	})
	r.must(t, "resume", "--reason", "over")
	r.during(t, nil, func(s *served) { r.wantStatus(t, s, key, "/v1/detokenize", body, http.StatusOK, "ann@example.com") })
}

// A directory of policies is in force from the start, changes at SIGHUP, and
// a wrong one changes nothing but the count of failures.
func TestServePolicies(t *testing.T) {
	r, _ := newDutyRig(t)
	key := r.must(t, "key", "create", "--name", "all", "--roles", "writer", "--tenant", "acme")
	dir := filepath.Join(r.dir, "policies")
	if code, _, stderr := runPolicy(t, "", "export", dir); code != exitOK {
		t.Fatal(stderr)
	}
	t.Setenv("VAULT_POLICIES", dir)
	own := filepath.Join(dir, "own.cedar")
	const tokenize = `{"items":[{"type":"email","value":"ann@example.com"}]}`
	hangup := func(s *served, text, want string) {
		t.Helper()
		writeFile(t, own, text)
		if err := s.process.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		var metrics string
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(metrics, want); {
			if r.get(t, s.at["metrics"]+"/metrics", &metrics); time.Now().After(deadline) {
				t.Fatalf("no %q in the metrics", want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	r.during(t, nil, func(s *served) {
		r.wantStatus(t, s, key, "/v1/tokenize", tokenize, http.StatusOK, "token")
		const failures = `vault_policy_reload_failures_total{region="eu-west-1"} `
		const forbid = "@id(\"own\")\nforbid (principal, action, resource) when { principal.authentication == \"api_key\" };"
		hangup(s, "@id(\"own\") permit", failures+"1")
		r.wantStatus(t, s, key, "/v1/tokenize", tokenize, http.StatusOK, "token")
		_, stdout, _ := runPolicy(t, "", "check", dir)
		if stdout != "" {
			t.Errorf("the wrong set is good: %s", stdout)
		}
		writeFile(t, own, forbid)
		// Its hash; the default set's own cases fail with it.
		if err := os.Remove(filepath.Join(dir, "default.cases.json")); err != nil {
			t.Fatal(err)
		}
		_, stdout, _ = runPolicy(t, "", "check", dir)
		fields := strings.Fields(stdout)
		hangup(s, forbid, fmt.Sprintf("vault_policy_set_info{hash=%q,", fields[len(fields)-1]))
		r.wantStatus(t, s, key, "/v1/tokenize", tokenize, http.StatusForbidden, "forbidden")
	})
	writeFile(t, own, "permit")
	if code, _, stderr := r.command(t, nil, "serve"); code != exitFailed || !strings.Contains(stderr, "own.cedar") {
		t.Errorf("wrong policies at start: exit %d: %s", code, stderr)
	}
}
