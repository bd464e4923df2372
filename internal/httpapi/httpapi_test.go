package httpapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/api"
	"piivault/internal/httpapi"
	"piivault/internal/vault"
)

func decodeProblem(t *testing.T, w *httptest.ResponseRecorder) (p api.Problem) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d is no problem: %q", w.Code, w.Body)
	}
	return p
}

// operations are one good request each, in the order of the contract.
var operations = []struct{ method, path, body, want string }{
	{
		"POST", "/v1/tokenize", `{"items":[{"type":"email","value":"a\u0062c","subject_id":"C-1","reference":"r1","expires_at":"2030-01-01T00:00:00Z","country":"IE"},{"type":"unknown","value":"x"}],"on_error":"continue"}`,
		`{"items":[{"index":0,"key_copies":{"missing":[],"present":["eu-west-1"]},"reference":"r1","status":"ok","token":"` + token + `"},` +
			`{"error":{"code":"unknown_type","message":"No such type.","retryable":false},"index":1,"status":"error"}]}`,
	},
	{
		"POST", "/v1/detokenize", `{"items":[{"token":"` + token + `","reveal":"masked","reference":"r1"},{"token":"x"}],"purpose":"p","ticket":"t","on_error":"continue"}`,
		`{"audit":{"entries":2,"first_index":7,"log":"eu-west-1/i/1"},"items":[{"index":0,"reference":"r1","reveal":"plain","status":"ok","type":"text","value":"ann \"q\" é\n` + canary + `"},` +
			`{"error":{"code":"not_found","message":"Nothing.","retryable":false},"index":1,"status":"error"}]}`,
	},
	{
		"POST", "/v1/inspect", `{"items":[{"token":"` + token + `"},{"token":"x"}]}`,
		`{"items":[{"bound":false,"created":"2026-03-01T09:30:00.123Z","data_key":{"id":"dk","reused":false},"generation":0,"home_region":"eu-west-1","index":0,"key_copies":{"missing":[],"present":["eu-west-1"]},"ring_epoch":1,"status":"ok","type":"email"},` +
			`{"error":{"code":"not_found","message":"Nothing.","retryable":false},"index":1,"status":"error"}]}`,
	},
	{
		"POST", "/v1/erase", `{"items":[{"token":"` + token + `"}]}`,
		`{"complete":false,"erased":1,"job":"job-1","regions":[{"confirmed":true,"name":"eu-west-1"},{"confirmed":false,"name":"us-east-1"}]}`,
	},
	{"GET", "/v1/types", "", `{"types":[{"bound":true,"mask_example":"a***@example.com","name":"email","searchable":false,"token_format":"random"}]}`},
	{
		"GET", "/v1/regions", "",
		`{"degraded_records":3,"local":"eu-west-1","regions":[{"kms":"up","missing_copies":0,"name":"eu-west-1"},{"kms":"denied","missing_copies":3,"name":"us-east-1"}]}`,
	},
	{"POST", "/v1/repair", "", ""},
	{
		"POST", "/v1/inspect", `{"items":[{"token":"` + token + `"}],"explain":true}`,
		`{"items":[{"bound":false,"created":"2026-03-01T09:30:00.123Z","data_key":{"id":"dk","max_fields":1,"reused":false},"generation":0,"home_region":"eu-west-1","index":0,"key_copies":{"missing":[],"present":["eu-west-1"]},` +
			`"readers":[{"policies":["role.reader"],"reveal":"plain","role":"reader"}],"ring_epoch":1,"status":"ok","type":"email"}]}`,
	},
	{
		"GET", "/v1/coverage", "",
		`{"counted_at":"2026-03-01T09:30:00.123Z","degraded_records":2,"outdated_records":0,"records":5,"regions":[` +
			`{"kms":"up","missing_copies":0,"name":"eu-west-1","secrets_unreadable_if_lost":0,"unreadable_if_lost":2},` +
			`{"kms":"up","missing_copies":2,"name":"us-east-1","replication_lag_seconds":0,"secrets_unreadable_if_lost":0,"unreadable_if_lost":0}],` +
			`"ring_epoch":1,"tenant_secrets":1,"unreadable":0}`,
	},
	{
		"GET", "/v1/coverage?cursor=3.ab~4.", "",
		`{"counted_at":"2026-03-01T09:30:00.123Z","degraded_records":2,"next_cursor":"3.ab~4.","outdated_records":0,"records":5,"regions":[` +
			`{"kms":"up","missing_copies":0,"name":"eu-west-1","secrets_unreadable_if_lost":0,"unreadable_if_lost":2},` +
			`{"kms":"up","missing_copies":2,"name":"us-east-1","replication_lag_seconds":0,"secrets_unreadable_if_lost":0,"unreadable_if_lost":0}],` +
			`"ring_epoch":1,"tenant_secrets":1,"unreadable":0}`,
	},
	{"GET", "/v1/repair", "", `{"failed":0,"remaining":1,"repaired":3,"scanned":4,"state":"running"}`},
	{"POST", "/v1/keys", `{"name":"n","roles":["reader","writer"],"expires_at":"2030-01-01T00:00:00Z"}`, `{"id":"0123","key":"` + key + `","not_reached":[]}`},
	{"GET", "/v1/keys", "", `{"keys":[{"created":"2026-03-01T09:30:00.123Z","id":"0123","name":"n","revoked":"2026-03-01T09:30:00.124Z","roles":["reader"]}]}`},
	{"POST", "/v1/keys/revoke", `{"id":"0123"}`, `{"not_reached":["us-east-1"]}`},
	{
		"POST", "/v1/keys/rotate", `{"id":"0123"}`,
		`{"id":"8be1d74f0c2a","key":"pvk_8be1d74f0c2a_secret","not_reached":["us-east-1"],"old_expires":"1970-01-02T00:00:00.000Z"}`,
	},
	{"POST", "/v1/keys/suspend", `{"id":"0123"}`, `{"not_reached":["us-east-1"]}`},
	{"POST", "/v1/keys/reinstate", `{"id":"oidc_corp_alice"}`, `{"not_reached":[]}`},
	{"POST", "/v1/stop", `{"reason":"why"}`, `{"id":"s1","not_reached":["us-east-1"]}`},
	{"POST", "/v1/resume", `{"reason":"why"}`, `{"lifted":["s1"],"not_reached":[],"stopped":true}`},
	{
		"GET", "/v1/stop", "",
		`{"stops":[{"by":"key_0123","id":"s1","reason":"why","scope":"tenant","since":"2026-03-01T09:30:00.123Z"},{"id":"s2","scope":"deployment","since":"2026-03-01T09:30:00.124Z"}]}`,
	},
	{
		"POST", "/v1/audit/query", `{"actor":"a","token":"tok","record":"r","subject_id":"s","type":"ty","action":"ac","purpose":"p","outcome":"denied","from":"2026-01-01T00:00:00Z","to":"2027-01-01T00:00:00Z","limit":2,"cursor":"c"}`,
		`{"entries":[{"about":{"index":0,"log":"l"},"action":"detokenize","actor":"key_0123","authentication":"api_key","generation":0,"index":1,"log":"l","outcome":"copy_used","policies":["reader"],"record":"rec","region":"eu-west-1","request_id":"r","tenant":"t_1","time":"2026-03-01T09:30:00.123Z","type":"email"}],"next_cursor":"more"}`,
	},
}

