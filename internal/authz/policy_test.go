package authz

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// defaultFiles are the embedded policies and cases.
func defaultFiles(tb testing.TB) map[string][]byte {
	tb.Helper()
	entries, err := policyFiles.ReadDir(policyDir)
	if err != nil {
		tb.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, e := range entries {
		if e.Name() != schemaFile {
			if files[e.Name()], err = policyFiles.ReadFile(policyDir + "/" + e.Name()); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return files
}

func mustParse(tb testing.TB, cedarText string) *Policies {
	tb.Helper()
	p, err := ParsePolicies(map[string][]byte{"test.cedar": []byte(cedarText)})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

const onePermit = `@id("a") permit (principal in Role::"reader", action == Action::"detokenize", resource)`

func TestParsePoliciesRefuses(t *testing.T) {
	when := func(condition string) string { return onePermit + " when { " + condition + " };" }
	withCases := func(cases string) map[string][]byte {
		return map[string][]byte{"a.cedar": []byte(onePermit + ";"), "a.cases.json": []byte(cases)}
	}
	tests := map[string]map[string][]byte{
		"nothing":             nil,
		"cases only":          {"a.cases.json": []byte("[]")},
		"an empty file":       {"a.cedar": nil},
		"another file":        {"a.cedar": []byte(onePermit + ";"), "README.md": nil},
		"a schema of its own": {"a.cedar": []byte(onePermit + ";"), schemaFile: nil},
		"cases that fail":     withCases(`[{"name":"n","roles":["reader"],"action":"detokenize","type":"email","reveal":"plain","expect":"masked"}]`),
		"cases by others":     withCases(`[{"name":"n","roles":["reader"],"action":"detokenize","type":"email","reveal":"plain","expect":"plain","policies":["b"]}]`),
		"unknown member":      withCases(`[{"name":"n","roles":["reader"],"action":"detokenize","type":"email","reveal":"plain","expect":"plain","reason":"x"}]`),
		"unknown case action": withCases(`[{"name":"n","roles":["reader"],"action":"reveal","expect":"deny"}]`),
		"unknown case role":   withCases(`[{"name":"n","roles":["boss"],"action":"admin","expect":"deny"}]`),
		"unknown expectation": withCases(`[{"name":"n","roles":["reader"],"action":"admin","expect":"denied"}]`),
		"no JSON":             withCases(`[`),
	}
	for name, text := range map[string]string{
		"no Cedar":                       "permit everything",
		"no @id":                         `permit (principal in Role::"reader", action, resource);`,
		"an empty @id":                   `@id("") permit (principal, action, resource);`,
		"a bad @id":                      `@id("a b") permit (principal, action, resource);`,
		"a long @id":                     `@id("` + strings.Repeat("a", 65) + `") permit (principal, action, resource);`,
		"an @id twice":                   onePermit + ";" + onePermit + ";",
		"a misspelt ceiling":             `@reveall("masked") ` + onePermit + ";",
		"another ceiling":                `@reveal("Masked") ` + onePermit + ";",
		"a ceiling to a forbid":          `@reveal("masked") @id("a") forbid (principal, action == Action::"detokenize", resource);`,
		"a ceiling to an erase":          `@reveal("masked") @id("a") permit (principal, action == Action::"erase", resource);`,
		"an unknown action":              `@id("a") permit (principal, action == Action::"reveal", resource);`,
		"an unknown role":                `@id("a") permit (principal in Role::"boss", action, resource);`,
		"an unknown role in a condition": when(`principal in [Role::"reader", Role::"boss"]`),
		"an unknown role deep inside":    when(`if context.ticket == "" then {a: [Role::"boss"]}.a.contains(Role::"reader") else true`),
		"an unknown vault":               `@id("a") permit (principal, action == Action::"admin", resource == Vault::"other");`,
		"an unknown type":                `@id("a") permit (principal in Group::"x", action, resource);`,
		"an impossible scope":            `@id("a") permit (principal, action == Action::"admin", resource == Type::"email");`,
		"an unknown attribute":           when(`resource.value == "x"`),
		"an unknown fact":                when(`context.reason == "x"`),
		"a fact not of erase":            `@id("a") permit (principal, action == Action::"erase", resource) when { context.reveal == "plain" };`,
		"an attribute not of it":         `@id("a") permit (principal, action, resource) when { resource.age_days > 3 };`,
		"a wrong type":                   when(`resource.age_days == "3"`),
		"a condition of no bool":         when(`resource.age_days + 1`),
		"an attribute of who":            when(`principal.email == "x"`),
	} {
		tests[name] = map[string][]byte{"a.cedar": []byte(text)}
	}
	for name, files := range tests {
		if p, err := ParsePolicies(files); !errors.Is(err, ErrPolicies) || p != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestParsePoliciesAccepts(t *testing.T) {
	for _, condition := range []string{
		`resource.type == "email" && resource.age_days < 30 && resource.subject != ""`,
		`context.reveal == "masked" || context.ticket like "INC-*"`,
		`context.time < datetime("2027-01-01") && context.time.toTime() >= duration("8h")`,
		`resource in Tenant::"aaaaaaaaaaaaaaaaaaaaaaaaaa" && principal in [Role::"reader", Role::"support"]`,
	} {
		mustParse(t, `@doc("why") `+onePermit+" when { "+condition+" };")
	}
}

// Every default policy decides at least one of the cases beside it.
func TestEveryDefaultPolicyHasACase(t *testing.T) {
	files := defaultFiles(t)
	for name := range files {
		if !strings.HasSuffix(name, policyExt) {
			continue
		}
		without := maps.Clone(files)
		delete(without, name)
		if _, err := ParsePolicies(without); !errors.Is(err, ErrPolicies) {
			t.Errorf("without %s the cases pass", name)
		}
	}
	p, err := DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.rules) != len(Roles())+3 { // one a role, everyone's, and two for the kill switch
		t.Errorf("%d policies", len(p.rules))
	}
}

func TestHashNamesTheSet(t *testing.T) {
	p, err := DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	seen := []string{p.Hash()}
	again, err := ParsePolicies(defaultFiles(t))
	if err != nil || again.Hash() != p.Hash() || len(p.Hash()) != 43 {
		t.Errorf("the same files have the hashes %s and %s: %v", p.Hash(), again.Hash(), err)
	}
	changed := func(change func(files map[string][]byte)) {
		files := defaultFiles(t)
		change(files)
		q, err := ParsePolicies(files)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, q.Hash())
	}
	changed(func(f map[string][]byte) { f["reader.cedar"] = append(f["reader.cedar"], '\n') })
	changed(func(f map[string][]byte) { f["reader2.cedar"] = f["reader.cedar"]; delete(f, "reader.cedar") })
	changed(func(f map[string][]byte) { f["zero.cedar"] = nil })
	changed(func(f map[string][]byte) { // the same bytes, cut into files at another place
		f["reader.cedar"] = slices.Concat(f["reader.cedar"], f["support.cedar"])
		f["support.cedar"] = nil
	})
	if distinct := len(slices.Compact(slices.Sorted(slices.Values(seen)))); distinct != len(seen) {
		t.Errorf("%d sets have %d hashes", len(seen), distinct)
	}
	files := defaultFiles(t)
	delete(files, "default.cases.json")
	if q, err := ParsePolicies(files); err != nil || q.Hash() != p.Hash() {
		t.Errorf("the cases change the hash: %v", err)
	}
}

// A change of the default policies is a change of who may what: it is made on
// purpose, and here too. (Hash computed by hand as format.md §6 says.)
func TestDefaultPoliciesGolden(t *testing.T) {
	p, err := DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	if want := "vaFV36_ENKID9EmkmFIw7patJbKBWraEY6oo6fzTEiE"; p.Hash() != want {
		t.Errorf("the default policies are %s, not %s", p.Hash(), want)
	}
}

func FuzzParsePolicies(f *testing.F) {
	for name, text := range defaultFiles(f) {
		if strings.HasSuffix(name, policyExt) {
			f.Add(text, []byte("[]"))
		} else {
			f.Add([]byte(onePermit+";"), text)
		}
	}
	f.Add([]byte(onePermit+` when { resource.age_days * 9223372036854775807 > 1 };`), []byte("[]"))
	f.Fuzz(func(t *testing.T, text, cases []byte) {
		p, err := ParsePolicies(map[string][]byte{"a.cedar": text, "a.cases.json": cases})
		if err != nil {
			return
		}
		d := p.Decide(Principal{Tenant: tenantA, ID: "key_x", Roles: Roles()}, Request{Action: ActionDetokenize, Reveal: Plain, Type: "email", Purpose: "p"})
		if d.Allowed && !p.May(Principal{Tenant: tenantA, ID: "key_x", Roles: Roles()}, ActionDetokenize) {
			t.Errorf("allowed without a right: %q", text)
		}
	})
}
