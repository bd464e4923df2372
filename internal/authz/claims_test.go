package authz

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func declared() ClaimTypes {
	return ClaimTypes{"department": ClaimString, "teams": ClaimStrings, "level": ClaimLong, "contractor": ClaimBool}
}

// claimRules need every type of claim.
const claimRules = `@id("finance")
permit (principal, action == Action::"detokenize", resource)
when { principal.claims has department && principal.claims.department == "finance" };
@id("team")
permit (principal, action == Action::"detokenize", resource)
when { principal.claims has teams && principal.claims.teams.contains("fraud") };
@id("level")
permit (principal, action == Action::"detokenize", resource)
when { principal.claims has level && principal.claims.level >= 3 };
@id("contractor")
forbid (principal, action, resource)
when { principal.claims has contractor && principal.claims.contractor };
`

// Policies decide by the claims of a token; one that is missing is missing.
func TestDecideByClaims(t *testing.T) {
	p, err := declared().ParsePolicies(map[string][]byte{"a.cedar": []byte(claimRules), "a.cases.json": []byte(`[
		{"name": "finance", "roles": ["reader"], "action": "detokenize", "type": "email", "reveal": "plain", "claims": {"department": "finance"}, "expect": "plain", "policies": ["finance"]},
		{"name": "no claims", "roles": ["reader"], "action": "detokenize", "type": "email", "reveal": "plain", "expect": "deny", "policies": []}]`)})
	if err != nil {
		t.Fatal(err)
	}
	if policies, cases := p.Count(); policies != 4 || cases != 2 {
		t.Errorf("%d policies, %d cases", policies, cases)
	}
	ask := Request{Action: ActionDetokenize, Reveal: Plain, Purpose: "p", Type: "email"}
	for name, tt := range map[string]struct {
		claims map[string]any
		by     string
		allows bool
	}{
		"none":                  {nil, "", false},
		"null":                  {map[string]any{"department": nil}, "", false},
		"another department":    {map[string]any{"department": "sales"}, "", false},
		"the department":        {map[string]any{"department": "finance"}, "finance", true},
		"a list":                {map[string]any{"teams": []any{"a", "fraud"}}, "team", true},
		"a list of one, as one": {map[string]any{"teams": "fraud"}, "team", true},
		"an empty list":         {map[string]any{"teams": []any{}}, "", false},
		"a level":               {map[string]any{"level": float64(3)}, "level", true},
		"a level below":         {map[string]any{"level": float64(2)}, "", false},
		"forbidden":             {map[string]any{"department": "finance", "contractor": true}, "contractor", false},
		"not forbidden":         {map[string]any{"department": "finance", "contractor": false}, "finance", true},
	} {
		claims, err := declared().Read(tt.claims)
		if err != nil {
			t.Fatal(name, err)
		}
		d := p.Decide(Principal{ID: "oidc_corp_a", Roles: []Role{RoleReader}, Claims: claims}, ask)
		if d.Allowed != tt.allows || strings.Join(d.Policies, ",") != tt.by {
			t.Errorf("%s: allowed %v by %v", name, d.Allowed, d.Policies)
		}
	}
	d, reasons, err := p.Why(Question{Roles: []Role{RoleReader}, Action: ActionDetokenize, Type: "email", Reveal: Plain, Claims: map[string]any{"department": "finance"}})
	if err != nil || !d.Allowed || len(reasons) != 4 || !reasons[1].Matches {
		t.Errorf("%+v, %+v, %v", d, reasons, err)
	}
	if _, _, err := p.Why(Question{Roles: []Role{RoleReader}, Action: ActionDetokenize, Type: "email", Reveal: Plain, Claims: map[string]any{"department": true}}); err == nil {
		t.Error("a claim of another type is explained")
	}
}

// A policy that could read a claim which is missing, or not declared, or of
// another type, is refused at load.
func TestPoliciesOfClaimsAreChecked(t *testing.T) {
	for name, when := range map[string]string{
		"not guarded":          `principal.claims.department == "finance"`,
		"guarded by another":   `principal.claims has level && principal.claims.department == "finance"`,
		"not declared":         `principal.claims has color && principal.claims.color == "red"`,
		"misspelt, alone":      `principal.claims has departement`,
		"a number for a text":  `principal.claims has department && principal.claims.department > 1`,
		"a text for a set":     `principal.claims has teams && principal.claims.teams == "fraud"`,
		"a set of other types": `principal.claims has teams && principal.claims.teams.contains(1)`,
	} {
		text := "@id(\"x\") permit (principal, action, resource) when { " + when + " };"
		if _, err := declared().ParsePolicies(map[string][]byte{"a.cedar": []byte(text)}); !errors.Is(err, ErrPolicies) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParsePolicies(map[string][]byte{"a.cedar": []byte(claimRules)}); !errors.Is(err, ErrPolicies) {
		t.Errorf("claims where none are declared: %v", err)
	}
	plain, err := ParsePolicies(defaultFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	if with, err := declared().ParsePolicies(defaultFiles(t)); err != nil || with.Hash() == plain.Hash() {
		t.Errorf("the hash does not cover the claims: %v", err)
	}
}

func TestClaimsOfOtherTypesAreRefused(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"not declared":      {"color": "red"},
		"a number":          {"department": float64(1)},
		"a list for a text": {"department": []any{"finance"}},
		"an object":         {"department": map[string]any{"a": "b"}},
		"a list of numbers": {"teams": []any{"a", float64(1)}},
		"a list in a list":  {"teams": []any{[]any{"a"}}},
		"a fraction":        {"level": 1.5},
		"too large":         {"level": float64(1 << 60)},
		"a number, as text": {"level": "3"},
		"true, as text":     {"contractor": "true"},
	} {
		if claims, err := declared().Read(values); err == nil {
			t.Errorf("%s is read: %v", name, claims)
		}
	}
}

func TestClaimTypesAreChecked(t *testing.T) {
	many := ClaimTypes{}
	for i := range maxClaims + 1 {
		many["c"+strings.Repeat("x", i)] = ClaimString
	}
	for name, types := range map[string]ClaimTypes{
		"no name": {"": ClaimString}, "a capital": {"Dept": ClaimString}, "a digit first": {"1a": ClaimString}, "a dash": {"a-b": ClaimString},
		"a word of Cedar's": {"has": ClaimString}, "long": {strings.Repeat("a", 65): ClaimString}, "no type": {"a": ""}, "another type": {"a": "float"},
		"too many": many,
	} {
		if types.Validate() == nil {
			t.Errorf("%s is good", name)
		}
	}
	if err := declared().Validate(); err != nil {
		t.Error(err)
	}
}

// Whatever names pass are names in Cedar, too: a schema with them is one.
func TestEverySchemaOfClaimsParses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := ClaimTypes(rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_]{0,8}`), rapid.SampledFrom(AllClaimTypes()), 0, 8).Draw(t, "types"))
		if types.Validate() != nil {
			return
		}
		if _, _, err := types.newChecker(); err != nil {
			t.Fatal(err)
		}
		for name, typ := range types {
			rule := "@id(\"x\") permit (principal, action, resource) when { principal.claims has " + name + " && principal.claims." + name + " == principal.claims." + name + " };"
			if _, err := types.ParsePolicies(map[string][]byte{"a.cedar": []byte(rule)}); err != nil {
				t.Fatalf("%s %s: %v", typ, name, err)
			}
		}
	})
}
