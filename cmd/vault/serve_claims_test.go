package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
)

// A running instance decides by a claim of the caller's token: the
// configuration declares it, the policies ask for it.
func TestServeDecidesByClaims(t *testing.T) {
	r, _ := newDutyRig(t)
	idp := newIssuer(t)
	dir := filepath.Join(r.dir, "policies")
	if code, _, stderr := runPolicy(t, "", "export", dir); code != exitOK {
		t.Fatal(stderr)
	}
	writeFile(t, filepath.Join(dir, "own.cedar"), `@id("own") forbid (principal, action, resource)
when { principal.claims has who && principal.claims.who == "mallory" };`)
	writeFile(t, r.file, readFile(t, r.file)+fmt.Sprintf(`policies: %q
oidc:
  - {name: corp, issuer: %q, audiences: [vault], algorithms: [ES256], tenant: acme, grants: [{roles: [writer]}], claims: [{name: who, claim: sub, type: string}]}
`, dir, idp.URL))
	key := r.must(t, "key", "create", "--name", "one", "--roles", "writer", "--tenant", "acme")
	r.during(t, nil, func(s *served) {
		const body = `{"items":[{"type":"email","value":"ann@example.com"}]}`
		r.wantStatus(t, s, idp.token(t, "alice", "vault"), "/v1/tokenize", body, http.StatusOK, `"token"`)
		r.wantStatus(t, s, idp.token(t, "mallory", "vault"), "/v1/tokenize", body, http.StatusForbidden, "forbidden")
		r.wantStatus(t, s, key, "/v1/tokenize", body, http.StatusOK, `"token"`)
	})
}