func TestEveryOperationAnswers(t *testing.T) {
	statuses := map[string]int{"POST /v1/repair": http.StatusAccepted, "POST /v1/keys": http.StatusCreated, "POST /v1/keys/rotate": http.StatusCreated}
	for _, op := range operations {
		t.Run(op.method+op.path, func(t *testing.T) {
			h := newHarness(t)
			w := h.do(request(op.method, op.path, op.body))
			want := statuses[op.method+" "+op.path]
			if want == 0 {
				want = http.StatusOK
			}
			if w.Code != want {
				t.Fatalf("answered %d: %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(canonical(t, op.want), canonical(t, w.Body.String())); diff != "" {
				t.Error(diff)
			}
			if c := h.vault.call; c.Principal.ID != "key_0123" || c.RequestID != w.Header().Get("X-Request-Id") || c.Client != "192.0.2.1" {
				t.Errorf("the domain was called as %+v", c)
			}
		})
	}
}

func canonical(t *testing.T, text string) (v any) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// What the domain is given is what was sent, to the byte.
func TestRequestsReachTheDomainWhole(t *testing.T) {
	h := newHarness(t)
	idempotent := strings.Repeat("aZ9-._~", 4)
	for _, op := range operations {
		r := request(op.method, op.path, op.body)
		if op.path == "/v1/tokenize" {
			r.Header.Set("Idempotency-Key", idempotent)
		}
		h.do(r)
	}
	f := h.vault
	item := f.tokenize.Items[0]
	if item.Type != "email" || f.values[0] != "abc" || item.Subject != "C-1" || item.Expires != "2030-01-01T00:00:00Z" || item.Country != "IE" ||
		!f.tokenize.Continue || f.tokenize.IdempotencyKey.Reveal() != idempotent {
		t.Errorf("tokenize was called with %q %+v", f.values, item)
	}
	if d := f.detokenize; d.Items[0].Token.Reveal() != token || d.Items[0].Reveal != vault.Masked || d.Items[1].Reveal != "" || d.Purpose != "p" || d.Ticket != "t" || !d.Continue {
		t.Errorf("detokenize was called with %+v", d)
	}
	if f.erase.Tokens[0].Reveal() != token || f.erase.SubjectID != "" {
		t.Errorf("erase was called with %+v", f.erase)
	}
	if f.newKey.Name != "n" || len(f.newKey.Roles) != 2 || f.newKey.Roles[1] != "writer" || f.newKey.Expires != "2030-01-01T00:00:00Z" {
		t.Errorf("create key was called with %+v", f.newKey)
	}
	q := f.audit
	if q.Token.Reveal() != "tok" {
		t.Error("the audit query lost its token")
	}
	q.Token = f.erase.Tokens[0] // compares as printed
	want := "{a r ty ac p denied REDACTED s 2026-01-01T00:00:00Z 2027-01-01T00:00:00Z 2 c}"
	if got := sprint(q); got != want {
		t.Errorf("audit query was called with %s, want %s", got, want)
	}
}

// G4: values do not outlive their request, in either direction.
func TestValuesAreWiped(t *testing.T) {
	h := newHarness(t)
	h.do(request("POST", "/v1/tokenize", operations[0].body))
	if got := h.vault.tokenize.Items[0].Value.Len(); got != 0 {
		t.Errorf("%d bytes of a value are left after tokenize", got)
	}
	h.do(request("POST", "/v1/detokenize", operations[1].body))
	if got := h.vault.revealed[0].Len(); got != 0 {
		t.Errorf("%d bytes of a value are left after detokenize", got)
	}
}

func TestEveryAnswerHasTheCommonHeaders(t *testing.T) {
	h := newHarness(t)
	seen := map[string]bool{}
	for _, r := range []*http.Request{
		request("POST", "/v1/tokenize", operations[0].body), request("POST", "/v1/tokenize", "{"), request("GET", "/livez", ""),
		request("GET", "/nowhere", ""), request("PUT", "/v1/tokenize", "{}"), request("OPTIONS", "/v1/keys", ""), request("GET", "/openapi.yaml", ""),
	} {
		r.Header.Set("X-Request-Id", canary)
		w := h.do(r)
		id := w.Header().Get("X-Request-Id")
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) || seen[id] {
			t.Errorf("%s %s: the request id is %q", r.Method, r.URL.Path, id)
		}
		seen[id] = true
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers are %v", r.Method, r.URL.Path, w.Header())
		}
	}
	if strings.Contains(h.log.String(), canary) {
		t.Error("a client's own request id was logged")
	}
}

