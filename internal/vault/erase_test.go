package vault_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

func (w *world) erase(v *vault.Vault, req vault.EraseRequest) vault.EraseResult {
	w.t.Helper()
	out, err := v.Erase(w.ctx(), w.admin, req)
	if err != nil {
		w.t.Fatalf("erase: %v", err)
	}
	return out
}

// completeErase lets both regions do their part until all is quiet.
func (w *world) completeErase() {
	w.t.Helper()
	for range 3 {
		w.settle()
		w.a.ErasePass(w.ctx())
		w.b.ErasePass(w.ctx())
		w.clock.advance(time.Minute)
	}
	w.settle()
	w.a.ErasePass(w.ctx())
	w.b.ErasePass(w.ctx())
}

func (w *world) subjectToken(v *vault.Vault, typ, text, subject string) secret.Text {
	w.t.Helper()
	item := value(typ, text)
	item.Subject = subject
	return w.tokenize(v, item)[0].Token
}

// G9: an erased token is gone at once here, and everywhere after replication,
// whatever arrives late.
func TestErasedTokenStaysErased(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	// B erases what it has not seen; the record arrives afterwards.
	if out := w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{token}}); out.Complete {
		t.Error("complete before the other region confirmed")
	}
	w.wantGone(w.b, token)
	w.settle()
	w.wantGone(w.a, token)
	w.wantGone(w.b, token)
	w.completeErase()
	if out := w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{token}}); out.Erased != 0 {
		t.Errorf("erased %d records again", out.Erased)
	}
	w.a.SweepPass(t.Context())
	w.b.SweepPass(t.Context())
	w.settle()
	w.wantGone(w.a, token)
	w.wantGone(w.b, token)
}

// G9: a subject's records are erased in all regions, those not yet replicated too.
func TestErasedSubject(t *testing.T) {
	w := newWorld(t)
	inA := w.subjectToken(w.a, "email", "ann@example.com", "C-1")
	inB := w.subjectToken(w.b, "phone", "+353850793379", "C-1")
	shared := w.subjectToken(w.b, "customer_email", "ann@example.com", "C-1")
	other := w.subjectToken(w.b, "email", "bob@example.com", "C-2")
	w.erase(w.a, vault.EraseRequest{SubjectID: "C-1"})
	item := value("email", "again@example.com")
	item.Subject = "C-1"
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{item}})
	wantCode(t, err, vault.ErrConflict, "erasing")
	w.completeErase()
	for _, v := range []*vault.Vault{w.a, w.b} {
		for _, token := range []secret.Text{inA, inB, shared} {
			w.wantGone(v, token)
		}
		w.wantReveal(v, other, "bob@example.com")
	}
	w.subjectToken(w.a, "email", "again@example.com", "C-1")
}

// G9: an erased deterministic value may be made again, under the next generation.
func TestErasedDeterministicValueIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	first := w.token(w.a, "customer_email", "ann@example.com")
	w.settle()
	w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{first}})
	_, err := w.b.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("customer_email", "ann@example.com")}})
	wantCode(t, err, vault.ErrConflict, "erasing")
	w.completeErase()
	w.wantGone(w.a, first)
	again := w.token(w.a, "customer_email", "ann@example.com")
	if !again.Equal(first) {
		t.Error("the value has another token now")
	}
	w.wantReveal(w.b, again, "ann@example.com") // not replicated yet
	w.settle()
	w.wantReveal(w.a, again, "ann@example.com")
	w.wantReveal(w.b, again, "ann@example.com")
	in, err := w.b.Inspect(t.Context(), w.admin, []secret.Text{again})
	if err != nil || in[0].Generation != 1 {
		t.Errorf("inspected %+v, %v; want generation 1", in, err)
	}
}

