package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// rationed is a world in which every principal has a handful of each kind, in
// two regions together.
func rationed(t *testing.T) *world {
	t.Helper()
	few := authz.Limit{Hour: 6, Day: 6}
	l := authz.Unbounded()
	l.Principal = authz.PrincipalLimits{Limits: authz.Limits{Plain: few, Masked: few, Misses: few, Guesses: few}, Subjects: authz.Limit{Hour: 100, Day: 100}}
	return newWorld(t, func(c *sim.Config) { c.Limits = &l })
}

func (w *world) emails(n int) []secret.Text {
	w.t.Helper()
	tokens := make([]secret.Text, n)
	for i := range tokens {
		tokens[i] = w.token(w.a, "email", fmt.Sprintf("p%d@example.com", i))
	}
	return tokens
}

// outcomes counts the entries of an action by outcome.
func (w *world) outcomes(action string) map[audit.Outcome]int {
	w.t.Helper()
	n := map[audit.Outcome]int{}
	for _, e := range w.entries(w.a, action) {
		n[e.Entry.Outcome]++
	}
	return n
}

// G5: a spent budget refuses a batch as a whole, releases and spends nothing
// for it, and says when to come back; it is on record.
func TestASpentBudgetRefuses(t *testing.T) {
	w := rationed(t)
	tokens := w.emails(4)
	reader := w.as(authz.RoleReader)
	out, err := w.a.Detokenize(t.Context(), reader, ask(tokens[0]))
	if err != nil || out.Budget == nil || out.Budget.Units != 2 || out.Budget.Kind != "plain" || out.Budget.Ends > time.Hour {
		t.Fatalf("%+v, %v", out.Budget, err)
	}
	out, err = w.a.Detokenize(t.Context(), reader, ask(tokens[1:]...))
	wantCode(t, err, vault.ErrOverBudget, "over_budget")
	refused := (*vault.Error)(nil)
	if !errors.As(err, &refused) || refused.RetryAfter <= 0 || refused.RetryAfter > 12*time.Hour || len(refused.Items) != 0 || len(out.Items) != 0 {
		t.Errorf("%+v with %d items", refused, len(out.Items))
	}
	if _, err = w.a.Detokenize(t.Context(), reader, ask(tokens[1:3]...)); err != nil {
		t.Errorf("what fits: %v", err)
	}
	if n := w.outcomes("detokenize"); n[audit.OverBudget] != 1 || n[audit.Authorized] != 3 {
		t.Errorf("entries: %v", n)
	}
	w.clock.advance(12 * time.Hour)
	if _, err = w.a.Detokenize(t.Context(), reader, ask(tokens[:3]...)); err != nil {
		t.Errorf("on another day: %v", err)
	}
}

// G5: with continue, what fits is revealed and the rest is refused by item.
func TestASpentBudgetRefusesItems(t *testing.T) {
	w := rationed(t)
	req := ask(w.emails(5)...)
	req.Continue = true
	out, err := w.a.Detokenize(t.Context(), w.as(authz.RoleReader), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range out.Items {
		if i < 3 && item.Err != nil || i >= 3 && (item.Err == nil || item.Err.Code != "over_budget" || item.Value.Len() > 0) {
			t.Errorf("item %d: %+v", i, item.Err)
		}
	}
	if n := w.outcomes("detokenize"); n[audit.OverBudget] != 2 || n[audit.Authorized] != 3 {
		t.Errorf("entries: %v", n)
	}
}

// G5: plain and masked reveals and misses are counted apart, misses of every
// kind alike, and neither budget opens another.
func TestKindsAreCountedApart(t *testing.T) {
	w := rationed(t)
	token := w.token(w.a, "email", "ann@example.com")
	reader := w.as(authz.RoleReader)
	masked := ask(token)
	masked.Items[0].Reveal = vault.Masked
	for i := range 4 {
		_, plain := w.a.Detokenize(t.Context(), reader, ask(token))
		_, hidden := w.a.Detokenize(t.Context(), reader, masked)
		_, miss := w.a.Detokenize(t.Context(), reader, ask(secret.NewText("dev.email.eu-west-1."+strings.Repeat("A", 32))))
		if i < 3 {
			wantCode(t, miss, vault.ErrNotFound, "not_found")
			if plain != nil || hidden != nil {
				t.Errorf("round %d: %v, %v", i, plain, hidden)
			}
			continue
		}
		for _, err := range []error{plain, hidden, miss} {
			wantCode(t, err, vault.ErrOverBudget, "over_budget")
		}
	}
	writer := w.as(authz.RoleWriter)
	for i := range 4 {
		in, err := w.a.Inspect(t.Context(), writer, []secret.Text{secret.NewText("dev.email.eu-west-1." + strings.Repeat("A", 32)), token})
		want := map[bool]string{true: "not_found", false: "over_budget"}[i < 3]
		if err != nil || in[0].Err == nil || in[0].Err.Code != want || in[1].Err != nil {
			t.Errorf("inspect %d: %+v, %v", i, in, err)
		}
	}
}

// G5: asking for deterministic tokens is guessing, and spends.
func TestGuessesAreCounted(t *testing.T) {
	w := rationed(t)
	writer := w.as(authz.RoleWriter)
	guess := func(n int, onward bool) ([]vault.Tokenized, error) {
		var items []vault.TokenizeItem
		for i := range n {
			items = append(items, value("customer_email", fmt.Sprintf("g%d@example.com", i)))
		}
		return w.a.Tokenize(t.Context(), writer, vault.TokenizeRequest{Items: items, Continue: onward})
	}
	_, err := guess(4, false)
	wantCode(t, err, vault.ErrOverBudget, "over_budget")
	out, err := guess(4, true)
	if err != nil || out[2].Err != nil || out[3].Err == nil || out[3].Err.Code != "over_budget" || !out[3].Token.IsZero() {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = guess(1, false)
	wantCode(t, err, vault.ErrOverBudget, "over_budget")
	if _, err := w.a.Tokenize(t.Context(), writer, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "x@example.com")}}); err != nil {
		t.Errorf("a random token is no guess: %v", err)
	}
	if n := w.outcomes("tokenize"); n[audit.OverBudget] != 3 {
		t.Errorf("entries: %v", n)
	}
}

