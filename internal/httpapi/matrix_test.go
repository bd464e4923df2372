package httpapi_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"piivault/internal/authz"
	"piivault/internal/httpapi"
	"piivault/internal/httpapi/apitest"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// rightTo says who may call each operation of the contract under the default
// policies: nil for every credential, open for none at all. An operation that
// is not here fails the test.
func rightTo() map[string][]authz.Role {
	return map[string][]authz.Role{
		"tokenize": {authz.RoleWriter}, "inspect": {authz.RoleWriter},
		"detokenize": {authz.RoleReader, authz.RoleSupport},
		"erase":      {authz.RoleEraser},
		"queryAudit": {authz.RoleAuditor},
		"createKey":  {authz.RoleAdmin}, "listKeys": {authz.RoleAdmin}, "showKey": {authz.RoleAdmin}, "revokeKey": {authz.RoleAdmin},
		"rotateKey": {authz.RoleAdmin}, "suspendKey": {authz.RoleAdmin}, "reinstateKey": {authz.RoleAdmin},
		"startRepair": {authz.RoleOperator}, "getRepair": {authz.RoleOperator}, "getCoverage": {authz.RoleOperator},
		"stop": {authz.RoleAdmin, authz.RoleOperator}, "resume": {authz.RoleAdmin, authz.RoleOperator}, "getStops": {authz.RoleAdmin, authz.RoleOperator},
		"listTypes": nil, "getRegions": nil,
	}
}

// bodyFor is a good request of an operation; the token is one that exists.
func bodyFor(operation, token string) string {
	items := fmt.Sprintf(`"items":[{"token":%q}]`, token)
	switch operation {
	case "tokenize":
		return `{"items":[{"type":"email","value":"bob@example.com"}]}`
	case "detokenize":
		return `{` + items + `,"purpose":"test"}`
	case "inspect", "erase":
		return `{` + items + `}`
	case "createKey":
		return `{"name":"n","roles":["reader"]}`
	case "showKey", "revokeKey", "rotateKey", "suspendKey", "reinstateKey":
		return `{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa"}`
	case "stop", "resume":
		return `{"reason":"test"}`
	default:
		return `{}`
	}
}

