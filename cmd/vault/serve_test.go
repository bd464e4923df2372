package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/sim/dynamolocal"
	"piivault/internal/sim/kmsserver"
)

// rig is what instances of two regions stand on, and their configuration.
type rig struct {
	dir     string
	file    string // of the configuration
	keys    [2]string
	kms     *kmsserver.Server
	dynamo  *dynamolocal.Server
	client  *http.Client
	stopped bool // DynamoDB
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	var err error
	if r.dynamo, err = dynamolocal.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stopDynamo(t) })
	if r.kms, err = kmsserver.Open(kmsserver.Config{Dir: filepath.Join(r.dir, "kms"), Regions: devRegions()}); err != nil {
		t.Fatal(err)
	}
	kms := httptest.NewServer(r.kms)
	t.Cleanup(func() { r.kms.Close(); kms.Close() })
	for i, region := range devRegions() {
		if r.keys[i], err = r.kms.CreateKey(kmsserver.KeySpec{Region: region}); err != nil {
			t.Fatal(err)
		}
	}
	r.client = certify(t, r.dir)
	t.Cleanup(r.client.CloseIdleConnections)
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "serve", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
	} {
		t.Setenv(name, v)
	}
	r.file = filepath.Join(r.dir, "vault.yaml")
	writeFile(t, r.file, fmt.Sprintf(`env: test
region: eu-west-1
instance: one
listen: 127.0.0.1:0
tls: {cert: %[1]s/tls.crt, key: %[1]s/tls.key, min_version: "1.3"}
metrics: {listen: "127.0.0.1:0"}
pprof: {listen: "127.0.0.1:0"}
regions:
  - {name: eu-west-1, dynamodb: {endpoint: %[2]s}, kms: {key_arn: "%[4]s", endpoint: %[3]s}}
  - {name: us-east-1, dynamodb: {endpoint: %[2]s}, kms: {key_arn: "%[5]s", endpoint: %[3]s}}
drain: {wait: 2s, timeout: 10s}
erasure_quiet: 1s
`, r.dir, r.dynamo.Endpoint, kms.URL, r.keys[0], r.keys[1]))
	return r
}

func (r *rig) stopDynamo(t *testing.T) {
	t.Helper()
	if !r.stopped {
		r.stopped = true
		if err := r.dynamo.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// certify writes tls.crt and tls.key for 127.0.0.1 and returns a client that trusts it.
func certify(t *testing.T, dir string) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vault"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second}
}

// command runs a command in this process, with env over the environment.
func (r *rig) command(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp()
	a.stdout, a.stderr = &out, &errs
	a.environ = func() []string { return append(os.Environ(), env...) }
	code = run(t.Context(), a, append(args, "--config", r.file))
	return code, out.String(), errs.String()
}

// must is command, and it succeeds.
func (r *rig) must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := r.command(t, nil, args...)
	if code != exitOK {
		t.Fatalf("vault %s: exit %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// served is a running `vault serve`.
type served struct {
	process *exec.Cmd
	at      map[string]string // listener → URL
	ended   chan struct{}     // standard error is closed
}

// serve starts the real program.
func (r *rig) serve(t *testing.T, env ...string) *served {
	t.Helper()
	return r.serveAs(t, nil, env...)
}

// serveAs is serve with more arguments.
func (r *rig) serveAs(t *testing.T, args []string, env ...string) *served {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "vault", append([]string{"serve", "--config", r.file}, args...)...) // TestMain put it there
	cmd.Env = append(os.Environ(), env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &served{process: cmd, at: map[string]string{}, ended: make(chan struct{})}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // it may have ended
			<-s.ended
			_ = cmd.Wait() // killed
		}
	})
	lines := bufio.NewScanner(stderr)
	for len(s.at) < 3 && lines.Scan() {
		var line struct{ Message, Listener, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line, json.MatchCaseInsensitiveNames(true)); err == nil && line.Message == "serving" {
			s.at[line.Listener] = map[bool]string{true: "https://", false: "http://"}[line.Listener == "api"] + line.Addr
		} else {
			t.Log(lines.Text())
		}
	}
	if len(s.at) < 3 {
		close(s.ended)
		t.Fatalf("it did not start: %v", cmd.Wait())
	}
	go func() {
		defer close(s.ended)
		for lines.Scan() {
			_, _ = fmt.Fprintln(t.Output(), lines.Text())
		}
	}()
	return s
}

// wait returns the exit code of a process that was told to end.
func (s *served) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	_ = s.process.Wait() // the code says all
	return s.process.ProcessState.ExitCode()
}

func (r *rig) post(t *testing.T, url, key, body string, answer any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	return r.do(t, req, answer)
}

