package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"piivault/cmd/vault/internal/config"
)

func runPolicy(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp()
	a.stdin, a.stdout, a.stderr = strings.NewReader(stdin), &out, &errs
	code = run(t.Context(), a, append([]string{"policy"}, args...))
	return code, out.String(), errs.String()
}

func TestPolicyExportCheckAndTest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	if code, _, stderr := runPolicy(t, "", "export", dir); code != exitOK || !strings.Contains(stderr, "wrote 10 files") {
		t.Fatalf("export: exit %d: %s", code, stderr)
	}
	if code, _, stderr := runPolicy(t, "", "export", dir); code != exitFailed || !strings.Contains(stderr, "the file is there already") {
		t.Errorf("export over files: exit %d: %s", code, stderr)
	}
	if code, stdout, stderr := runPolicy(t, "", "check", dir); code != exitOK || !strings.Contains(stdout, "10 policies are good") {
		t.Errorf("check: exit %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := runPolicy(t, "", "test", dir); code != exitOK || strings.Count(stdout, "pass  ") < 20 {
		t.Errorf("test: exit %d: %s%s", code, stdout, stderr)
	}
	writeFile(t, filepath.Join(dir, "own.cases.json"), `[
		{"name": "wrong", "roles": ["reader"], "action": "erase", "type": "email", "expect": "allow"},
		{"name": "right", "roles": ["reader"], "action": "erase", "type": "email", "expect": "deny"}]`)
	code, stdout, stderr := runPolicy(t, "", "test", dir)
	if code != exitFailed || !strings.Contains(stdout, "FAIL  own.cases.json: wrong\npass  own.cases.json: right") || !strings.Contains(stderr, "expected allow, decided deny") {
		t.Errorf("test: exit %d: %s%s", code, stdout, stderr)
	}
	if code, _, _ := runPolicy(t, "", "check", dir); code != exitFailed {
		t.Error("a set whose case fails is good")
	}
	if err := os.Remove(filepath.Join(dir, "own.cases.json")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "own.cedar"), "@id(\"own\")\npermit (principal, action, resource)\nwhen { context.reason == \"x\" };")
	if code, _, stderr := runPolicy(t, "", "check", dir); code != exitFailed || !strings.Contains(stderr, "own.cedar:1:") {
		t.Errorf("an unknown fact: exit %d: %s", code, stderr)
	}
}

// Policies that ask for claims need the configuration that declares them.
func TestPolicyOfClaims(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	file := filepath.Join(t.TempDir(), "vault.yaml")
	writeFile(t, file, string(config.Example()))
	if code, _, stderr := runPolicy(t, "", "export", dir, "--config", file); code != exitOK {
		t.Fatalf("export: exit %d: %s", code, stderr)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "schema.cedarschema")); err != nil || !strings.Contains(string(text), "department?: String") {
		t.Errorf("the schema has no claims: %v", err)
	}
	writeFile(t, filepath.Join(dir, "own.cedar"), `@id("own") permit (principal, action == Action::"erase", resource)
when { principal.claims has department && principal.claims.department == "privacy" };`)
	writeFile(t, filepath.Join(dir, "own.cases.json"), `[{"name": "own", "roles": ["reader"], "action": "erase", "type": "email", "claims": {"department": "privacy"}, "expect": "allow", "policies": ["own"]}]`)
	for _, verb := range []string{"check", "test"} {
		if code, _, stderr := runPolicy(t, "", verb, dir, "--config", file); code != exitOK {
			t.Errorf("%s: exit %d: %s", verb, code, stderr)
		}
		if code, _, _ := runPolicy(t, "", verb, dir); code != exitFailed {
			t.Errorf("%s without the configuration: exit %d", verb, code)
		}
	}
	why := []string{"why", "--dir", dir, "--config", file, "--action", "erase", "--roles", "reader", "--type", "email"}
	if code, stdout, stderr := runPolicy(t, "", append(why, "--claims", `{"department":"privacy"}`)...); code != exitOK || !strings.HasPrefix(stdout, "allowed by own\n") {
		t.Errorf("why: exit %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := runPolicy(t, "", why...); code != exitOK || !strings.HasPrefix(stdout, "denied: no policy permits it\n") {
		t.Errorf("why, no claims: exit %d: %s", code, stdout)
	}
	for _, claims := range []string{`{"department":1}`, `{"color":"red"}`, `x`} {
		if code, _, _ := runPolicy(t, "", append(why, "--claims", claims)...); code == exitOK {
			t.Errorf("claims %s are explained", claims)
		}
	}
}

func TestPolicyWhy(t *testing.T) {
	code, stdout, stderr := runPolicy(t, "", "why", "--action", "detokenize", "--roles", "support", "--type", "email", "--purpose", "call back")
	for _, want := range []string{
		"allowed, masked at most, by support.reveal\n", "  support.reveal (permit, masked; support.cedar:2): matches\n",
		`reader.reveal (permit; reader.cedar:2): does not match; it is about others: principal in Role::"reader"`,
		`everyone.purpose (forbid; everyone.cedar:2): does not match; this does not hold: when { context.purpose == "" }`, "policy set ",
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, without %q: %s%s", code, want, stdout, stderr)
		}
	}
	code, stdout, stderr = runPolicy(t, `{"roles": ["reader"], "action": "detokenize", "type": "email", "reveal": "plain"}`, "why")
	if code != exitOK || !strings.HasPrefix(stdout, "denied by everyone.purpose\n") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, _ = runPolicy(t, "", "why", "--action", "erase", "--roles", "reader", "--type", "email")
	if code != exitOK || !strings.HasPrefix(stdout, "denied: no policy permits it\n") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	for _, args := range [][]string{
		{"--action", "fly", "--roles", "reader"},
		{"--action", "erase", "--roles", "boss"},
		{"--action", "detokenize", "--roles", "reader"},
		{"--action", "erase", "--roles", "reader", "--time", "noon"},
		{"--dir", "absent", "--action", "erase", "--roles", "reader"},
	} {
		if code, stdout, _ := runPolicy(t, "", append([]string{"why"}, args...)...); code == exitOK {
			t.Errorf("%v is answered: %s", args, stdout)
		}
	}
	if code, _, _ := runPolicy(t, `{"role": "reader"}`, "why"); code != exitFailed {
		t.Error("an unknown member is answered")
	}
}
