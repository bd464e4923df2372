package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// An erasure that cannot be understood erases nothing, not even what it names well.
func TestEraseRefuses(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	for name, c := range map[string]struct {
		req  vault.EraseRequest
		kind error
		code string
	}{
		"nothing":         {vault.EraseRequest{}, vault.ErrInvalid, "invalid_erase"},
		"both":            {vault.EraseRequest{SubjectID: "C-1", Tokens: []secret.Text{token}}, vault.ErrInvalid, "invalid_erase"},
		"control":         {vault.EraseRequest{SubjectID: "C\n1"}, vault.ErrInvalid, "invalid_subject_id"},
		"long":            {vault.EraseRequest{SubjectID: strings.Repeat("x", 257)}, vault.ErrInvalid, "invalid_subject_id"},
		"no token":        {vault.EraseRequest{Tokens: []secret.Text{token, secret.NewText("ann@example.com")}}, vault.ErrNotFound, "not_found"},
		"two are no such": {vault.EraseRequest{Tokens: []secret.Text{secret.NewText("x"), token, secret.NewText("y")}}, vault.ErrNotFound, "not_found"},
	} {
		_, err := w.a.Erase(t.Context(), w.admin, c.req)
		wantCode(t, err, c.kind, c.code)
		refused, _ := errors.AsType[*vault.Error](err)
		if name == "two are no such" && (len(refused.Items) != 2 || refused.Items[0].Index != 0 || refused.Items[1].Index != 2) {
			t.Errorf("%s: %+v", name, refused.Items)
		}
	}
	w.wantReveal(w.a, token, "ann@example.com")
}

// Policies may name the types that are erased; the denial is recorded, and
// where that cannot be, the caller is told so.
func TestEraseDeniedByType(t *testing.T) {
	w := newWorld(t, withPolicy(t, `@id("extra.ssn") forbid (principal, action == Action::"erase", resource) when { resource has type && resource.type == "ssn" };`))
	email, ssn := w.token(w.a, "email", "ann@example.com"), w.token(w.a, "ssn", "778-35-0827")
	_, err := w.a.Erase(t.Context(), w.admin, vault.EraseRequest{Tokens: []secret.Text{email, ssn}})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	w.wantReveal(w.a, email, "ann@example.com")
	if found := w.entries(w.a, "erase"); len(found) != 1 || found[0].Entry.Outcome != audit.Denied || found[0].Entry.Type != "ssn" {
		t.Errorf("%d entries, want the denial's", len(found))
	}
	if out := w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{email}}); out.Erased != 1 {
		t.Errorf("erased %+v", out)
	}
	w.erase(w.a, vault.EraseRequest{SubjectID: "C-1"})
}

// Policies decide on the erasure of a subject too, and a denial that cannot be
// recorded is not answered as one (G6).
func TestEraseOfASubjectDenied(t *testing.T) {
	policy := withPolicy(t, `@id("extra.subject") forbid (principal, action == Action::"erase", resource) when { !(resource has type) || resource.type == "" };`)
	n := new(nth)
	n.left.Store(1 << 40)
	w := newWorld(t, policy, func(c *sim.Config) {
		wrap := c.Wrap
		c.Wrap = func(region string, cfg *vault.Config) { wrap(region, cfg); cfg.Log = nthLog{cfg.Log, n} }
	})
	token := w.subjectToken(w.a, "email", "ann@example.com", "C-1")
	req := vault.EraseRequest{SubjectID: "C-1"}
	_, err := w.a.Erase(t.Context(), w.admin, req)
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	n.left.Store(1)
	_, err = w.a.Erase(t.Context(), w.admin, req)
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	w.wantReveal(w.a, token, "ann@example.com")
	w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{token}})
}

// G9: each generation of a deterministic token is erased by its token.
func TestALaterGenerationIsErasedByItsToken(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		token := w.token(w.a, "customer_email", "ann@example.com")
		if out := w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{token}}); out.Erased != 1 {
			t.Errorf("erased %+v", out)
		}
		w.wantGone(w.a, token)
		w.completeErase()
	}
}

// While an erasure is visible, only what it names waits for it.
func TestOthersDoNotWaitForAnErasure(t *testing.T) {
	w := newWorld(t)
	w.erase(w.a, vault.EraseRequest{SubjectID: "C-1"})
	w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{w.token(w.a, "customer_email", "ann@example.com")}})
	w.subjectToken(w.a, "email", "bob@example.com", "C-2")
	w.token(w.a, "customer_email", "bob@example.com")
	for _, item := range []vault.TokenizeItem{
		{Type: "email", Value: secret.NewPlaintext([]byte("c@example.com")), Subject: "C-1"}, value("customer_email", "ann@example.com"),
	} {
		_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{item}})
		if refused, ok := errors.AsType[*vault.Error](err); !ok || refused.Code != "erasing" {
			t.Errorf("%s: %v", item.Type, err)
		}
	}
}

