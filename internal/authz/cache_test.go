package authz

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Each reads other facts, in every way that there is.
func readingPolicies() map[string]string {
	detokenize := func(condition string) string {
		return `@id("some") permit (principal, action == Action::"detokenize", resource) ` + condition + ";"
	}
	return map[string]string{
		"nothing":         detokenize(""),
		"purpose":         detokenize(`when { context.purpose == "a" }`),
		"ticket":          detokenize(`when { context["ticket"] like "a*" }`),
		"time":            detokenize(`when { context.time < datetime("2026-03-01T00:00:01Z") }`),
		"reveal":          detokenize(`when { context.reveal == "masked" }`),
		"subject":         detokenize(`unless { resource.subject == "a" }`),
		"age":             detokenize(`when { resource.age_days < 1 }`),
		"type":            detokenize(`when { resource.type == "a" }`),
		"authentication":  detokenize(`when { principal.authentication == "a" }`),
		"name":            detokenize(`when { !(principal.name != "a") }`),
		"roles":           detokenize(`when { principal in Role::"reader" }`),
		"a principal":     detokenize(`when { principal == Principal::"a" }`),
		"a tenant":        detokenize(`when { resource in Tenant::"a" }`),
		"a whole context": detokenize(`when { context == {reveal: "plain", purpose: "a", ticket: "a", time: datetime("2026-03-01T00:00:00Z")} }`),
		"one of two":      detokenize(`when { if context.purpose == "a" then resource.age_days < 1 else ["a"].contains(principal.name) }`),
		"claims":          detokenize(`when { principal has claims && context.purpose == "a" }`),
		"by forbidding":   detokenize("") + ` @id("not") forbid (principal, action, resource) when { context.ticket == "" || context.purpose == "" };`,
		"masked":          detokenize("") + ` @id("masked") @reveal("masked") permit (principal, action == Action::"detokenize", resource) when { resource.subject == "a" };`,
	}
}

// What is permitted from memory is what the policies say, whichever fact of a
// request they read.
func TestCachedIsAsDecided(t *testing.T) {
	for name, text := range readingPolicies() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				p, err := ParsePolicies(map[string][]byte{"some.cedar": []byte(text)})
				if err != nil {
					t.Fatal(err)
				}
				pick := func(fact string, from ...string) string { return rapid.SampledFrom(from).Draw(t, fact) }
				for range 40 {
					pr := Principal{
						Tenant: pick("tenant", "a", "b"), ID: pick("principal", "a", "b"), Name: pick("name", "a", "b"),
						Authentication: pick("authentication", "a", "b"), Roles: []Role{Role(pick("role", "reader", "support"))},
					}
					r := Request{
						Action: ActionDetokenize, Reveal: Reveal(pick("reveal", "plain", "masked")), Purpose: pick("purpose", "a", "b", ""), Ticket: pick("ticket", "a", "b", ""),
						Time: 1_772_323_200 + int64(rapid.IntRange(0, 2).Draw(t, "time")), Type: pick("type", "a", "b"), Subject: pick("subject", "a", "b"),
						AgeDays: int64(rapid.IntRange(0, 2).Draw(t, "age")),
					}
					if diff := cmp.Diff(p.Decide(pr, r), p.CachedDecide(pr, r)); diff != "" {
						t.Fatalf("%+v, %+v: %s", pr, r, diff)
					}
				}
			})
		})
	}
}

// A batch asks once for what is permitted, and anew for each that is denied:
// many denied tokens take as long as many unknown ones, which are no two alike.
func TestPermissionsAreCached(t *testing.T) {
	p, err := DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	permitted := Request{Action: ActionDetokenize, Reveal: Plain, Purpose: "p", Type: "email"}
	denied := permitted
	denied.Purpose = ""
	for i := range 3 {
		permitted.AgeDays, permitted.Time, permitted.Subject = int64(i), int64(i), strings.Repeat("s", i) // read by none
		if !p.CachedDecide(principal(RoleReader), permitted).Allowed || p.CachedDecide(principal(RoleReader), denied).Allowed {
			t.Fatal("the default policies decide otherwise")
		}
	}
	if n := len(p.cache.permitted); n != 1 {
		t.Errorf("%d permissions are remembered", n)
	}
	for range maxCached + 1 {
		permitted.Purpose += "p"
		p.CachedDecide(principal(RoleReader), permitted)
	}
	if n := len(p.cache.permitted); n > maxCached {
		t.Errorf("%d permissions are remembered", n)
	}
}
