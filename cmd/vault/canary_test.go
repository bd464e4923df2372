package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/tracing"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/httpapi"
	"piivault/internal/httpapi/apitest"
	"piivault/internal/sim"
	"piivault/internal/vault"
	"piivault/test/scan"
)

const (
	canaryValue  = "Zq7canary-4f9e1c20-value"
	canaryFaulty = "canary-of-nowhere-91b7" // of what is sent where no value belongs
)

// canaries is a vault and everything that comes out of it.
type canaries struct {
	t       *testing.T
	on      canaryFaults
	kms     []*localkms.KMS // by region
	own     []crypto.TenantRegions
	ring    *crypto.Ring // of the region that serves
	world   *sim.World
	server  *httptest.Server
	tracer  *tracing.Tracer
	sent    map[string]int // requests by fault
	routes  map[string]int // by operation
	queries int            // requests with a parameter in the query
	key     string
	tokens  []string
	spare   string // id of a key that requests may revoke

	mu       sync.Mutex // guards what follows
	logs     bytes.Buffer
	traces   bytes.Buffer
	refusals bytes.Buffer // headers and bodies of all answers but 2xx
	statuses map[int]int  // of answers
}

// guarded writes to one of the buffers.
type guarded struct {
	c *canaries
	b *bytes.Buffer
}

func (g guarded) Write(p []byte) (int, error) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	return g.b.Write(p)
}

// G4: a value, and what clients send where none belongs, is pushed through
// every route while everything fails in turn, and is in no log, metric, trace,
// panic, refusal, audit entry or file. One that is planted in each is found.
func TestG4CanaryIsNowhere(t *testing.T) {
	c := &canaries{t: t, statuses: map[int]int{}, sent: map[string]int{}, routes: map[string]int{}}
	dir := t.TempDir()
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(guarded{c, &c.traces}, r.Body) // what is missing shows below
	}))
	defer sink.Close()
	c.makeKeys(dir)
	metrics := c.open(dir, sink.URL)
	c.prepare()
	for _, f := range []struct {
		name string
		set  func(on bool)
	}{
		{"none", func(bool) {}},
		{"store", c.on.store.Store},
		{"timeout", c.on.hang.Store},
		{"audit", c.on.log.Store},
		{"counters", c.on.counters.Store},
		{"control", c.on.control.Store},
		{"panics", c.on.panics.Store},
		{"kms down", func(on bool) { c.fault(on, localkms.Down) }},
		{"kms denied", func(on bool) { c.fault(on, localkms.Denied) }},
		{"tenant's key", c.disable},
		{"stopped", c.stop},
	} {
		f.set(true)
		c.push(f.name)
		f.set(false)
	}
	places := c.close(metrics)
	for _, status := range []int{200, 400, 401, 404, 422, 500, 503} {
		if c.statuses[status] == 0 {
			t.Errorf("nothing was answered %d: %v", status, c.statuses)
		}
	}
	scanner := c.scanner()
	for name, content := range places {
		if len(content) == 0 {
			t.Errorf("%s: nothing to look at", name)
		}
		if hits := c.hits(scanner, name, content); len(hits) > 0 {
			t.Errorf("%s: %+v", name, hits)
		}
		planted := append(bytes.Clone(content), "…"+canaryValue...)
		if len(c.hits(scanner, name, planted)) == 0 {
			t.Errorf("%s: a planted canary is not found", name)
		}
	}
	c.files(scanner, dir)
	if c.queries == 0 {
		t.Error("no canary was in a query")
	}
	t.Logf("%d operations, %d requests with a query; requests by fault %v; answers by status %v; bytes looked at: %d logs, %d traces, %d metrics, %d refusals, %d entries",
		len(c.routes), c.queries, c.sent, c.statuses, len(places["logs"]), len(places["traces"]), len(places["metrics"]), len(places["refusals"]), len(places["entries"]))
}