func TestEveryOperationNeedsACredential(t *testing.T) {
	for _, op := range operations {
		h := newHarness(t)
		for _, sent := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {"Basic " + key}, {"Bearer " + canary}, {"Bearer " + key, "Bearer " + key}} {
			r := request(op.method, op.path, op.body)
			r.Header["Authorization"] = sent
			w := h.do(r)
			if p := decodeProblem(t, w); w.Code != http.StatusUnauthorized || p.Code != "unauthenticated" || !strings.HasPrefix(w.Header().Get("Www-Authenticate"), "Bearer ") {
				t.Errorf("%s %s with %q answered %d %v", op.method, op.path, sent, w.Code, w.Header())
			}
			if strings.Contains(w.Body.String()+h.log.String(), canary) {
				t.Errorf("a credential was repeated")
			}
		}
		if h.vault.call.RequestID != "" {
			t.Errorf("%s %s reached the domain without a credential", op.method, op.path)
		}
		r := request(op.method, op.path, op.body)
		r.Header.Set("Authorization", "bEARER "+key)
		if w := h.do(r); w.Code >= 300 {
			t.Errorf("%s %s with another case of the scheme answered %d", op.method, op.path, w.Code)
		}
	}
}

// No byte of a body is read before its sender is known.
func TestBodiesOfStrangersAreNotRead(t *testing.T) {
	h := newHarness(t)
	body := &countingReader{r: strings.NewReader(operations[0].body)}
	r := httptest.NewRequest("POST", "/v1/tokenize", nil)
	r.Body = io.NopCloser(body)
	handler, err := httpapi.New(configOf(h))
	if err != nil {
		t.Fatal(err)
	}
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if body.n != 0 {
		t.Errorf("%d bytes were read", body.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestPathsAndMethodsOutsideTheContract(t *testing.T) {
	h := newHarness(t)
	h.refused(t, request("GET", "/"+canary, ""), http.StatusNotFound, "no_such_route")
	h.refused(t, request("POST", "/v1/tokenize/", "{}"), http.StatusNotFound, "no_such_route")
	h.refused(t, request("GET", "/metrics", ""), http.StatusNotFound, "no_such_route")
	for path, allow := range map[string]string{"/v1/tokenize": "POST, OPTIONS", "/v1/types": "GET, HEAD, OPTIONS", "/v1/keys": "GET, HEAD, POST, OPTIONS"} {
		w := h.do(request("DELETE", path, ""))
		if p := decodeProblem(t, w); w.Code != http.StatusMethodNotAllowed || p.Code != "method_not_allowed" || !sameList(w.Header().Get("Allow"), allow) {
			t.Errorf("DELETE %s answered %d, Allow %q", path, w.Code, w.Header().Get("Allow"))
		}
		w = h.do(request("OPTIONS", path, ""))
		if w.Code != http.StatusNoContent || !sameList(w.Header().Get("Allow"), allow) {
			t.Errorf("OPTIONS %s answered %d, Allow %q", path, w.Code, w.Header().Get("Allow"))
		}
	}
	if log := h.log.String(); strings.Contains(log, canary) || !strings.Contains(log, `"route":"unmatched"`) || !strings.Contains(log, `"route":"/v1/types"`) {
		t.Errorf("the log names paths of clients, or not the contract's: %s", log)
	}
}

func sameList(a, b string) bool {
	have := map[string]bool{}
	for method := range strings.SplitSeq(a, ", ") {
		have[method] = true
	}
	n := 0
	for method := range strings.SplitSeq(b, ", ") {
		if n++; !have[method] {
			return false
		}
	}
	return n == len(have)
}

// A real server: HEAD answers like GET, without the body.
func TestHeadOnAServer(t *testing.T) {
	h := newHarness(t, func(c *httpapi.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "vault_up 1\n")
		})
	})
	server := httptest.NewServer(h)
	defer server.Close()
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/openapi.yaml"} {
		for _, method := range []string{"GET", "HEAD"} {
			r, _ := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || (len(body) > 0) != (method == "GET") {
				t.Errorf("%s %s answered %d with %d bytes", method, path, resp.StatusCode, len(body))
			}
		}
	}
}

