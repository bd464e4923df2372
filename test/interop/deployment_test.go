package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/client"
	"piivault/internal/crypto"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/sim/kmsserver"
	"piivault/internal/sim/kmsserver/mototest"
	"piivault/internal/sim/streams"
)

// Regions by their place in the ring, and the tables' names.
const (
	local, remote           = 0, 1
	recordsTable, secretsIn = "vault-records", "vault-control"
)

func regions() []string { return []string{"eu-west-1", "us-east-1"} }

// deployment is a `vault serve` in each of two regions, with global tables
// and a KMS, and the Python SDK beside it. The first region is asked.
type deployment struct {
	t       *testing.T
	mode    crypto.Mode
	kms     string // URL
	keys    []string
	down    [2]atomic.Bool // a region's KMS, for the vault alone
	account dynamolocal.Account
	env     []string
	python  *oracle
	vault   *client.Client
	tenant  string
}

// types are of every form that the product has, and with data keys of one
// message and of several.
const types = `
  - {name: email, kind: email}
  - {name: note, kind: text, bound: false}
  - {name: letter, kind: text, ttl: 30d}
  - {name: blob, kind: bytes}
  - {name: login, kind: email, token: deterministic}
  - {name: card, kind: card_number, token: deterministic, accept_guessing: true}
  - {name: shared, kind: email, data_key: {reuse: {max_messages: 3, max_bytes: 100000, max_age: 5m}}}
  - {name: pin, kind: text, token: random, bound: false, data_key: {reuse: {max_messages: 3, max_bytes: 100000, max_age: 5m}}}
`

// deploy starts it all; makeKeys gives the ring's keys, in its order.
func deploy(t *testing.T, mode crypto.Mode, kms string, makeKeys func(d *deployment) []string) *deployment {
	t.Helper()
	d := &deployment{t: t, mode: mode, kms: kms, account: database.Account()}
	c, err := d.account.Config(regions()[local]).Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "AWS_ENDPOINT_URL_KMS=" + kms, "AWS_ENDPOINT_URL_DYNAMODB=" + database.Endpoint,
		"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "NO_PROXY=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1",
	}
	d.python = startOracle(t, d.env, filepath.Join(venv, "python"), filepath.Join(root, "test", "interop", "cases.py"))
	d.keys = makeKeys(d)
	d.start()
	return d
}

// start writes the configuration, makes tables, tenant and key, and serves.
func (d *deployment) start() {
	d.t.Helper()
	config := fmt.Sprintf("env: test\nregion: %s\ninstance: one\nlisten: 127.0.0.1:0\nmetrics: {listen: \"off\"}\nring: {mode: %s}\n"+
		"drain: {wait: 0s}\nerasure_quiet: 1s\ntypes:%sregions:\n", regions()[local], d.mode, types)
	for i, region := range regions() {
		config += fmt.Sprintf("  - {name: %s, dynamodb: {endpoint: %q}, kms: {key_arn: %q, endpoint: %q}}\n", region, database.Endpoint, d.keys[i], d.gate(i))
	}
	file := filepath.Join(d.t.TempDir(), "vault.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.command("tables", "create", "--config", file)
	d.replicate()
	d.tenant = d.command("tenant", "create", "--config", file, "--alias", "acme")
	key := d.command("key", "create", "--config", file, "--name", "interop", "--roles", "writer,reader,eraser,operator", "--tenant", "acme")
	d.serve(file, "VAULT_REGION="+regions()[remote]) // confirms erasures
	v, err := client.New(d.serve(file), key, client.Config{Timeout: patience})
	if err != nil {
		d.t.Fatal(err)
	}
	d.vault = v
}

// gate is the way to a region's KMS, closed while the region is down.
func (d *deployment) gate(region int) string {
	to, err := url.Parse(d.kms)
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog: log.New(io.Discard, "", 0), // callers that gave up
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.down[region].Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	d.t.Cleanup(server.Close)
	return server.URL
}

func (d *deployment) command(args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), binaries.vault, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("vault %s: %v: %s", args[:2], err, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// replicate makes the tables global until the test ends.
func (d *deployment) replicate() {
	d.t.Helper()
	c := streams.Config{Tables: []string{recordsTable, secretsIn}}
	for _, region := range regions() {
		c.Regions = append(c.Regions, d.account.Config(region))
	}
	r, err := streams.New(c)
	if err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(d.t.Context()) }()
	d.t.Cleanup(func() {
		if err := <-ended; err != nil && d.t.Context().Err() == nil {
			d.t.Error(err)
		}
		r.Close()
	})
}

// serve starts an instance and returns its URL.
func (d *deployment) serve(file string, env ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), binaries.vault, "serve", "--config", file)
	cmd.Env = append(slices.Clone(d.env), env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		watch(bufio.NewScanner(stderr), found)
	}()
	d.t.Cleanup(func() {
		<-ended
		_ = cmd.Wait() // killed by the test's context
	})
	address, ok := <-found
	if !ok {
		d.t.Fatal("the vault ended before it served")
	}
	return "http://" + address
}