// deployment is one region with the real policies behind HTTP.
type deployment struct {
	t       *testing.T
	handler http.Handler
	admin   string
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	w, err := sim.Open(t.Context(), sim.Config{Dir: t.TempDir(), Regions: []string{"eu-west-1", "us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	credential, err := w.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := httpapi.New(httpapi.Config{Vault: w.Regions[0].Vault, Now: time.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return &deployment{t, apitest.New(t).Handler(h), credential.Reveal()}
}

func (d *deployment) do(method, path, credential, body string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w
}

func (d *deployment) answer(into any, method, path, credential, body string) {
	d.t.Helper()
	w := d.do(method, path, credential, body)
	if w.Code >= http.StatusBadRequest {
		d.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) key(roles ...authz.Role) string {
	d.t.Helper()
	b, err := json.Marshal(map[string]any{"name": "test", "roles": roles})
	if err != nil {
		d.t.Fatal(err)
	}
	var made struct {
		Key string `json:"key"`
	}
	d.answer(&made, http.MethodPost, "/v1/keys", d.admin, string(b))
	return made.Key
}

// Every route of the contract, with every default role alone, with all but
// those that may, and with no credential: who may is answered, whoever may not
// gets 403 or 401 and nothing else, and no value leaves for the wrong one.
func TestRouteByRole(t *testing.T) {
	d := newDeployment(t)
	const value = "ann.canary@example.com"
	var made struct {
		Items []struct {
			Token string `json:"token"`
		} `json:"items"`
	}
	callers := map[authz.Role]string{}
	for _, role := range authz.Roles() {
		callers[role] = d.key(role)
	}
	pairs := 0
	seen := map[string]bool{}
	doc := apitest.Load(t)
	for _, path := range slices.Sorted(slices.Values(doc.Paths.InMatchingOrder())) {
		for method, op := range doc.Paths.Value(path).Operations() {
			open := op.Security != nil
			may, known := rightTo()[op.OperationID]
			if seen[op.OperationID] = true; known == open {
				t.Errorf("%s %s: say in rightTo who may call it", method, path)
				continue
			}
			check := func(who, credential string, want bool) {
				t.Helper()
				pairs++
				d.answer(&made, http.MethodPost, "/v1/tokenize", d.admin, `{"items":[{"type":"email","value":"`+value+`"}]}`)
				w := d.do(method, path, credential, bodyFor(op.OperationID, made.Items[0].Token))
				got := w.Code != http.StatusForbidden && w.Code != http.StatusUnauthorized
				answered := w.Code < http.StatusBadRequest || w.Code == http.StatusNotFound // no key has this id
				if got != want || want && !answered && !open {
					t.Errorf("%s %s as %s: %d, may %v: %s", method, path, who, w.Code, want, w.Body)
				}
				if shows := strings.Contains(w.Body.String(), value); shows && (op.OperationID != "detokenize" || who != string(authz.RoleReader)) {
					t.Errorf("%s %s as %s: a value leaked", method, path, who)
				}
				if op.OperationID == "stop" && got {
					d.do(http.MethodPost, "/v1/resume", d.admin, `{"reason":"test"}`)
				}
			}
			check("nobody", "", open)
			check("a key that is not", "pvk_aaaaaaaaaaaaaaaaaaaaaaaaaa_"+strings.Repeat("a", 52), open)
			var others []authz.Role
			for _, role := range authz.Roles() {
				right := open || may == nil || slices.Contains(may, role)
				check(string(role), callers[role], right)
				if !right {
					others = append(others, role)
				}
			}
			if len(others) > 0 {
				check("all others", d.key(others...), false)
			}
		}
	}
	for operation := range rightTo() {
		if !seen[operation] {
			t.Errorf("rightTo names %s, which the contract does not have", operation)
		}
	}
	t.Logf("%d pairs of a route and a caller, %d operations", pairs, len(seen))
}

// dutyOfRoute is the duty that each path of the contract needs; "" for what
// every instance answers. A path that is not here fails the test.
func dutyOfRoute() map[string]vault.Duty {
	return map[string]vault.Duty{
		"/v1/tokenize": vault.CanTokenize, "/v1/inspect": vault.CanTokenize, "/v1/detokenize": vault.CanDetokenize, "/v1/audit/query": vault.CanAudit,
		"/v1/erase": vault.CanRepair, "/v1/repair": vault.CanRepair, "/v1/coverage": vault.CanRepair, "/v1/stop": vault.CanRepair, "/v1/resume": vault.CanRepair,
		"/v1/keys": vault.CanRepair, "/v1/keys/show": vault.CanRepair, "/v1/keys/revoke": vault.CanRepair, "/v1/keys/rotate": vault.CanRepair, "/v1/keys/suspend": vault.CanRepair, "/v1/keys/reinstate": vault.CanRepair,
		"/v1/types": "", "/v1/regions": "", "/livez": "", "/readyz": "", "/metrics": "", "/openapi.yaml": "",
	}
}

// An instance answers the routes of its duties; for the others it says so
// before it looks at a credential or a body.
func TestRoutesByDuty(t *testing.T) {
	doc := apitest.Load(t)
	for _, only := range vault.Duties() {
		h := newHarness(t, func(c *httpapi.Config) { c.Can = []vault.Duty{only} })
		for _, path := range doc.Paths.InMatchingOrder() {
			needs, known := dutyOfRoute()[path]
			if !known {
				t.Fatalf("%s: say in dutyOfRoute whose it is", path)
			}
			for method, op := range doc.Paths.Value(path).Operations() {
				w := h.do(request(method, path, bodyFor(op.OperationID, "token")))
				if refused := strings.Contains(w.Body.String(), `"not_served_here"`); refused != (needs != "" && needs != only) || refused != (w.Code == http.StatusNotFound && path != "/metrics") {
					t.Errorf("--can %s: %s %s: %d %s", only, method, path, w.Code, w.Body)
				}
			}
		}
	}
}
