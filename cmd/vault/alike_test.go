package main

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// alike is a served world with a token of every kind that is refused.
type alike struct {
	t       testing.TB
	world   *sim.World
	handler http.Handler
	root    string
	tokens  map[string]string // by kind
}

func newAlike(tb testing.TB) *alike {
	tb.Helper()
	policies, err := authz.NewPolicySource(authz.PolicySourceConfig{Dir: alikePolicies(tb), Logger: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	a := &alike{t: tb, tokens: map[string]string{}}
	if a.world, err = sim.Open(tb.Context(), sim.Config{
		Dir: tb.TempDir(), Regions: devRegions(), Logger: zerolog.Nop(), ErasureQuiet: time.Millisecond,
		Wrap: func(_ string, cfg *vault.Config) { cfg.Policies = policies },
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.world.Close(); err != nil {
			tb.Error(err)
		}
	})
	if a.handler, err = httpapi.New(httpapi.Config{Vault: a.world.Regions[0].Vault, Logger: zerolog.Nop(), Now: time.Now, Random: rand.Reader}); err != nil {
		tb.Fatal(err)
	}
	root, err := a.world.Bootstrap(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	a.root = root.Reveal()
	var made tokens
	a.must("/v1/tokenize", a.root, `{"items":[{"type":"`+deniedType+`","value":"1 Some Street"},{"type":"`+deniedType+`","value":"2 Some Street"}]}`, &made)
	a.tokens["denied"], a.tokens["erased"] = made.Items[0].Token, made.Items[1].Token
	a.must("/v1/erase", a.root, `{"items":[{"token":"`+made.Items[1].Token+`"}]}`, nil)
	parts := strings.Split(made.Items[0].Token, ".")
	parts[3] = rand.Text() + "AAAAAA" // as many letters as 24 bytes have
	a.tokens["unknown"] = strings.Join(parts, ".")
	a.tokens["another tenant's"] = a.elsewhere()
	return a
}

// alikePolicies are the default set and one that denies by attribute.
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
func (a *alike) freshKey() string {
	a.t.Helper()
	var made struct{ Key string }
	a.must("/v1/keys", a.root, `{"name":"fresh","roles":["reader","writer"]}`, &made)
	return made.Key
}

// What differs between any two answers: their request's id, and where its entry is in the log.
var unlike = regexp.MustCompile(`"request_id":"[^"]*"|"first_index":\d+`)

// What is denied by attributes, unknown, erased or another tenant's is
// answered the same, byte for byte, headers too: a token tells nothing to one
// who may not have its value (design §3).
func TestRefusedTokensAreAnsweredAlike(t *testing.T) {
	a := newAlike(t)
	for name, q := range map[string]struct{ path, body string }{
		"detokenize":           {"/v1/detokenize", `{"purpose":"p","items":[{"token":"%s"}]}`},
		"detokenize masked":    {"/v1/detokenize", `{"purpose":"p","items":[{"token":"%s","reveal":"masked"}]}`},
		"detokenize, continue": {"/v1/detokenize", `{"purpose":"p","on_error":"continue","items":[{"token":"%s"}]}`},
		"inspect":              {"/v1/inspect", `{"items":[{"token":"%s"}]}`},
		"explain":              {"/v1/inspect", `{"explain":true,"items":[{"token":"%s"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{}
			for kind, token := range a.tokens {
				key := a.freshKey()
				if name == "explain" {
					key = a.root
				}
				w := a.ask(q.path, key, fmt.Sprintf(q.body, token))
				w.Header().Del("X-Request-Id")
				answers[kind] = fmt.Sprintln(w.Code, w.Header()) + unlike.ReplaceAllString(w.Body.String(), "")
			}
			if want := answers["unknown"]; !strings.Contains(want, "not_found") {
				t.Errorf("an unknown token is answered %s", want)
			}
			for kind, got := range answers {
				if got != answers["unknown"] {
					t.Errorf("%s is answered\n%s\nand unknown\n%s", kind, got, answers["unknown"])
				}
			}
		})
	}
}

// The entries tell apart what the answers do not.
func TestEntriesTellRefusalsApart(t *testing.T) {
	a := newAlike(t)
	for kind, outcome := range map[string]string{"denied": "denied", "erased": "erased", "unknown": "not_found", "another tenant's": "not_found"} {
		key := a.freshKey()
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