func (r *rig) get(t *testing.T, url string, answer any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r.do(t, req, answer)
}

func (r *rig) do(t *testing.T, req *http.Request, answer any) int {
	t.Helper()
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := answer.(*string); ok {
		*text = string(body)
	} else if err := json.Unmarshal(body, answer, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	return res.StatusCode
}

type tokens struct {
	Items []struct{ Token, Value, Status string }
}

// ready asks /readyz; out are the dependencies that are.
func (r *rig) ready(t *testing.T, s *served) (status int, out []string) {
	t.Helper()
	var answer struct {
		Dependencies []struct {
			Name  string
			Ready bool
		}
	}
	status = r.get(t, s.at["api"]+"/readyz", &answer)
	for _, d := range answer.Dependencies {
		if !d.Ready {
			out = append(out, d.Name)
		}
	}
	slices.Sort(out)
	return status, out
}

// TestServe is the life of a deployment of two regions: doctor, tables,
// tenant, first key, instances, a token of one region read in the other before
// anything replicates, drain, and a dependency that is out.
func TestServe(t *testing.T) {
	r := newRig(t)
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "BAD   eu-west-1: table vault-records is not there") {
		t.Errorf("doctor without tables: exit %d: %s", code, stdout)
	}
	r.must(t, "tables", "create")
	r.must(t, "tables", "create") // once more is no harm
	tenant := r.must(t, "tenant", "create", "--alias", "acme")
	if list := r.must(t, "tenant", "list"); !strings.Contains(list, tenant) || !strings.Contains(list, "acme") {
		t.Errorf("tenants: %s", list)
	}
	key := r.must(t, "key", "create", "--name", "first", "--roles", "writer,reader,auditor", "--tenant", "acme")
	if stdout := r.must(t, "doctor"); strings.Contains(stdout, "BAD") || !strings.Contains(stdout, "the key ring is the deployment's at epoch 1") {
		t.Errorf("doctor: %s", stdout)
	}

	eu := r.serve(t)
	us := r.serve(t, "VAULT_REGION=us-east-1")
	for _, s := range []*served{eu, us} {
		if status, out := r.ready(t, s); status != http.StatusOK {
			t.Errorf("ready: %d, out are %v", status, out)
		}
	}
	var made, opened tokens
	if status := r.post(t, eu.at["api"]+"/v1/tokenize", key, `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made); status != http.StatusOK {
		t.Fatalf("tokenize: %d", status)
	}
	body := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token)
	if status := r.post(t, us.at["api"]+"/v1/detokenize", key, body, &opened); status != http.StatusOK || opened.Items[0].Value != "ann@example.com" {
		t.Errorf("detokenize in the other region: %d", status)
	}
	r.operators(t, eu)
	r.refusals(t)
	r.drains(t, eu)
	r.namesakes(t, key)
	r.twoRegions(t, key)
	r.traces(t, key)
	t.Run("multi-Region key", r.multiRegion)

	if err := r.kms.SetEnabled(r.keys[1], false); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "enable it, or cancel its deletion, in us-east-1") {
		t.Errorf("doctor with a disabled key: exit %d: %s", code, stdout)
	}
	r.stopDynamo(t)
	if status, out := r.ready(t, us); status != http.StatusServiceUnavailable || !slices.Contains(out, "store") || !slices.Contains(out, "control") {
		t.Errorf("ready without DynamoDB: %d, out are %v", status, out)
	}
	if err := us.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := us.wait(t); code != exitOK {
		t.Errorf("an instance without its tables ends with %d", code)
	}
}

// operators: metrics and profiles have listeners of their own, and no other
// listener serves them.
func (r *rig) operators(t *testing.T, s *served) {
	t.Helper()
	var text string
	status := r.get(t, s.at["metrics"]+"/metrics", &text)
	for _, line := range []string{
		`vault_kms_seconds_count{of="us-east-1",operation="encrypt",outcome="ok",region="eu-west-1"} `,
		`vault_kms_up{of="us-east-1",region="eu-west-1"} 1`,
		`vault_ready{dependency="store",region="eu-west-1"} 1`,
		`vault_audit_append_seconds_count{region="eu-west-1"} `,
		`vault_request_seconds_count{region="eu-west-1",route="/v1/tokenize",status="200"} 1`,
		`vault_missing_copies{of="us-east-1",region="eu-west-1"} 0`,
		`vault_prefetch_keys_total{outcome="missed",region="eu-west-1"} 1`,
		`vault_prefetch_ready{region="eu-west-1"} 0`,
		`vault_replication_lag_seconds{of="us-east-1",region="eu-west-1"} +Inf`, // nothing replicates here
	} {
		if status != http.StatusOK || !strings.Contains(text, line) {
			t.Errorf("metrics: %d: no %s in %s", status, line, text)
		}
	}
	if status := r.get(t, s.at["pprof"]+"/debug/pprof/goroutine?debug=1", &text); status != http.StatusOK {
		t.Errorf("pprof: %d", status)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/dev/faults"} {
		if status := r.get(t, s.at["api"]+path, &text); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// refusals: what must not start does not.
func (r *rig) refusals(t *testing.T) {
	t.Helper()
	text := readFile(t, r.file)
	lines := strings.Split(text, "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "regions:") })
	swapped := "VAULT_REGIONS=" + strings.Join([]string{lines[i+2], lines[i+1]}, "\n")
	for want, env := range map[string]string{
		"differs from the deployment's":             swapped,
		"tls.cert and tls.key cannot be read":       "VAULT_TLS_KEY=" + filepath.Join(r.dir, "tls.crt"),
		"VAULT_RING_EPOCH: this must be an integer": "VAULT_RING_EPOCH=one",
		"VAULT_PPROF_LISTEN: pprof shows memory":    "VAULT_PPROF_LISTEN=0.0.0.0:0",
		"no such table":                             "VAULT_TABLES_AUDIT=missing",
		"VAULT_DURABILITY: this must be":            "VAULT_DURABILITY=three_regions",
	} {
		code, _, stderr := r.command(t, []string{"VAULT_INSTANCE=other", env}, "serve")
		if code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", env, code, stderr)
		}
	}
}

// drains: told to end, an instance says so to load balancers and goes on
// serving for a while; then it ends well.
func (r *rig) drains(t *testing.T, s *served) {
	t.Helper()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for status := 0; status != http.StatusServiceUnavailable; {
		select {
		case <-tick.C:
			status, _ = r.ready(t, s)
		case <-ctx.Done():
			t.Fatal("an instance that drains is still ready")
		}
	}
	var text string
	if status := r.get(t, s.at["api"]+"/livez", &text); status >= http.StatusMultipleChoices {
		t.Errorf("livez of an instance that drains: %d", status)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
}

// namesakes: the later of two instances of a name ends the other's audit log;
// that one answers nothing it cannot record, and exits non-zero (G6).
func (r *rig) namesakes(t *testing.T, key string) {
	t.Helper()
	former, later := r.serve(t), r.serve(t)
	for s, want := range map[*served]int{former: http.StatusServiceUnavailable, later: http.StatusOK} {
		var text string
		if status := r.post(t, s.at["api"]+"/v1/tokenize", key, `{"items":[{"type":"email","value":"bob@example.com"}]}`, &text); status != want {
			t.Errorf("tokenize: %d, not %d: %s", status, want, text)
		}
	}
	if code := former.wait(t); code != exitFailed {
		t.Errorf("an instance whose log has ended ends with %d", code)
	}
	if err := later.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := later.wait(t); code != exitOK {
		t.Errorf("the later instance ends with %d", code)
	}
}

// multiRegion is another deployment, configured by the environment: one
// multi-Region key, whose one copy each region opens with its own replica.
func (r *rig) multiRegion(t *testing.T) {
	primary, err := r.kms.CreateKey(kmsserver.KeySpec{Region: "eu-west-1", MultiRegion: true})
	if err != nil {
		t.Fatal(err)
	}
	replica, err := r.kms.Replicate(primary, "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{
		"VAULT_TABLES_PREFIX": "mrk-", "VAULT_RING_MODE": "multi_region", "VAULT_REGIONS_0_KMS_KEY_ARN": primary, "VAULT_REGIONS_1_KMS_KEY_ARN": replica,
	} {
		t.Setenv(name, v)
	}
	r.must(t, "tables", "create")
	r.must(t, "tenant", "create", "--alias", "acme")
	key := r.must(t, "key", "create", "--name", "first", "--roles", "writer,reader", "--tenant", "acme")
	eu, us := r.serve(t), r.serve(t, "VAULT_REGION=us-east-1")
	var made, opened tokens
	if status := r.post(t, eu.at["api"]+"/v1/tokenize", key, `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made); status != http.StatusOK {
		t.Fatalf("tokenize: %d", status)
	}
	body := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token)
	if status := r.post(t, us.at["api"]+"/v1/detokenize", key, body, &opened); status != http.StatusOK || opened.Items[0].Value != "ann@example.com" {
		t.Errorf("detokenize in the other region: %d", status)
	}
}

