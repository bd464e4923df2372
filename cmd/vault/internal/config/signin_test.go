package config_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
	"piivault/internal/authz/oidc"
)

func TestSignIn(t *testing.T) {
	c, _, err := load(good+`tls: {cert: c, key: k, client_ca: ca, client_auth: require}
oidc: [{name: corp, issuer: "https://i.example", audiences: [a, b], tenant_claim: org, grants: [{claim: groups, value: x, roles: [reader, writer]}], claims: [{name: level, claim: /a/b, type: long}]}]
mtls: [{uri: "spiffe://example.org/*", tenant: default, roles: [writer]}]
`, "VAULT_OIDC_0_AUDIENCES_1=c", "VAULT_SIGN_IN_FAILURES_BURST=7")
	if err != nil {
		t.Fatal(err)
	}
	i := c.SignIn.Issuers[0]
	if i.Name != "corp" || i.TenantClaim != "org" || !cmp.Equal(i.Audiences, []string{"a", "c"}) || len(i.Grants) != 1 ||
		!cmp.Equal(i.Claims, []oidc.Claim{{Name: "level", Claim: "/a/b", Type: authz.ClaimLong}}) ||
		!cmp.Equal(i.Grants[0].Roles, []authz.Role{authz.RoleReader, authz.RoleWriter}) {
		t.Errorf("%+v", i)
	}
	if len(c.SignIn.Certificates) != 1 || c.SignIn.Failures.Burst != 7 || c.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("%+v, %+v", c.SignIn, c.TLS)
	}
}

func TestSignInMistakes(t *testing.T) {
	const issuer = `oidc: [{name: corp, issuer: "https://i.example", audiences: [a], tenant: default, grants: [{roles: [reader]}]}]`
	const files = "tls: {cert: c, key: k, client_ca: ca}\n"
	for name, m := range map[string][2]string{
		"HS256":               {strings.Replace(issuer, "tenant:", "algorithms: [HS256], tenant:", 1), "this must be RS256 or"},
		"http":                {strings.Replace(issuer, "https:", "http:", 1), "issuer must be an https URL"},
		"no audience":         {strings.Replace(issuer, "audiences: [a], ", "", 1), "audiences is missing"},
		"no tenant":           {strings.Replace(issuer, "tenant: default, ", "", 1), "either tenant or tenant_claim"},
		"no grants":           {strings.Replace(issuer, "roles: [reader]", "", 1), "a grant has roles"},
		"an unknown role":     {strings.Replace(issuer, "reader", "king", 1), "this must be admin or"},
		"a claim of no type":  {strings.Replace(issuer, "tenant:", "claims: [{name: a}], tenant:", 1), "a claim's type is string"},
		"a claim's bad name":  {strings.Replace(issuer, "tenant:", "claims: [{name: has, type: bool}], tenant:", 1), "no word of Cedar's"},
		"a value, no claim":   {strings.Replace(issuer, "roles:", "value: P@ssw0rd, roles:", 1), "both a claim and its value"},
		"the same twice":      {strings.Replace(issuer, "]}]}]", "]}]}, "+strings.TrimSuffix(strings.TrimPrefix(issuer, "oidc: ["), "]")+"]", 1), "two issuers have the same name or URL"},
		"an unknown key":      {strings.Replace(issuer, "tenant:", "secret: x, tenant:", 1), "unknown key secret"},
		"mtls without a CA":   {`mtls: [{uri: "spiffe://example.org/x", tenant: default, roles: [writer]}]`, "mtls needs tls.client_ca"},
		"a CA without TLS":    {"tls: {client_ca: ca}", "client certificates need tls.cert"},
		"require without CA":  {"tls: {cert: c, key: k, client_auth: require}", "client_auth needs client_ca"},
		"another client_auth": {"tls: {client_auth: maybe}", "this must be request or require"},
		"a URI of everything": {files + `mtls: [{uri: "spiffe://*", tenant: default, roles: [writer]}]`, "a certificate's URI is"},
		"no such tenant":      {files + `mtls: [{uri: "spiffe://a/x", tenant: "A!", roles: [writer]}]`, "its id or alias"},
		"a burst of 0":        {"sign_in: {failures: {burst: 0}}", "an integer from 1"},
	} {
		_, _, err := load(good + m[0] + "\n")
		mistake, ok := errors.AsType[*config.MistakeError](err)
		if !ok || !strings.Contains(err.Error(), m[1]) || mistake.Line < 9 || strings.Contains(err.Error(), "P@ssw0rd") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