func TestEraseIsCompleteWhenAllRegionsConfirmed(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.settle()
	w.fault(sim.Fault{Region: regionB, Link: "down"})
	req := vault.EraseRequest{Tokens: []secret.Text{token}}
	out := w.erase(w.a, req)
	if out.Complete || out.Erased != 1 || !out.Regions[0].Confirmed || out.Regions[1].Confirmed {
		t.Errorf("erased %+v", out)
	}
	w.wantReveal(w.b, token, "ann@example.com") // the erasure has not got there
	w.fault(sim.Fault{Region: regionB, Link: "up"})
	w.settle()
	w.wantGone(w.b, token)
	job := vault.EraseRequest{Job: out.Job}
	if out := w.erase(w.a, job); out.Complete || out.Job != job.Job {
		t.Error("complete before the other region confirmed")
	}
	w.b.ErasePass(t.Context())
	w.settle()
	for _, v := range []*vault.Vault{w.a, w.b} {
		if out := w.erase(v, job); !out.Complete || !out.Regions[1].Confirmed || out.Erased != 0 {
			t.Errorf("both regions have confirmed: %+v", out)
		}
	}
	if in, err := w.a.Inspect(t.Context(), w.admin, req.Tokens); err != nil || in[0].Err == nil {
		t.Errorf("inspected %+v, %v", in, err)
	}
}

// Who asks for an erasure's progress erases nothing, and sees none of another tenant's.
func TestEraseStatusRefuses(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	out := w.erase(w.a, vault.EraseRequest{SubjectID: "C-1"})
	for code, req := range map[string]vault.EraseRequest{
		"invalid_erase": {Job: out.Job, Tokens: []secret.Text{token}},
		"not_found":     {Job: "0195503f-9d6c-7f0e-8a55-3f6c1d2e4b7a"},
	} {
		_, err := w.a.Erase(t.Context(), w.admin, req)
		var refused *vault.Error
		if !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("%s: %v", code, err)
		}
	}
	stranger := w.admin
	stranger.Principal.Tenant = "another"
	for _, job := range []string{out.Job, "no job", strings.Repeat("-", 36), "{" + out.Job + "}"} {
		_, err := w.a.Erase(t.Context(), stranger, vault.EraseRequest{Job: job})
		wantCode(t, err, vault.ErrNotFound, "not_found")
	}
	_, err := w.a.Erase(t.Context(), w.as(authz.RoleReader), vault.EraseRequest{Job: out.Job})
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	w.wantReveal(w.a, token, "ann@example.com")
}

// G9: an erasure covers all that was acknowledged before it, also where an
// earlier one of the same subject is complete everywhere but for this region's
// knowledge of it. (Found by the simulation.)
func TestAnErasureIsNotAnsweredByAnEarlierOne(t *testing.T) {
	w := newWorld(t)
	erase := vault.EraseRequest{SubjectID: "C-1"}
	old := w.subjectToken(w.b, "email", "old@example.com", "C-1")
	first := w.erase(w.a, erase)
	if again := w.erase(w.a, erase); again.Job != first.Job {
		t.Error("what this region has not confirmed covers the same request")
	}
	w.completeErase()
	w.wantGone(w.b, old)
	if out := w.erase(w.a, vault.EraseRequest{Job: first.Job}); !out.Complete {
		t.Fatalf("not complete: %+v", out)
	}
	young := w.subjectToken(w.b, "email", "young@example.com", "C-1")
	second := w.erase(w.a, erase)
	if second.Complete || second.Job == first.Job {
		t.Errorf("answered by an earlier erasure: %+v", second)
	}
	w.completeErase()
	w.wantGone(w.b, young)
}

// G9: repair does not bring back what was erased while it worked.
func TestRepairDoesNotResurrect(t *testing.T) {
	w := newWorld(t)
	w.fault(sim.Fault{Region: regionB, KMS: "down"})
	token := w.token(w.a, "email", "ann@example.com")
	w.settle()
	w.fault(sim.Fault{Region: regionB, KMS: "up"})
	w.erase(w.b, vault.EraseRequest{Tokens: []secret.Text{token}})
	w.a.ProbePass(t.Context())
	w.a.RepairPass(t.Context()) // A has not seen the erasure
	w.settle()
	w.wantGone(w.a, token)
	w.wantGone(w.b, token)
	w.a.SweepPass(t.Context())
	w.b.SweepPass(t.Context())
	w.settle()
	w.wantDegraded(w.a, 0)
	w.wantDegraded(w.b, 0)
}