func TestReadyNamesWhatIsOut(t *testing.T) {
	draining := false
	h := newHarness(t, func(c *httpapi.Config) { c.Draining = func() bool { return draining } })
	h.vault.ready = map[string]error{"store": nil, "kms": nil}
	if w := h.do(request("GET", "/readyz", "")); w.Code != http.StatusOK || w.Body.String() != `{"dependencies":[{"name":"kms","ready":true},{"name":"store","ready":true}],"ready":true}` {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	h.vault.ready["kms"] = errFault
	if w := h.do(request("GET", "/readyz", "")); w.Code != http.StatusServiceUnavailable || w.Body.String() != `{"dependencies":[{"name":"kms","ready":false},{"name":"store","ready":true}],"ready":false}` {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	if !strings.Contains(h.log.String(), "a fault") {
		t.Error("the log does not say why")
	}
	h.vault.ready["kms"], draining = nil, true
	if w := h.do(request("GET", "/readyz", "")); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"serving"`) {
		t.Errorf("draining answered %d %s", w.Code, w.Body)
	}
	if w := h.do(request("GET", "/livez", "")); w.Code != http.StatusOK {
		t.Errorf("livez answered %d", w.Code)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*httpapi.Config){
		"no vault":  func(c *httpapi.Config) { c.Vault = nil },
		"no clock":  func(c *httpapi.Config) { c.Now = nil },
		"no random": func(c *httpapi.Config) { c.Random = nil },
		"raised":    func(c *httpapi.Config) { c.Limits.TokenizeItems = 501 },
		"negative":  func(c *httpapi.Config) { c.Limits.Timeout = -1 },
	} {
		cfg := configOf(&harness{vault: &fakeVault{}, log: &logBuffer{}})
		spoil(&cfg)
		if _, err := httpapi.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