// G5: where the counters cannot be reached, nothing is told.
func TestUnreachableCountersTellNothing(t *testing.T) {
	counters := authztest.NewMemoryCounters(time.Now)
	w := newWorld(t, func(c *sim.Config) {
		c.Wrap = func(_ string, cfg *vault.Config) {
			cfg.Budgets = authz.NewBudgets(authz.BudgetsConfig{Counters: counters, Limits: authz.DefaultLimits(), Share: authz.Share{Of: 1}, Now: cfg.Now, Logger: cfg.Logger})
		}
	})
	token := w.token(w.a, "email", "ann@example.com")
	counters.Fail(authz.ErrUnavailable)
	out, err := w.a.Detokenize(t.Context(), w.admin, ask(token))
	wantCode(t, err, vault.ErrUnavailable, "budget_unavailable")
	if len(out.Items) != 0 {
		t.Error("something was told")
	}
	_, err = w.a.Detokenize(t.Context(), w.admin, ask(secret.NewText("unknown")))
	wantCode(t, err, vault.ErrUnavailable, "budget_unavailable")
	_, err = w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("customer_email", "ann@example.com")}})
	wantCode(t, err, vault.ErrUnavailable, "budget_unavailable")
	counters.Fail(nil)
	w.wantReveal(w.a, token, "ann@example.com")
}

// A key's own budget is what it was made with, completed by the deployment's.
func TestAKeysOwnBudget(t *testing.T) {
	w := newWorld(t)
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{
		Name: "export", Roles: []authz.Role{authz.RoleReader}, Budget: &vault.KeyBudget{Plain: &vault.Limit{Hour: 2, Day: 4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := w.call(made.Key)
	tokens := w.emails(2)
	if _, err := w.a.Detokenize(t.Context(), c, ask(tokens[0])); err != nil {
		t.Error(err)
	}
	_, err = w.a.Detokenize(t.Context(), c, ask(tokens[1]))
	wantCode(t, err, vault.ErrOverBudget, "over_budget")
	keys, err := w.a.ListKeys(t.Context(), w.admin)
	want := authz.DefaultLimits().Principal
	want.Plain = authz.Limit{Hour: 2, Day: 4}
	i := slices.IndexFunc(keys, func(k vault.KeyInfo) bool { return k.ID == made.ID })
	if err != nil || keys[i].Limits == nil || *keys[i].Limits != want {
		t.Errorf("%+v, %v", keys, err)
	}
	_, err = w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{
		Name: "bad", Roles: []authz.Role{authz.RoleReader}, Budget: &vault.KeyBudget{Plain: &vault.Limit{Hour: 2, Day: 1}},
	})
	wantCode(t, err, vault.ErrInvalid, "invalid_budget")
}

// G5: a vault without budgets is not made.
func TestBudgetsAreNeeded(t *testing.T) {
	var cfg vault.Config
	newWorld(t, func(c *sim.Config) {
		c.Wrap = func(region string, v *vault.Config) {
			if region == regionA {
				cfg = *v
			}
		}
	})
	cfg.Budgets = nil
	if _, err := vault.New(cfg); err == nil || !strings.Contains(err.Error(), "budgets") {
		t.Errorf("without budgets: %v", err)
	}
}

// What is left of a key's budgets is shown, and asking takes nothing (G5).
func TestShowKey(t *testing.T) {
	w := newWorld(t)
	limit := func(n int64) *vault.Limit { return &vault.Limit{Hour: n, Day: 2 * n} }
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{
		Name: "n", Roles: []authz.Role{authz.RoleReader}, Budget: &vault.KeyBudget{Plain: limit(200), Misses: limit(7), Subjects: limit(100)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.Detokenize(t.Context(), w.call(made.Key), ask(w.emails(3)...)); err != nil {
		t.Fatal(err)
	}
	show := func() map[string]vault.KeyBudgetState {
		t.Helper()
		state, err := w.a.ShowKey(t.Context(), w.admin, made.ID)
		if err != nil || state.Key.ID != made.ID || state.Region != regionA {
			t.Fatalf("%+v, %v", state, err)
		}
		by := map[string]vault.KeyBudgetState{}
		for _, b := range state.Budgets {
			by[string(b.Kind)+" "+b.Type+" "+b.Window] = b
		}
		return by
	}
	first := show()
	for name, want := range map[string][3]int64{ // limit, share of two regions, left but for a lease of ten
		"plain email hour": {200, 100, 90}, "plain  hour": {200, 100, 100}, "plain email day": {400, 200, 190},
		"misses  hour": {7, 4, 4}, "subjects  hour": {100, 50, 40}, "subjects  day": {200, 100, 90},
	} {
		if b := first[name]; [3]int64{b.Limit, b.Share, b.Left} != want || b.Ends <= 0 {
			t.Errorf("%q: %+v, want %v", name, b, want)
		}
	}
	if _, named := first["plain phone hour"]; named {
		t.Error("a type that is not in use is named")
	}
	for range 5 {
		show()
	}
	if again := show(); again["plain email hour"].Left != first["plain email hour"].Left || len(again) != len(first) {
		t.Error("asking has taken something")
	}
	if _, err := w.a.ShowKey(t.Context(), w.admin, "nobody"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
}
