package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/sim/kmsserver"
)

// kmsCall is one request to the KMS-protocol server, as CloudTrail would have it.
type kmsCall struct{ operation, key, tenant, typ string }

// kmsLog is in front of the server and writes down what it is asked.
type kmsLog struct {
	next http.Handler

	mu    sync.Mutex // guards calls
	calls []kmsCall
}

func (l *kmsLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "no body", http.StatusBadRequest)
		return
	}
	var in struct {
		KeyID   string            `json:"KeyId"`
		Context map[string]string `json:"EncryptionContext"`
	}
	if err := json.Unmarshal(body, &in); err == nil {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		l.mu.Lock()
		l.calls = append(l.calls, kmsCall{operation, in.KeyID, in.Context["pv-tenant"], in.Context["pv-type"]})
		l.mu.Unlock()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.next.ServeHTTP(w, r)
}

// take returns what was asked since the last time.
func (l *kmsLog) take() []kmsCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return calls
}

// usedFor are the keys that were used for a tenant's data keys and secrets, sorted.
func usedFor(calls []kmsCall, tenant string) (keys []string) {
	for _, c := range calls {
		if c.tenant == tenant {
			keys = append(keys, c.key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// tenantKeysRig is two regions and two tenants, of which the first has keys of its own.
type tenantKeysRig struct {
	*rig
	t       *testing.T
	log     *kmsLog
	tenants [2]string
	keys    [2]string // API keys
	own     [2]string // the first tenant's KMS keys
}

func newTenantKeysRig(t *testing.T) *tenantKeysRig {
	t.Helper()
	r := &tenantKeysRig{rig: newRig(t), t: t}
	r.log = &kmsLog{next: r.kms}
	front := httptest.NewServer(r.log)
	t.Cleanup(front.Close)
	t.Setenv("VAULT_REGIONS_0_KMS_ENDPOINT", front.URL)
	t.Setenv("VAULT_REGIONS_1_KMS_ENDPOINT", front.URL)
	r.must(t, "tables", "create")
	for i, alias := range []string{"acme", "globex"} {
		r.tenants[i] = r.must(t, "tenant", "create", "--alias", alias)
		r.keys[i] = r.must(t, "key", "create", "--name", "first", "--roles", "writer,reader,operator", "--tenant", alias)
	}
	for i, region := range devRegions() {
		var err error
		if r.own[i], err = r.kms.CreateKey(kmsserver.KeySpec{Region: region}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// configure gives the first tenant entries of tenant_keys by a format of two
// keys, and the ring an epoch.
func (r *tenantKeysRig) configure(epoch int, entry string, keys [2]string) {
	r.t.Helper()
	text, _, _ := strings.Cut(readFile(r.t, r.file), "ring:")
	text += fmt.Sprintf("ring: {epoch: %d}\ntenant_keys:\n  - tenant: %s\n    keys:\n", epoch, r.tenants[0])
	for i, region := range devRegions() {
		text += fmt.Sprintf("      - {region: %s, "+entry+"}\n", region, keys[i], r.rig.keys[i])
	}
	writeFile(r.t, r.file, text)
}

func (r *tenantKeysRig) tokenize(s *served, tenant int) (status int, token string, missing []string) {
	r.t.Helper()
	var made struct {
		Items []struct {
			Token     string
			KeyCopies struct{ Missing []string } `json:"key_copies"`
		}
	}
	status = r.post(r.t, s.at["api"]+"/v1/tokenize", r.keys[tenant], `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made)
	if status == http.StatusOK {
		token, missing = made.Items[0].Token, made.Items[0].KeyCopies.Missing
	}
	return status, token, missing
}

func (r *tenantKeysRig) reveal(s *served, tenant int, token string) (status int, answer string) {
	r.t.Helper()
	body := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, token)
	status = r.post(r.t, s.at["api"]+"/v1/detokenize", r.keys[tenant], body, &answer)
	return status, answer
}

func (r *tenantKeysRig) wantReveal(s *served, tenant int, token string) {
	r.t.Helper()
	if status, answer := r.reveal(s, tenant, token); status != http.StatusOK || !strings.Contains(answer, `"ann@example.com"`) {
		r.t.Errorf("detokenize of tenant %d: %d: %s", tenant, status, answer)
	}
}

// made is a record of the tenant, with all copies.
func (r *tenantKeysRig) made(s *served, tenant int) string {
	r.t.Helper()
	status, token, missing := r.tokenize(s, tenant)
	if status != http.StatusOK || len(missing) > 0 {
		r.t.Fatalf("tokenize of tenant %d: %d, missing %v", tenant, status, missing)
	}
	return token
}

// repaired waits until every record and secret of a region's tables has all
// copies under its tenant's present keys.
func (r *tenantKeysRig) repaired(s *served) {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		var c struct {
			Degraded int `json:"degraded_records"`
			Outdated int `json:"outdated_records"`
			Regions  []struct {
				Secrets int `json:"secrets_unreadable_if_lost"`
			}
		}
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, s.at["api"]+"/v1/coverage", http.NoBody)
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.keys[0])
		status := r.do(r.t, req, &c)
		if status == http.StatusOK && c.Degraded == 0 && c.Outdated == 0 && len(c.Regions) == 2 && c.Regions[0].Secrets+c.Regions[1].Secrets == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("repair does not end: %d, %+v", status, c)
		}
	}
}

// TestTenantKeys: a tenant gets KMS keys of its own by a ring change without
// an interruption, and the KMS's log says which key wrapped what from then on;
// its key disabled is nobody else's trouble.
func TestTenantKeys(t *testing.T) {
	r := newTenantKeysRig(t)
	own, shared := r.own[:], r.rig.keys[:]
	old := r.serve(t, "VAULT_INSTANCE=old")
	before := [2]string{r.made(old, 0), r.made(old, 1)}

	// First all instances learn to open what the new keys will wrap.
	r.configure(1, `former: ["%[2]s"]`, r.own)
	ready := r.serve(t, "VAULT_INSTANCE=ready")
	r.wantReveal(ready, 0, before[0])
	r.configure(2, `key_arn: "%[2]s", former: ["%[3]s"]`, r.own)
	r.log.take()
	if stdout := r.must(t, "doctor"); !strings.Contains(stdout, "eu-west-1: key of tenant "+r.tenants[0]+" makes, opens and wraps") || !strings.Contains(stdout, "and 4 KMS keys, 4.00 a month") {
		t.Errorf("doctor: %s", stdout)
	}
	if got := usedFor(r.log.take(), r.tenants[0]); !slices.Equal(got, sorted(own)) {
		t.Errorf("doctor asks for the tenant %v, want %v", got, own)
	}
	eu, us := r.serve(t), r.serve(t, "VAULT_REGION=us-east-1") // nothing replicates here: each repairs its own tables
	r.repaired(eu)
	r.repaired(us)
	between := r.made(eu, 0)
	r.wantReveal(ready, 0, between) // an instance of the older ring

	// Repaired: strictly its own, in both regions.
	r.configure(2, `key_arn: "%[2]s"`, r.own)
	if stdout := r.must(t, "doctor"); strings.Contains(stdout, "BAD") {
		t.Errorf("doctor: %s", stdout)
	}
	eu = r.serve(t, "VAULT_INSTANCE=two")
	us = r.serve(t, "VAULT_REGION=us-east-1", "VAULT_INSTANCE=two")
	r.log.take()
	after := [2]string{r.made(eu, 0), r.made(us, 1)}
	for _, s := range []*served{eu, us} {
		for tenant := range r.tenants {
			r.wantReveal(s, tenant, after[tenant])
			r.wantReveal(s, tenant, before[tenant])
		}
	}
	calls := r.log.take()
	if got := usedFor(calls, r.tenants[0]); !slices.Equal(got, sorted(own)) {
		t.Errorf("the first tenant's keys: %v, want %v", got, own)
	}
	if got := usedFor(calls, r.tenants[1]); !slices.Equal(got, sorted(shared)) {
		t.Errorf("the second tenant's keys: %v, want %v", got, shared)
	}
	r.denied(eu, us, after)
}

// denied: the first tenant's key of one region is disabled.
func (r *tenantKeysRig) denied(eu, us *served, tokens [2]string) {
	t := r.t
	t.Helper()
	if err := r.kms.SetEnabled(r.own[0], false); err != nil {
		t.Fatal(err)
	}
	if status, answer := r.reveal(eu, 0, tokens[0]); status != http.StatusServiceUnavailable || !strings.Contains(answer, "kms_denied") {
		t.Errorf("a reveal of the tenant whose local key is disabled: %d: %s", status, answer)
	}
	if status, _, missing := r.tokenize(eu, 0); status != http.StatusOK || !slices.Equal(missing, []string{"eu-west-1"}) {
		t.Errorf("its tokenize: %d, missing %v", status, missing)
	}
	r.wantReveal(us, 0, tokens[0])
	for _, s := range []*served{eu, us} {
		r.wantReveal(s, 1, r.made(s, 1))
	}
	var text string
	if r.get(t, eu.at["metrics"]+"/metrics", &text); !strings.Contains(text, `vault_kms_up{of="eu-west-1",region="eu-west-1"} 1`) ||
		!strings.Contains(text, `vault_tenant_keys_denied{of="eu-west-1",region="eu-west-1"} 1`) || strings.Contains(text, r.tenants[0]) {
		t.Errorf("metrics: %s", text)
	}
	if status, out := r.ready(t, eu); status != http.StatusOK {
		t.Errorf("ready: %d, out are %v", status, out)
	}
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "eu-west-1: key of tenant "+r.tenants[0]+": ") {
		t.Errorf("doctor: %d: %s", code, stdout)
	}
	if err := r.kms.SetEnabled(r.own[1], false); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := r.tokenize(us, 0); status != http.StatusServiceUnavailable {
		t.Errorf("a tokenize without any key of its own: %d", status)
	}
	r.wantReveal(us, 1, r.made(us, 1))
	for _, key := range r.own {
		if err := r.kms.SetEnabled(key, true); err != nil {
			t.Fatal(err)
		}
	}
	r.repaired(eu) // unasked: a probe noticed
	r.wantReveal(eu, 0, tokens[0])
}

func sorted(keys []string) []string { return slices.Sorted(slices.Values(keys)) }

// Another ring at the same epoch does not start, whosever keys differ.
func TestTenantKeysAreOfTheRing(t *testing.T) {
	r := newTenantKeysRig(t)
	r.configure(1, `key_arn: "%[2]s", former: ["%[3]s"]`, r.own)
	if code, _, stderr := r.command(t, []string{"VAULT_INSTANCE=other"}, "serve"); code != exitFailed || !strings.Contains(stderr, "differs from the deployment's") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// A tenant that is moved without its former keys is found before it is refused.
	r.configure(2, `key_arn: "%[2]s"`, r.own)
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "no configured key opens the secret of tenant "+r.tenants[0]) {
		t.Errorf("doctor: exit %d: %s", code, stdout)
	}
	if code, _, stderr := r.command(t, []string{"VAULT_INSTANCE=other"}, "serve"); code != exitFailed || !strings.Contains(stderr, "no region of the configured key ring could open") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	writeFile(t, r.file, strings.Replace(readFile(t, r.file), r.tenants[0], strings.Repeat("a", 26), 1))
	if _, stdout, _ := r.command(t, nil, "doctor"); !strings.Contains(stdout, "which is no tenant here") {
		t.Errorf("doctor: %s", stdout)
	}
}