// open starts a world whose first region serves.
func (c *canaries) open(dir, sink string) *metrics {
	c.t.Helper()
	logger := zerolog.New(guarded{c, &c.logs}).Level(zerolog.DebugLevel)
	world, err := sim.Open(c.t.Context(), sim.Config{
		Dir: dir, Regions: devRegions(), Logger: logger,
		Wrap: func(region string, cfg *vault.Config) {
			ring := c.useRing(region, cfg)
			if region != devRegions()[0] {
				return
			}
			c.ring = ring
			cfg.Budgets = authz.NewBudgets(authz.BudgetsConfig{
				Counters: canaryCounters{&c.on}, Limits: authz.DefaultLimits(), Now: time.Now, Logger: logger, Share: authz.Share{Of: 1},
			})
			cfg.Store, cfg.Log = canaryStore{cfg.Store, &c.on}, canaryLog{cfg.Log, &c.on}
			for i := range cfg.Controls { // in place: its Keys has the same list
				cfg.Controls[i].Control = canaryControl{cfg.Controls[i].Control, &c.on}
			}
			traced(region, cfg)
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.world = world
	local := world.Regions[0]
	tracer, err := tracing.New(c.t.Context(), tracing.Config{
		Endpoint: sink, Sample: 1, Region: local.Name, Instance: "canary", Version: "test", Now: time.Now, Random: rand.Reader, Logger: logger,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.tracer = tracer
	m := newMetrics(local.Name, local.Vault)
	handler, err := httpapi.New(httpapi.Config{
		Vault: canaryVault{tracedCalls(tracer, local.Vault), &c.on}, Logger: logger, Now: time.Now, Random: rand.Reader,
		Observe: tracedAnswers(tracer, m.observe), Metrics: m.handler(), Limits: httpapi.Limits{Timeout: 2 * time.Second},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = httptest.NewUnstartedServer(tracer.Handler(handler))
	c.server.Config.ErrorLog = log.New(guarded{c, &c.logs}, "", 0)
	c.server.Start()
	return m
}

// prepare makes a key that is under budgets, and a token of every format.
func (c *canaries) prepare() {
	c.t.Helper()
	root, err := c.world.Bootstrap(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.key = root.Reveal()
	var made struct{ ID, Key string }
	c.must("/v1/keys", `{"name":"spare","roles":["reader"]}`, &made)
	c.spare = made.ID
	c.must("/v1/keys", `{"name":"canaries","roles":["admin","writer","reader","eraser","auditor","operator"]}`, &made)
	c.key = made.Key
	var kept tokens
	c.must("/v1/tokenize", canaryBatch(), &kept)
	for _, item := range kept.Items {
		c.tokens = append(c.tokens, item.Token)
	}
}

func canaryBatch() string {
	return strings.ReplaceAll(`{"items":[{"type":"text","value":"C","subject_id":"C","reference":"C"},{"type":"name","value":"C"},
		{"type":"json","value":"{\"C\":\"C\"}"},{"type":"email","value":"C@example.com"},{"type":"address","value":"C\nC"}]}`, "C", canaryValue)
}

func (c *canaries) must(path, body string, into any) {
	c.t.Helper()
	status, answer := c.send(http.MethodPost, path, body, nil)
	if status >= 300 || json.Unmarshal(answer, into, json.MatchCaseInsensitiveNames(true)) != nil {
		c.t.Fatalf("%s is answered %d", path, status)
	}
}

// push sends everything, of several connections at once.
func (c *canaries) push(fault string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for path, item := range apitest.Load(c.t).Paths.Map() {
		for method, operation := range item.Operations() {
			c.routes[method+" "+path]++
			for _, query := range queries(operation) {
				c.sent[fault]++
				c.queries++
				wg.Go(func() { c.send(method, path+"?"+query, "", nil) })
			}
			for _, body := range c.bodies(path) {
				c.sent[fault]++
				wg.Go(func() { c.send(method, path, body, nil) })
			}
			for name, value := range map[string]string{
				"Authorization": "Bearer " + canaryFaulty, "Idempotency-Key": canaryFaulty, "Content-Type": canaryFaulty,
				"Traceparent": canaryFaulty, "X-Request-Id": canaryFaulty, "Cookie": canaryFaulty,
				"User-Agent": canaryFaulty, "X-Forwarded-For": canaryFaulty,
			} {
				c.sent[fault]++
				wg.Go(func() { c.send(method, path+"?q="+canaryFaulty, canaryBatch(), http.Header{name: {value}}) })
			}
		}
	}
	wg.Go(func() { c.send(http.MethodGet, "/"+canaryFaulty, "", nil) })
}

// queries are canaries in each query parameter of an operation: alone, and
// where a cursor has its place in a table.
func queries(of *openapi3.Operation) (queries []string) {
	for _, p := range of.Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			for _, value := range []string{canaryFaulty, canaryValue, "0." + canaryFaulty, "0." + base64.RawURLEncoding.EncodeToString([]byte(canaryFaulty))} {
				queries = append(queries, p.Value.Name+"="+value)
			}
		}
	}
	return queries
}

// bodies are sound ones where the path has one, and malformed ones.
func (c *canaries) bodies(path string) []string {
	f := `"` + canaryFaulty + `"`
	bodies := []string{
		"", f, `{` + f, `{` + f + `:1}`, `{"items":` + f + `}`, `{"items":[{"type":` + f + `,"value":"` + canaryValue + `"}]}`,
		`{"items":[{"type":"text","value":"` + canaryValue, `{"items":[{"type":"email","value":"` + canaryValue + `"}]}`,
		`{"items":[{"type":"text","value":"` + canaryValue + `\ud800"}]}`, "{\"items\":[{\"value\":\"" + canaryValue + "\xff\"}]}",
		`{"items":[{"value":"` + canaryValue + `","value":"` + canaryValue + `"}]}`,
		strings.Repeat(`[`, 40) + f + strings.Repeat(`]`, 40), `{"items":[{"token":` + f + `}],"purpose":"p","reveal":` + f + `}`,
		`{"items":[{"token":` + f + `,"reveal":` + f + `}],"purpose":"p"}`, `{"roles":[` + f + `],"name":"n"}`, `{"id":` + f + `}`, `{"job":` + f + `}`,
		`{"items":[{"token":` + f + `}]}`, `{"items":[{"token":` + f + `}],"purpose":"p"}`,
		`{"cursor":` + f + `,"token":` + f + `}`, `{"actor":` + f + `,"subject_id":` + f + `}`, `{"scope":` + f + `,"reason":"r"}`,
	}
	switch list := `[{"token":"` + strings.Join(c.tokens, `"},{"token":"`) + `"}]`; path {
	case "/v1/tokenize":
		bodies = append(bodies, canaryBatch(), strings.Replace(canaryBatch(), `{"items"`, `{"on_error":"continue","items"`, 1))
	case "/v1/detokenize":
		bodies = append(bodies, `{"purpose":"p","items":`+list+`}`, `{"purpose":"p","on_error":"continue","items":`+list+`}`)
	case "/v1/inspect":
		bodies = append(bodies, `{"items":`+list+`}`, `{"explain":true,"items":`+list+`}`)
	case "/v1/erase":
		bodies = append(bodies, `{"subject_id":"`+canaryFaulty+`"}`)
	case "/v1/audit/query":
		bodies = append(bodies, `{"token":"`+c.tokens[0]+`"}`, `{"subject_id":"`+canaryValue+`"}`)
	case "/v1/keys":
		bodies = append(bodies, `{"name":"made","roles":["reader"]}`)
	case "/v1/keys/show", "/v1/keys/revoke", "/v1/keys/rotate", "/v1/keys/suspend", "/v1/keys/reinstate":
		bodies = append(bodies, `{"id":"`+c.spare+`"}`)
	}
	return bodies
}

func (c *canaries) send(method, path, body string, header http.Header) (status int, answer []byte) {
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.server.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Content-Type", "application/json")
	maps.Copy(r.Header, header)
	w, err := c.server.Client().Do(r)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	defer func() { _ = w.Body.Close() }() // read to its end
	answer, err = io.ReadAll(w.Body)
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statuses[w.StatusCode]++
	if w.StatusCode >= 300 {
		_ = w.Header.Write(&c.refusals) // to memory
		c.refusals.Write(answer)
	}
	return w.StatusCode, answer
}

// close ends everything and returns what came out, but for the files.
func (c *canaries) close(m *metrics) map[string][]byte {
	c.t.Helper()
	if err := c.world.Regions[0].Reindex(); err != nil {
		c.t.Fatal(err)
	}
	entries := c.entries()
	scraped := httptest.NewRecorder()
	m.handler().ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	c.server.Close()
	c.tracer.Close() // sends what is left
	if err := c.world.Close(); err != nil {
		c.t.Error(err)
	}
	return map[string][]byte{
		"logs": c.logs.Bytes(), "traces": c.traces.Bytes(), "refusals": c.refusals.Bytes(), "entries": entries, "metrics": scraped.Body.Bytes(),
	}
}

// entries are all pages of the tenant's audit entries.
func (c *canaries) entries() (all []byte) {
	c.t.Helper()
	for body := `{"limit":1000}`; ; {
		var next struct {
			Cursor string `json:"next_cursor"`
		}
		_, page := c.send(http.MethodPost, "/v1/audit/query", body, nil)
		if err := json.Unmarshal(page, &next); err != nil {
			c.t.Fatal(err)
		}
		if all = append(all, page...); next.Cursor == "" {
			return all
		}
		body = `{"limit":1000,"cursor":"` + next.Cursor + `"}`
	}
}

func (c *canaries) scanner() *scan.Scanner {
	c.t.Helper()
	needles := []scan.Needle{
		{Name: "value", Value: []byte(canaryValue)},
		{Name: "elsewhere", Value: []byte(canaryFaulty)},
		{Name: "key", Value: []byte(strings.Split(c.key, "_")[2])},
	}
	for i, token := range c.tokens {
		needles = append(needles, scan.Needle{Name: fmt.Sprint("token ", i), Value: []byte(token[strings.LastIndexByte(token, '.')+1:])})
	}
	s, err := scan.New(needles)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *canaries) hits(s *scan.Scanner, name string, content []byte) []scan.Hit {
	c.t.Helper()
	report, err := s.Reader(name, bytes.NewReader(content))
	if err != nil {
		c.t.Fatal(err)
	}
	return report.Hits
}

// files looks through both regions' directories, then plants a canary there.
func (c *canaries) files(s *scan.Scanner, dir string) {
	c.t.Helper()
	report, err := s.Dir(dir)
	if err != nil || report.Keys == 0 || len(report.Hits) > 0 {
		c.t.Errorf("files: %+v, %v", report, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "planted"), []byte(canaryValue), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if report, err = s.Dir(dir); err != nil || len(report.Hits) != 1 {
		c.t.Errorf("files: a planted canary: %d hits, %v", len(report.Hits), err)
	}
}
