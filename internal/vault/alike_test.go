package vault_test

import (
	"testing"
	"time"

	"piivault/internal/secret"
	"piivault/internal/vault"
)

// What there is nothing to decide about is decided in vain, so that it takes
// as long as what is denied: its entry, too, names the policies' set, and
// neither a policy nor anything of a record.
func TestMissesAreDecidedInVain(t *testing.T) {
	w := newWorld(t)
	erased, expired := w.token(w.a, "email", "ann@example.com"), w.token(w.a, "note", "call back")
	if _, err := w.a.Erase(t.Context(), w.admin, vault.EraseRequest{Tokens: []secret.Text{erased}}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Hour)
	for name, token := range map[string]secret.Text{
		"erased": erased, "expired": expired, "no token": secret.NewText("hello"),
		"unknown":           secret.NewText("dev.email." + regionA + ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
		"unknown elsewhere": secret.NewText("dev.email." + regionB + ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
	} {
		w.wantGone(w.a, token)
		e := w.entries(w.a, "detokenize")[0].Entry
		if e.PolicySet != w.a.Policies.Current().Hash() || len(e.Policies) > 0 || e.Decision == "allow" {
			t.Errorf("%s: decided %q by %v of the set %q", name, e.Decision, e.Policies, e.PolicySet)
		}
		if name != "expired" && (e.Type != "" || e.Subject != "") {
			t.Errorf("%s: the entry tells of a record: %s, %s", name, e.Type, e.Subject)
		}
	}
}

// Asking again and again another region for what is denied or erased is
// refused as soon as for what is unknown.
func TestBudgetOfRemoteMissesTellsNothingApart(t *testing.T) {
	w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) { cfg.RemoteMisses = 1 }),
		withPolicy(t, `@id("extra.denied") forbid (principal, action == Action::"detokenize", resource) when { resource.type == "address" };`))
	denied, erased := w.token(w.b, "address", "1 Some Street"), w.token(w.b, "email", "ann@example.com")
	if _, err := w.a.Erase(t.Context(), w.admin, vault.EraseRequest{Tokens: []secret.Text{erased}}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	for name, token := range map[string]secret.Text{
		"denied": denied, "erased": erased, "unknown": secret.NewText("dev.email." + regionB + ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
	} {
		t.Run(name, func(t *testing.T) {
			w.clock.advance(time.Minute)
			w.wantGone(w.a, token)
			w.wantGone(w.a, token)
			_, err := w.a.Detokenize(t.Context(), w.admin, ask(token))
			wantCode(t, err, vault.ErrUnavailable, "not_yet_visible")
		})
	}
}
