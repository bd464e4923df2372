package main

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/httpapi"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// deniedType is what the policies of newAlike let nobody see.
const deniedType = "address"

// freshName is the name of keys that may not erase that type either.
const freshName = "fresh"

// alike is a served world with a token of every kind that is refused.
type alike struct {
	t       testing.TB
	world   *sim.World
	handler http.Handler
	root    string
	tokens  map[string]string // by kind
	clock   atomic.Int64      // Unix ns; tests move it
}

func (a *alike) now() time.Time { return time.Unix(0, a.clock.Add(1000)) }

func newAlike(tb testing.TB) *alike {
	tb.Helper()
	policies, err := authz.NewPolicySource(authz.PolicySourceConfig{Dir: alikePolicies(tb), Logger: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	a := &alike{t: tb, tokens: map[string]string{}}
	a.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	if a.world, err = sim.Open(tb.Context(), sim.Config{
		Dir: tb.TempDir(), Regions: devRegions(), Now: a.now, Logger: zerolog.Nop(), ErasureQuiet: time.Millisecond,
		Wrap: func(_ string, cfg *vault.Config) { cfg.Policies = policies },
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.world.Close(); err != nil {
			tb.Error(err)
		}
	})
	if a.handler, err = httpapi.New(httpapi.Config{Vault: a.world.Regions[0].Vault, Logger: zerolog.Nop(), Now: a.now, Random: rand.Reader}); err != nil {
		tb.Fatal(err)
	}
	root, err := a.world.Bootstrap(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	a.root = root.Reveal()
	a.tokens["denied"], a.tokens["erased"] = a.keep(`"type":"`+deniedType+`","value":"1 Some Street"`), a.keep(`"type":"`+deniedType+`","value":"2 Some Street"`)
	a.tokens["expired"] = a.keep(`"type":"` + deniedType + `","value":"4 Some Street","expires_at":"2026-03-01T13:00:00Z"`)
	a.clock.Add(int64(2 * time.Hour))
	a.must("/v1/erase", a.root, `{"items":[{"token":"`+a.tokens["erased"]+`"}]}`, nil)
	parts := strings.Split(a.tokens["denied"], ".")
	parts[3] = rand.Text() + "AAAAAA" // as many letters as 24 bytes have
	a.tokens["unknown"] = strings.Join(parts, ".")
	a.tokens["another tenant's"] = a.elsewhere()
	return a
}

// keep tokenizes one item, with every right.
func (a *alike) keep(item string) string {
	a.t.Helper()
	var made tokens
	a.must("/v1/tokenize", a.root, `{"items":[{`+item+`}]}`, &made)
	return made.Items[0].Token
}

// alikePolicies are the default set and two that deny by attribute.
func alikePolicies(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	put := func(name, text string) {
		tb.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	from := os.DirFS("../../internal/authz/policies")
	files, err := fs.Glob(from, "*.cedar")
	if err != nil || len(files) == 0 {
		tb.Fatal(len(files), err)
	}
	for _, name := range files {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			tb.Fatal(err)
		}
		put(name, string(text))
	}
	put("denied.cedar", `@id("denied")
forbid (principal, action in [Action::"detokenize", Action::"inspect"], resource) when { resource.type == "`+deniedType+`" };
@id("denied.erase")
forbid (principal, action == Action::"erase", resource is Type) when { resource.type == "`+deniedType+`" && principal.name == "`+freshName+`" };
`)
	return dir
}

// elsewhere is a token that another tenant of the same vault was given.
func (a *alike) elsewhere() string {
	a.t.Helper()
	local := a.world.Regions[0].Vault
	id, err := local.CreateTenant(a.t.Context(), "second")
	if err != nil {
		a.t.Fatal(err)
	}
	c := vault.Call{RequestID: "test", Principal: vault.Principal{Tenant: id, ID: "key_second", Authentication: "api_key", Roles: []authz.Role{authz.RoleAdmin}}}
	key, err := local.CreateKey(a.t.Context(), c, vault.NewKeyRequest{Name: "second", Roles: []authz.Role{authz.RoleWriter}})
	if err != nil {
		a.t.Fatal(err)
	}
	var made tokens
	a.must("/v1/tokenize", key.Key.Reveal(), `{"items":[{"type":"`+deniedType+`","value":"3 Some Street"}]}`, &made)
	return made.Items[0].Token
}

// ask is one request by its path and body.
func (a *alike) ask(path, key, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(a.t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	return w
}

func (a *alike) must(path, key, body string, into any) {
	a.t.Helper()
	w := a.ask(path, key, body)
	if w.Code >= 300 {
		a.t.Fatalf("%s is answered %d: %s", path, w.Code, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into, json.MatchCaseInsensitiveNames(true)); err != nil {
			a.t.Fatal(err)
		}
	}
}

// freshKey is a key that has spent nothing, so that what is left of its
// budgets is the same for every kind.
func (a *alike) freshKey(name string) string {
	a.t.Helper()
	var made struct{ Key string }
	a.must("/v1/keys", a.root, `{"name":"`+name+`","roles":["reader","writer","eraser"]}`, &made)
	return made.Key
}

// What differs between any two answers: their request's id, where its entry is
// in the log, and the id of an erasure.
var unlike = regexp.MustCompile(`"request_id":"[^"]*"|"first_index":\d+|"job":"[^"]*"`)

// compare asks the same about a token of each kind, and holds the answers
// against that for an unknown one, byte for byte, headers too.
func (a *alike) compare(t *testing.T, path, want string, kinds []string, ask func(token string) (key, body string)) {
	t.Helper()
	answers := map[string]string{}
	for _, kind := range kinds {
		key, body := ask(a.tokens[kind])
		w := a.ask(path, key, body)
		text := unlike.ReplaceAllString(w.Body.String(), "")
		for _, header := range []string{"X-Request-Id", "Content-Length"} { // an index has more digits than another
			w.Header().Del(header)
		}
		answers[kind] = fmt.Sprintln(w.Code, w.Header()) + text
	}
	if !strings.Contains(answers["unknown"], want) {
		t.Errorf("an unknown token is answered %s", answers["unknown"])
	}
	for kind, got := range answers {
		if got != answers["unknown"] {
			t.Errorf("%s is answered\n%s\nand unknown\n%s", kind, got, answers["unknown"])
		}
	}
}

// What is denied by attributes, unknown, erased, expired or another tenant's is
// answered the same: a token tells nothing to one who may not have its value
// (design §3), alone or beside one that is answered.
func TestRefusedTokensAreAnsweredAlike(t *testing.T) {
	a := newAlike(t)
	readable := `{"token":"` + a.keep(`"type":"email","value":"ann@example.com"`) + `"},`
	all := slices.Collect(maps.Keys(a.tokens))
	for name, q := range map[string]struct{ path, before, item string }{
		"detokenize":                  {"/v1/detokenize", `{"purpose":"p","items":[`, ``},
		"detokenize masked":           {"/v1/detokenize", `{"purpose":"p","items":[`, `,"reveal":"masked"`},
		"detokenize, continue":        {"/v1/detokenize", `{"purpose":"p","on_error":"continue","items":[`, ``},
		"detokenize, batch":           {"/v1/detokenize", `{"purpose":"p","items":[` + readable, ``},
		"detokenize, batch, continue": {"/v1/detokenize", `{"purpose":"p","on_error":"continue","items":[` + readable, `,"reveal":"masked"`},
		"inspect":                     {"/v1/inspect", `{"items":[`, ``},
		"inspect, batch":              {"/v1/inspect", `{"items":[` + readable, ``},
		"explain":                     {"/v1/inspect", `{"explain":true,"items":[`, ``},
		"explain, batch":              {"/v1/inspect", `{"explain":true,"items":[` + readable, ``},
	} {
		t.Run(name, func(t *testing.T) {
			a.compare(t, q.path, "not_found", all, func(token string) (key, body string) {
				key = a.freshKey(freshName)
				if strings.Contains(q.before, "explain") {
					key = a.root
				}
				return key, q.before + `{"token":"` + token + `"` + q.item + `}]}`
			})
		})
	}
}

// An erasure that is not allowed tells nothing of what a token stands for. One
// that is allowed tells how many records it ended, and of those that were none
// nothing else.
func TestErasuresAreAnsweredAlike(t *testing.T) {
	erase := func(a *alike, name string, batch bool) func(string) (string, string) {
		return func(token string) (key, body string) {
			before := ""
			if batch {
				before = `{"token":"` + a.keep(`"type":"email","value":"ann@example.com"`) + `"},`
			}
			return a.freshKey(name), `{"items":[` + before + `{"token":"` + token + `"}]}`
		}
	}
	for _, batch := range []bool{false, true} {
		a := newAlike(t)
		a.compare(t, "/v1/erase", "forbidden", slices.Collect(maps.Keys(a.tokens)), erase(a, freshName, batch))
		want := map[bool]string{false: `"erased":0`, true: `"erased":1`}[batch]
		a.compare(t, "/v1/erase", want, []string{"unknown", "erased", "another tenant's"}, erase(a, "eraser", batch))
	}
}

// The entries tell apart what the answers do not.
func TestEntriesTellRefusalsApart(t *testing.T) {
	a := newAlike(t)
	for kind, outcome := range map[string]string{"denied": "denied", "erased": "erased", "expired": "expired", "unknown": "not_found", "another tenant's": "not_found"} {
		key := a.freshKey(freshName)
		a.ask("/v1/detokenize", key, `{"purpose":"p","items":[{"token":"`+a.tokens[kind]+`"}]}`)
		if err := a.world.Regions[0].Reindex(); err != nil {
			t.Fatal(err)
		}
		var found struct{ Entries []struct{ Outcome string } }
		a.must("/v1/audit/query", a.root, `{"action":"detokenize","actor":"key_`+strings.Split(key, "_")[1]+`"}`, &found)
		if len(found.Entries) != 1 || found.Entries[0].Outcome != outcome {
			t.Errorf("%s: the entries are %+v", kind, found.Entries)
		}
	}
}