// watch finds the line that names the API's address, and reads to the end.
func watch(lines *bufio.Scanner, found chan<- string) {
	defer close(found)
	for lines.Scan() {
		var line struct{ Message, Listener, Addr string }
		if json.Unmarshal(lines.Bytes(), &line, json.MatchCaseInsensitiveNames(true)) == nil && line.Message == "serving" && line.Listener == "api" {
			found <- line.Addr
		}
	}
}

// onMoto is a deployment on a KMS by other hands.
func onMoto(t *testing.T) *deployment {
	t.Helper()
	return deploy(t, crypto.Copies, mototest.Start(t), func(d *deployment) (keys []string) {
		for _, region := range regions() {
			keys = append(keys, d.python.must(t, question{Op: "create_key", Region: region})[0].ARN)
		}
		return keys
	})
}

// onOurs is one on internal/sim/kmsserver, which `vault dev-kms` serves.
func onOurs(t *testing.T, mode crypto.Mode) *deployment {
	t.Helper()
	kms, err := kmsserver.Open(kmsserver.Config{Dir: t.TempDir(), Regions: regions()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(kms)
	t.Cleanup(func() { kms.Close(); server.Close() })
	return deploy(t, mode, server.URL, func(*deployment) []string {
		first, err := kms.CreateKey(kmsserver.KeySpec{Region: regions()[local], MultiRegion: mode == crypto.MultiRegion})
		var second string
		if err == nil && mode == crypto.MultiRegion {
			second, err = kms.Replicate(first, regions()[remote])
		} else if err == nil {
			second, err = kms.CreateKey(kmsserver.KeySpec{Region: regions()[remote]})
		}
		if err != nil {
			t.Fatal(err)
		}
		return []string{first, second}
	})
}

// kept is a value that the vault holds.
type kept struct {
	typ, token string
	value      []byte
	missing    []string // regions, in the answer
}

// keep tokenizes values of a type.
func (d *deployment) keep(items ...client.TokenizeItem) []kept {
	d.t.Helper()
	answer, err := d.vault.Tokenize(d.t.Context(), "", client.TokenizeRequest{Items: items})
	if err != nil {
		d.t.Fatal(err)
	}
	all := make([]kept, len(items))
	for i, item := range answer.Items {
		all[i] = kept{typ: items[i].Type, token: item.Token, value: []byte(items[i].Value), missing: item.KeyCopies.Missing}
	}
	return all
}

// rows are what a region's tables hold, read without our code.
func (d *deployment) rows(region int) (records, secrets []row) {
	d.t.Helper()
	a := d.python.must(d.t, question{Op: "rows", Region: regions()[region], Records: recordsTable, Control: secretsIn})[0]
	return a.Records, a.Secrets
}

// eventually polls until ok says so: what is waited for happens elsewhere.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
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

func sameRows(a, b []row) bool {
	equal := func(x, y row) bool { return x.PK == y.PK && x.SK == y.SK && bytes.Equal(x.Message, y.Message) }
	byKey := func(x, y row) int { return strings.Compare(x.PK+x.SK, y.PK+y.SK) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(a), byKey), slices.SortedFunc(slices.Values(b), byKey), equal)
}
