package vault_test

import (
	"errors"
	"testing"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// secondTenant is a caller of another tenant, with every role.
func (w *world) secondTenant() vault.Call {
	w.t.Helper()
	id, err := w.a.CreateTenant(w.t.Context(), "second")
	if err != nil {
		w.t.Fatal(err)
	}
	stranger := w.admin
	stranger.Principal.Tenant, stranger.Principal.ID = id, "key_stranger"
	return stranger
}

// tokenizeAs keeps a value for a caller, under an idempotency key or none.
func (w *world) tokenizeAs(c vault.Call, item vault.TokenizeItem, idempotency secret.Text) secret.Text {
	w.t.Helper()
	out, err := w.a.Tokenize(w.ctx(), c, vault.TokenizeRequest{Items: []vault.TokenizeItem{item}, IdempotencyKey: idempotency})
	if err != nil {
		w.t.Fatal(err)
	}
	return out[0].Token
}

// A token of one tenant is unknown in another, whatever made it and whatever
// is asked of it.
func TestATokenOfAnotherTenantIsUnknown(t *testing.T) {
	w := newWorld(t)
	stranger := w.secondTenant()
	for name, token := range map[string]secret.Text{
		"random":        w.token(w.a, "email", "ann@example.com"),
		"deterministic": w.token(w.a, "customer_email", "ann@example.com"),
		"idempotent":    w.tokenizeAs(w.admin, value("email", "ann@example.com"), idempotencyKey("a")),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.a.Detokenize(t.Context(), stranger, ask(token))
			wantCode(t, err, vault.ErrNotFound, "not_found")
			_, err = w.b.Detokenize(t.Context(), stranger, ask(token))
			wantCode(t, err, vault.ErrNotFound, "not_found")
			for _, look := range []func() ([]vault.Inspected, error){
				func() ([]vault.Inspected, error) {
					return w.a.Inspect(t.Context(), stranger, []secret.Text{token})
				},
				func() ([]vault.Inspected, error) {
					return w.a.Explain(t.Context(), stranger, []secret.Text{token})
				},
			} {
				out, err := look()
				if err != nil || out[0].Err == nil || out[0].Err.Code != "not_found" || out[0].DataKey != "" {
					t.Errorf("it is described: %+v, %v", out, err)
				}
			}
			if out, err := w.a.Erase(w.ctx(), stranger, vault.EraseRequest{Tokens: []secret.Text{token}}); err == nil && out.Erased != 0 {
				t.Errorf("%d are erased", out.Erased)
			}
			w.wantReveal(w.a, token, "ann@example.com")
		})
	}
}

// The same value, idempotency key and subject mean other tokens and records in another tenant.
func TestTenantsDeriveNothingAlike(t *testing.T) {
	w := newWorld(t)
	stranger := w.secondTenant()
	for _, c := range []struct {
		typ  string
		idem secret.Text
	}{{"customer_email", secret.Text{}}, {"email", idempotencyKey("a")}} {
		mine := w.tokenizeAs(w.admin, value(c.typ, "ann@example.com"), c.idem)
		if mine.Equal(w.tokenizeAs(stranger, value(c.typ, "ann@example.com"), c.idem)) {
			t.Errorf("%s: two tenants share a token", c.typ)
		}
	}
}

// Erasing a subject leaves another tenant's subject of the same name.
func TestSubjectsBelongToATenant(t *testing.T) {
	w := newWorld(t)
	stranger := w.secondTenant()
	mine := w.subjectToken(w.a, "email", "ann@example.com", "C-1")
	item := value("email", "bob@example.com")
	item.Subject = "C-1"
	theirs := w.tokenizeAs(stranger, item, secret.Text{})
	if _, err := w.a.Erase(w.ctx(), stranger, vault.EraseRequest{SubjectID: "C-1"}); err != nil {
		t.Fatal(err)
	}
	w.wantReveal(w.a, mine, "ann@example.com")
	_, err := w.a.Detokenize(t.Context(), stranger, ask(theirs))
	wantCode(t, err, vault.ErrNotFound, "not_found")
}

// A tenant's auditor sees its own entries only, whatever is asked for.
func TestAuditQueriesStayInTheTenant(t *testing.T) {
	w := newWorld(t)
	stranger := w.secondTenant()
	token := w.subjectToken(w.a, "email", "ann@example.com", "C-1")
	w.wantReveal(w.a, token, "ann@example.com")
	record := w.entries(w.a, "detokenize")[0].Entry.Record
	if record == "" {
		t.Fatal("an entry names no record")
	}
	for name, req := range map[string]vault.AuditRequest{
		"all": {}, "record": {Record: record}, "token": {Token: token}, "subject": {SubjectID: "C-1"},
		"actor": {Actor: w.admin.Principal.ID}, "type": {Type: "email"}, "action": {Action: "detokenize"}, "outcome": {Outcome: "authorized"},
	} {
		page, err := w.a.QueryAudit(t.Context(), stranger, req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, e := range page.Entries {
			if e.Entry.Tenant != stranger.Principal.Tenant {
				t.Errorf("%s: an entry of tenant %q", name, e.Entry.Tenant)
			}
		}
	}
}

// The keys of a tenant are listed, revoked, rotated and suspended in it only.
func TestKeysBelongToATenant(t *testing.T) {
	w := newWorld(t)
	stranger := w.secondTenant()
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{Name: "mine", Roles: []authz.Role{authz.RoleReader}})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := w.a.ListKeys(t.Context(), stranger); err != nil || len(list) != 0 {
		t.Errorf("%d keys are listed, %v", len(list), err)
	}
	for name, do := range map[string]func() error{
		"revoke":    func() error { _, err := w.a.RevokeKey(w.ctx(), stranger, made.ID); return err },
		"show":      func() error { _, err := w.a.ShowKey(w.ctx(), stranger, made.ID); return err },
		"rotate":    func() error { _, err := w.a.RotateKey(w.ctx(), stranger, made.ID, 0); return err },
		"suspend":   func() error { _, err := w.a.SuspendKey(w.ctx(), stranger, made.ID); return err },
		"reinstate": func() error { _, err := w.a.ReinstateKey(w.ctx(), stranger, made.ID); return err },
	} {
		if err := do(); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.call(made.Key)
}
