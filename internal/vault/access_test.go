package vault_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

func TestRolesWithoutTheRightAreForbidden(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	writer, reader, auditor := w.as(authz.RoleWriter), w.as(authz.RoleReader), w.as(authz.RoleAuditor)
	_, err := w.a.Detokenize(t.Context(), writer, ask(token))
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.Tokenize(t.Context(), reader, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.Erase(t.Context(), auditor, vault.EraseRequest{Tokens: []secret.Text{token}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.QueryAudit(t.Context(), reader, vault.AuditRequest{})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.CreateKey(t.Context(), reader, vault.NewKeyRequest{Name: "x", Roles: []authz.Role{authz.RoleAdmin}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	if denied := w.entries(w.a, "detokenize"); len(denied) != 1 || denied[0].Entry.Outcome != audit.Denied {
		t.Errorf("%d entries of denied detokenizes, want one", len(denied))
	}
}

func TestSupportSeesMaskedAtMost(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "card_number", "4111111111111111")
	out, err := w.a.Detokenize(t.Context(), w.as(authz.RoleSupport), ask(token))
	if err != nil {
		t.Fatal(err)
	}
	got := string(out.Items[0].Value.Bytes())
	if out.Items[0].Reveal != vault.Masked || strings.Contains(got, "41111111") || !strings.HasSuffix(got, "1111") {
		t.Errorf("granted %s of %d bytes", out.Items[0].Reveal, len(got))
	}
}

// A token of one tenant is unknown in another.
func TestTenantsAreSeparate(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	id, err := w.a.CreateTenant(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	stranger := w.admin
	stranger.Principal.Tenant = id
	_, err = w.a.Detokenize(t.Context(), stranger, ask(token))
	wantCode(t, err, vault.ErrNotFound, "not_found")
}

// G6: a tenant's first entry is about its creation, and there before the tenant is.
func TestCreatingATenantIsOnRecord(t *testing.T) {
	log := &brokenLog{}
	var control authz.Control
	w := newWorld(t, func(c *sim.Config) {
		c.Wrap = func(region string, cfg *vault.Config) {
			if region == regionA {
				control, log.Log, cfg.Log = cfg.Controls[0].Control, cfg.Log, log
			}
		}
	})
	if entries := w.entries(w.a, "create_tenant"); len(entries) != 1 {
		t.Errorf("of a tenant's creation: %v", entries)
	}
	log.broken = true
	_, err := w.a.CreateTenant(t.Context(), "second")
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	all, err := authz.ListTenants(t.Context(), control)
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, tenant := range all {
		if tenant.Alias == "second" && tenant.Active {
			t.Error("a tenant is active without its entry")
		}
	}
}

func TestRevokedKeyOpensNothing(t *testing.T) {
	w := newWorld(t)
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{Name: "short", Roles: []authz.Role{authz.RoleReader}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.Authenticate(t.Context(), vault.Credentials{Bearer: made.Key}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a.RevokeKey(t.Context(), w.admin, made.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.a.Authenticate(t.Context(), vault.Credentials{Bearer: made.Key})
	wantCode(t, err, vault.ErrUnauthenticated, "unauthenticated")
}

// brokenLog is an audit log that can be made to fail.
type brokenLog struct {
	audit.Log
	broken bool
}

type neverDurable struct{ audit.Pending }

func (p neverDurable) Wait(ctx context.Context) (audit.Receipt, error) {
	_, _ = p.Pending.Wait(ctx)
	return audit.Receipt{}, audit.ErrUnavailable
}

func (l *brokenLog) Append(entries []audit.Entry) audit.Pending {
	p := l.Log.Append(entries)
	if l.broken {
		return neverDurable{p}
	}
	return p
}

// G6: nothing is released, and nothing acknowledged, on an entry that may not be durable.
func TestNothingLeavesWithoutItsEntry(t *testing.T) {
	log := &brokenLog{}
	w := newWorld(t, func(c *sim.Config) {
		c.Wrap = func(region string, cfg *vault.Config) {
			if region == regionA {
				log.Log, cfg.Log = cfg.Log, log
			}
		}
	})
	token := w.token(w.a, "email", "ann@example.com")
	log.broken = true
	out, err := w.a.Detokenize(t.Context(), w.admin, ask(token))
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	if len(out.Items) != 0 {
		t.Error("a value left without its entry")
	}
	req := ask(token)
	req.Continue = true
	out, err = w.a.Detokenize(t.Context(), w.admin, req)
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	if len(out.Items) != 0 {
		t.Error("a value left without its entry")
	}
	_, err = w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "bob@example.com")}})
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	_, err = w.a.Inspect(t.Context(), w.admin, []secret.Text{token})
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	log.broken = false
	w.wantReveal(w.a, token, "ann@example.com")
}

// Denied, erased, expired and unknown tokens answer alike.
func TestRefusalsAreAlike(t *testing.T) {
	w := newWorld(t)
	erased := w.token(w.a, "email", "ann@example.com")
	w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{erased}})
	unknown := w.token(w.b, "email", "bob@example.com")
	w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{unknown}})
	var texts []string
	for _, token := range []secret.Text{erased, unknown, secret.NewText("not a token")} {
		_, err := w.a.Detokenize(t.Context(), w.admin, ask(token))
		var e *vault.Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		texts = append(texts, e.Code+e.Message+e.Items[0].Code+e.Items[0].Message)
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("refusals differ: %q", texts)
	}
}

func TestAuditQueryHashesWhatItIsAsked(t *testing.T) {
	w := newWorld(t)
	token := w.subjectToken(w.a, "email", "ann@example.com", "C-1")
	w.token(w.a, "email", "bob@example.com")
	w.wantReveal(w.a, token, "ann@example.com")
	w.reindex()
	for _, req := range []vault.AuditRequest{{Token: token}, {SubjectID: "C-1"}} {
		page, err := w.a.QueryAudit(t.Context(), w.admin, req)
		if err != nil || len(page.Entries) != 2 {
			t.Errorf("%d entries, %v; want a tokenize and a detokenize", len(page.Entries), err)
		}
	}
	for _, req := range []vault.AuditRequest{{From: "yesterday"}, {Limit: 1001}, {Outcome: "unheard_of"}, {Cursor: "xyz"}} {
		if _, err := w.a.QueryAudit(t.Context(), w.admin, req); !errors.Is(err, vault.ErrInvalid) {
			t.Errorf("%+v: %v", req, err)
		}
	}
}