// TestServeEmbedded: one region in a directory, with a KMS in a file, which
// must be allowed; what was kept is there after a restart.
func TestServeEmbedded(t *testing.T) {
	dir := t.TempDir()
	r := &rig{dir: dir, file: filepath.Join(dir, "vault.yaml"), client: certify(t, dir)}
	defer r.client.CloseIdleConnections()
	text := fmt.Sprintf(`env: test
region: eu-west-1
instance: one
listen: 127.0.0.1:0
tls: {cert: %[1]s/tls.crt, key: %[1]s/tls.key}
metrics: {listen: "127.0.0.1:0"}
pprof: {listen: "127.0.0.1:0"}
store: embedded
data: %[1]s/data
regions: [{name: eu-west-1, kms: {local: %[1]s/kms.json}}]
drain: {wait: 0s}
`, dir)
	writeFile(t, r.file, text)
	if code, _, stderr := r.command(t, nil, "serve"); code != exitFailed || !strings.Contains(stderr, "line 10, column 42: a local KMS protects nothing") {
		t.Fatalf("a local KMS that is not allowed: exit %d: %s", code, stderr)
	}
	writeFile(t, r.file, text+"allow_local_kms: true\n")
	if out := r.must(t, "config", "check"); !strings.Contains(out, "the configuration is good") {
		t.Error(out)
	}
	policies := t.TempDir()
	writeFile(t, filepath.Join(policies, "bad.cedar"), "permit (principal, action, resource) when { resource.colour == 1 };")
	writeFile(t, r.file, text+"allow_local_kms: true\npolicies: "+policies+"\n")
	if code, _, stderr := r.command(t, nil, "config", "check"); code != exitFailed || !strings.Contains(stderr, "policies: ") {
		t.Errorf("wrong policies: exit %d: %s", code, stderr)
	}
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "BAD   policies: ") {
		t.Errorf("the doctor of wrong policies: exit %d: %s", code, stdout)
	}
	writeFile(t, r.file, text+"allow_local_kms: true\n")
	if code, _, stderr := r.command(t, nil, "tables", "create"); code != exitUsage || !strings.Contains(stderr, "has no tables") {
		t.Errorf("tables: exit %d: %s", code, stderr)
	}
	if code, stdout, _ := r.command(t, nil, "doctor"); code != exitFailed || !strings.Contains(stdout, "→ see the environment's AWS settings; the file of a local KMS") {
		t.Errorf("doctor without the key file: exit %d: %s", code, stdout)
	}
	r.must(t, "tenant", "create", "--alias", "acme")
	if stdout := r.must(t, "doctor"); !strings.Contains(stdout, "an instance can serve; 0 warnings") {
		t.Errorf("doctor: %s", stdout)
	}
	for want, args := range map[string][]string{
		"a tenant has this alias already": {"tenant", "create", "--alias", "acme"},
		"an alias is 1 to 63":             {"tenant", "create", "--alias", "A"},
		"there is no such tenant":         {"key", "create", "--name", "x", "--roles", "admin", "--tenant", "other"},
		"invalid_roles":                   {"key", "create", "--name", "x", "--roles", "king", "--tenant", "acme"},
		"--config and --tenant":           {"key", "create", "--name", "x", "--roles", "admin"},
	} {
		if code, _, stderr := r.command(t, nil, args...); code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("vault %v: exit %d: %s", args, code, stderr)
		}
	}
	key := r.must(t, "key", "create", "--name", "first", "--roles", "writer,reader,auditor", "--tenant", "acme")

	var made, opened tokens
	s := r.serve(t)
	if status := r.post(t, s.at["api"]+"/v1/tokenize", key, `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made); status != http.StatusOK {
		t.Fatalf("tokenize: %d", status)
	}
	if err := s.process.Process.Kill(); err != nil { // G1: what was acknowledged survives
		t.Fatal(err)
	}
	s.wait(t)
	s = r.serve(t)
	body := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"test"}`, made.Items[0].Token)
	if status := r.post(t, s.at["api"]+"/v1/detokenize", key, body, &opened); status != http.StatusOK || opened.Items[0].Value != "ann@example.com" {
		t.Errorf("detokenize after a kill: %d", status)
	}
	// The first key's making is in the audit log.
	var found struct {
		Entries []struct{ Action, Actor string }
	}
	if status := r.post(t, s.at["api"]+"/v1/audit/query", key, `{"actor":"operator"}`, &found); status != http.StatusOK || len(found.Entries) != 2 {
		t.Errorf("audit: %d, %+v", status, found)
	}
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
	// A key file that is lost is not replaced where there is data.
	if err := os.Remove(filepath.Join(dir, "kms.json")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := r.command(t, nil, "serve"); code != exitFailed || !strings.Contains(stderr, "there is data without its keys") {
		t.Errorf("without its keys: exit %d: %s", code, stderr)
	}
}
