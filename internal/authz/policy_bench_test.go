package authz

import (
	"fmt"
	"strings"
	"testing"
)

// policiesOf makes a set of n policies: the defaults and, beside them, ones
// that have to be evaluated for the request because their scopes match it.
func policiesOf(tb testing.TB, n int) *Policies {
	tb.Helper()
	files := defaultFiles(tb)
	var b strings.Builder
	for i := range n - 9 {
		fmt.Fprintf(&b, "@id(\"extra.%d\")\nforbid (principal in Role::\"%s\", action == Action::\"detokenize\", resource)\n"+
			"when { resource.type == \"t%d\" && context.ticket == \"\" };\n", i, Roles()[i%7], i)
	}
	if n > 9 {
		files["extra.cedar"] = []byte(b.String())
	}
	p, err := ParsePolicies(files)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func BenchmarkDecide(b *testing.B) {
	reader := Principal{Tenant: "t", ID: "key_x", Roles: []Role{RoleReader}}
	ask := Request{Action: ActionDetokenize, Reveal: Plain, Purpose: "invoice", Type: "email", Time: 1_700_000_000}
	for _, n := range []int{8, 10, 50, 200} {
		p := policiesOf(b, n)
		b.Run(fmt.Sprintf("detokenize/policies=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(reader, ask).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
	p := policiesOf(b, 200)
	b.Run("detokenize/cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !p.CachedDecide(reader, ask).Allowed {
				b.Fatal("denied")
			}
		}
	})
	p = policiesOf(b, 8)
	support := Principal{Tenant: "t", ID: "key_x", Roles: []Role{RoleSupport}}
	b.Run("detokenize lowered to masked", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if p.Decide(support, ask).Reveal != Masked {
				b.Fatal("not masked")
			}
		}
	})
	writer := Principal{Tenant: "t", ID: "key_x", Roles: []Role{RoleWriter}}
	b.Run("tokenize", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !p.Decide(writer, Request{Action: ActionTokenize, Type: "email"}).Allowed {
				b.Fatal("denied")
			}
		}
	})
}

func BenchmarkMay(b *testing.B) {
	p := policiesOf(b, 50)
	reader := Principal{Tenant: "t", ID: "key_x", Roles: []Role{RoleReader}}
	b.ReportAllocs()
	for b.Loop() {
		if !p.May(reader, ActionDetokenize) {
			b.Fatal("no right")
		}
	}
}

func BenchmarkDefaultPolicies(b *testing.B) {
	for b.Loop() {
		if _, err := DefaultPolicies(); err != nil {
			b.Fatal(err)
		}
	}
}