// G9: a subject with more records than are buried, or swept, at once.
func TestErasedSubjectOfManyRecords(t *testing.T) {
	rw := newRingWorld(t)
	const n = 501
	items := make([]vault.TokenizeItem, n)
	for i := range items {
		items[i] = vault.TokenizeItem{Type: "email", Value: secret.NewPlaintext(fmt.Appendf(nil, "%d@example.com", i)), Subject: "C-1"}
	}
	rw.tokenize(rw.a, items[:n/2]...)
	rw.tokenize(rw.a, items[n/2:]...)
	if out := rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"}); out.Erased != n {
		t.Errorf("erased %d, want %d", out.Erased, n)
	}
	rw.a.SweepPass(t.Context())
	if left, _, err := rw.cfgs[regionA].Store.Swept(t.Context(), store.Page{Limit: n}); len(left) != 0 || err != nil {
		t.Errorf("%d records are left under their tombstones, %v", len(left), err)
	}
}

// In a ring of one region an erasure of a random token is complete at once.
func TestAnErasureInOneRegion(t *testing.T) {
	rw := newRingWorld(t)
	v := rw.with(regionA, 2, ab()[:1])
	out := rw.erase(v, vault.EraseRequest{Tokens: []secret.Text{rw.token(v, "email", "ann@example.com")}})
	if !out.Complete || out.Erased != 1 || len(out.Regions) != 1 {
		t.Errorf("%+v", out)
	}
}

// Which regions an erasure waits for follows from its job: those of its ring,
// all of a newer ring's, and this ring's where it does not say.
func TestWhomAnErasureWaitsFor(t *testing.T) {
	rw := newRingWorld(t)
	tenant := rw.admin.Principal.Tenant
	for i, c := range []struct {
		body string
		want []string
	}{
		{`{"v":1,"tenant":%q}`, []string{regionA, regionB}},
		{`{"v":1,"tenant":%q,"epoch":1,"regions":[%q]}`, []string{regionB}},
		{`{"v":1,"tenant":%q,"epoch":1,"regions":[%q,"gone"]}`, []string{regionB}},
		{`{"v":1,"tenant":%q,"epoch":2,"regions":[%q,"joined"]}`, []string{regionB, "joined"}},
	} {
		id := fmt.Sprintf("00000000-0000-7000-8000-%012d", i)
		args := []any{tenant, regionB}
		body := fmt.Sprintf(c.body, args[:strings.Count(c.body, "%")]...)
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), authz.Item{Kind: authz.KindEraseJob, ID: id, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		out := rw.erase(rw.a, vault.EraseRequest{Job: id})
		var names []string
		for _, r := range out.Regions {
			names = append(names, r.Name)
		}
		if out.Complete || !sameSet(names, c.want...) {
			t.Errorf("%s waits for %v, want %v", body, names, c.want)
		}
	}
	for i, body := range []string{`{"v":2,"tenant":%q}`, `{"tenant":%q}`, `{"v":1,"was":%q}`} {
		id := fmt.Sprintf("00000000-0000-7000-9000-%012d", i)
		item := authz.Item{Kind: authz.KindEraseJob, ID: id, Body: fmt.Appendf(nil, body, tenant)}
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
		_, err := rw.a.Erase(t.Context(), rw.admin, vault.EraseRequest{Job: id})
		wantCode(t, err, vault.ErrNotFound, "not_found")
	}
}

// noRandom has none left.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errFault }

// An erasure without an id of its own is not begun.
func TestAnErasureNeedsAnID(t *testing.T) {
	rw := newRingWorld(t)
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Random = noRandom{} })
	if out, err := v.Erase(t.Context(), rw.admin, vault.EraseRequest{SubjectID: "C-1"}); !errors.Is(err, errFault) {
		t.Errorf("%+v, %v", out, err)
	}
}

// G9: another instance of this region may have confirmed an erasure that this
// one believes to be open: it does not answer for what was written since.
func TestAnErasureConfirmedByAnotherInstance(t *testing.T) {
	rw := newRingWorld(t)
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.ErasureQuiet = time.Hour })
	first := rw.erase(v, vault.EraseRequest{SubjectID: "C-1"})
	if again := rw.erase(v, vault.EraseRequest{SubjectID: "C-1"}); again.Job != first.Job || first.Regions[0].Confirmed {
		t.Fatalf("%+v, then %+v", first, again)
	}
	confirmed := authz.Item{Kind: authz.KindEraseConfirm, ID: first.Job + "#" + regionA, Body: []byte(`{"v":1}`)}
	if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), confirmed); err != nil {
		t.Fatal(err)
	}
	if second := rw.erase(v, vault.EraseRequest{SubjectID: "C-1"}); second.Job == first.Job {
		t.Error("answered by the erasure that is confirmed here")
	}
}
