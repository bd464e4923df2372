package authz

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func writePolicies(tb testing.TB, dir string, files map[string][]byte) {
	tb.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestPoliciesOfADirectory(t *testing.T) {
	files, err := DefaultPolicyFiles()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writePolicies(t, dir, files)
	writePolicies(t, dir, map[string][]byte{".hidden": []byte("no policy")})
	s, err := NewPolicySource(PolicySourceConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	standard, err := NewPolicySource(PolicySourceConfig{})
	if err != nil || s.Current().Hash() != standard.Current().Hash() {
		t.Errorf("what was exported is another set: %v", err)
	}
	for name, text := range map[string]string{"readme.txt": "x", "bad.cedar": "permit", "bad.cases.json": `[{"name": "x"}]`} {
		path := filepath.Join(dir, name)
		writePolicies(t, dir, map[string][]byte{name: []byte(text)})
		_, err := NewPolicySource(PolicySourceConfig{Dir: dir})
		if at, ok := errors.AsType[*PolicyError](err); !ok || at.File != name || !errors.Is(err, ErrPolicies) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewPolicySource(PolicySourceConfig{Dir: filepath.Join(dir, "absent")}); !errors.Is(err, ErrPolicies) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// A wrong set never takes the place of a good one, is said once, and what is
// said quotes nothing of it; the next good one does.
func TestPoliciesChangeWhileInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write := func(text string) { writePolicies(t, dir, map[string][]byte{"a.cedar": []byte(text)}) }
		write(onePermit + ";")
		var log bytes.Buffer
		s, err := NewPolicySource(PolicySourceConfig{Dir: dir, Logger: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		go s.Run(t.Context())
		first := s.Current().Hash()
		wait := func() { time.Sleep(6 * time.Second); synctest.Wait() }
		write("// one\n\n@id(\"a\") permit (principal, action, resource) when { canaryCanary };")
		wait()
		wait()
		if s.Current().Hash() != first || s.Failures() != 1 {
			t.Errorf("a wrong set: %d failures, in force %v", s.Failures(), s.Current().Hash() != first)
		}
		if text := log.String(); strings.Contains(text, "canary") || !strings.Contains(text, `"file":"a.cedar","line":3`) {
			t.Errorf("the log says %s", text)
		}
		for i := range 10 { // written again and again: nothing is taken up before it rests
			write(onePermit + " when { context.ticket != \"\" };" + strings.Repeat(" ", i))
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s.Current().Hash() != first {
				t.Fatal("a set that still changes is in force")
			}
		}
		wait()
		if s.Current().Hash() == first || s.Failures() != 1 {
			t.Error("the good set is not in force")
		}
		if err := os.Remove(filepath.Join(dir, "a.cedar")); err != nil {
			t.Fatal(err)
		}
		second := s.Current().Hash()
		s.Reload()
		s.Reload()
		if s.Current().Hash() != second || s.Failures() != 2 {
			t.Errorf("an empty directory: %d failures", s.Failures())
		}
	})
}

func TestWhyNamesTheConditionThatFailed(t *testing.T) {
	p := mustParse(t, onePermit+` when { context.ticket like "INC-*" } unless { principal.authentication == "api_key" };
		@id("b") forbid (principal in Role::"writer", action, resource);
		@id("c") forbid (principal, action == Action::"detokenize", resource == Type::"ssn");
		@id("d") @reveal("masked") permit (principal in Role::"reader", action == Action::"detokenize", resource);
		@id("e") permit (principal, action == Action::"erase", resource);
		@id("f") forbid (principal in Role::"reader", action == Action::"detokenize", resource) when { resource.age_days * 9223372036854775807 > 1 && context.ticket == "boom" };`)
	q := Question{Roles: []Role{RoleReader}, Action: ActionDetokenize, Type: "email", Reveal: Plain, Purpose: "x"}
	d, reasons, err := p.Why(q)
	if err != nil || !d.Allowed || d.Reveal != Masked {
		t.Fatalf("decided %+v: %v", d, err)
	}
	want := []string{
		`this does not hold: when { context.ticket like "INC-*" }`, `it is about others: principal in Role::"writer"`,
		`it is about other resources: resource == Type::"ssn"`, "", `it is about other actions: action == Action::"erase"`,
	}
	for i, w := range want {
		if reasons[i].Why != w || reasons[i].Matches != (w == "") {
			t.Errorf("%s: %q, matches %v", reasons[i].Policy, reasons[i].Why, reasons[i].Matches)
		}
	}
	q.Ticket, q.Authentication = "INC-1", "api_key"
	if _, reasons, _ = p.Why(q); reasons[0].Why != `this does not hold: unless { principal.authentication == "api_key" }` {
		t.Errorf("%q", reasons[0].Why)
	}
	q.Authentication = "oidc"
	if d, reasons, _ = p.Why(q); d.Reveal != Plain || !reasons[0].Matches {
		t.Errorf("signed in otherwise: %+v", d)
	}
	q.AgeDays, q.Ticket = 3, "boom"
	if d, reasons, _ = p.Why(q); d.Allowed || !reasons[5].Fails {
		t.Errorf("a condition that fails: %+v, %+v", d, reasons[5])
	}
	if _, _, err := p.Why(Question{Roles: []Role{RoleReader}, Action: "reveal"}); err == nil {
		t.Error("an unknown action is answered")
	}
	if _, err := ParseQuestion([]byte(`{"rolls": []}`)); !errors.Is(err, ErrPolicies) {
		t.Errorf("an unknown member: %v", err)
	}
}

// What Why says and what Decide does agree, for every case of the default set.
func TestWhyAgreesWithDecide(t *testing.T) {
	p, err := DefaultPolicies()
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range Roles() {
		for _, action := range Actions() {
			q := Question{Roles: []Role{role}, Action: action, Reveal: Plain, Purpose: "x"}
			if action != ActionAuditRead && action != ActionRepair && action != ActionAdmin && action != ActionStop && action != ActionResume {
				q.Type = "email"
			}
			d, reasons, err := p.Why(q)
			if err != nil {
				t.Fatal(err)
			}
			var permits, forbids int
			for _, r := range reasons {
				if r.Matches && r.Permit {
					permits++
				}
				if r.Matches && !r.Permit || r.Fails {
					forbids++
				}
			}
			if d.Allowed != (permits > 0 && forbids == 0) {
				t.Errorf("%s, %s: allowed %v with %d permits and %d forbids", role, action, d.Allowed, permits, forbids)
			}
		}
	}
}

// What docs/policies.md shows is what it says.
func TestPoliciesDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) []byte {
		_, rest, found := strings.Cut(string(page), "```"+language+"\n")
		text, _, closed := strings.Cut(rest, "```")
		if !found || !closed {
			t.Fatalf("no block of %s", language)
		}
		return []byte(text)
	}
	files := defaultFiles(t)
	files["own.cedar"], files["own.cases.json"] = block("cedar"), block("json")
	if _, err := ParsePolicies(files); err != nil {
		t.Error(err)
	}
	for _, word := range append(Actions(), "principal_name", "authentication", "age_days", schemaFile) {
		if !strings.Contains(string(page), string(word)) {
			t.Errorf("the page does not have %s", word)
		}
	}
}
