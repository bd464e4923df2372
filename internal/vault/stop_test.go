package vault_test

import (
	"context"
	"sync/atomic"
	"testing"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

func (w *world) stop(v *vault.Vault, c vault.Call) vault.StopResult {
	w.t.Helper()
	out, err := v.Stop(w.ctx(), c, "keys were stolen", false)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) resume(v *vault.Vault, c vault.Call) vault.ResumeResult {
	w.t.Helper()
	out, err := v.Resume(w.ctx(), c, "all clear", false)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) wantStopped(v *vault.Vault, c vault.Call, req vault.DetokenizeRequest) {
	w.t.Helper()
	out, err := v.Detokenize(w.ctx(), c, req)
	wantCode(w.t, err, vault.ErrUnavailable, "stopped")
	if len(out.Items) != 0 {
		w.t.Error("a stopped request has items")
	}
}

// G5a: a stop ends reveals here at once and in the other region after a poll,
// masked ones and on_error continue too; tokenize, erase and audit go on.
func TestStopEndsReveals(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.settle()
	out := w.stop(w.a, w.as(authz.RoleOperator))
	if out.ID == "" || len(out.NotReached) != 0 {
		t.Fatalf("%+v", out)
	}
	masked, partial := ask(token), ask(token)
	masked.Items[0].Reveal, partial.Continue = vault.Masked, true
	w.b.StopsPass(t.Context())
	for _, v := range []*vault.Vault{w.a, w.b} {
		for _, req := range []vault.DetokenizeRequest{ask(token), masked, partial} {
			w.wantStopped(v, w.admin, req)
		}
		other := w.token(v, "email", "bob@example.com")
		w.erase(v, vault.EraseRequest{Tokens: []secret.Text{other}})
		stops, err := v.Stops(t.Context(), w.admin)
		if err != nil || len(stops) != 1 || stops[0].ID != out.ID || stops[0].Reason != "keys were stolen" {
			t.Errorf("%+v: %v", stops, err)
		}
	}
	denied := w.entries(w.a, "detokenize")
	if len(denied) != 3 || denied[0].Entry.Outcome != audit.Denied || !sameSet(denied[0].Entry.Policies, "stop."+out.ID) {
		t.Errorf("%d entries of stopped reveals: %+v", len(denied), denied[0].Entry)
	}
	if lifted := w.resume(w.b, w.as(authz.RoleAdmin)); !sameSet(lifted.Lifted, out.ID) || lifted.Stopped {
		t.Errorf("%+v", lifted)
	}
	w.a.StopsPass(t.Context())
	w.wantReveal(w.a, token, "ann@example.com")
	w.wantReveal(w.b, token, "ann@example.com")
	stop, resume := w.entries(w.a, "stop"), w.entries(w.b, "resume")
	if len(stop) != 1 || stop[0].Entry.Purpose != "keys were stolen" || stop[0].Entry.Decision != "allow" || len(resume) != 1 || resume[0].Entry.Purpose != "all clear" {
		t.Errorf("%+v, %+v", stop, resume)
	}
}

// A stop made behind a partition is named as not reached, stays in force
// when a resume of the other side did not know of it, and needs its own.
func TestResumeLiftsOnlyWhatItSaw(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.settle()
	w.fault(sim.Fault{Region: regionB, Link: "down"})
	inA, inB := w.stop(w.a, w.admin), w.stop(w.b, w.admin)
	if !sameSet(inA.NotReached, regionB) || !sameSet(inB.NotReached, regionA) {
		t.Fatalf("%v, %v", inA.NotReached, inB.NotReached)
	}
	if out := w.resume(w.a, w.admin); !sameSet(out.Lifted, inA.ID) || !sameSet(out.NotReached, regionB) {
		t.Errorf("%+v", out)
	}
	w.wantReveal(w.a, token, "ann@example.com") // it cannot know
	w.fault(sim.Fault{Region: regionB, Link: "up"})
	w.settle()
	for _, v := range []*vault.Vault{w.a, w.b} {
		v.StopsPass(t.Context())
		w.wantStopped(v, w.admin, ask(token))
	}
	if out := w.resume(w.b, w.admin); !sameSet(out.Lifted, inB.ID) || out.Stopped {
		t.Errorf("%+v", out)
	}
	w.settle()
	w.a.StopsPass(t.Context())
	w.wantReveal(w.a, token, "ann@example.com")
	w.wantReveal(w.b, token, "ann@example.com")
	if out := w.resume(w.a, w.admin); len(out.Lifted) != 0 {
		t.Errorf("nothing was stopped, and %v was lifted", out.Lifted)
	}
}

// One tenant's stop is its own; the deployment's stops all, and no tenant lifts it.
func TestStopScopes(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	id, err := w.a.CreateTenant(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	stranger := w.admin
	stranger.Principal.Tenant = id
	w.stop(w.a, stranger)
	w.wantReveal(w.a, token, "ann@example.com")
	operator := vault.Call{Principal: vault.Principal{ID: "operator", Roles: []authz.Role{authz.RoleOperator}}}
	if _, err := w.a.Stop(t.Context(), operator, "breach", true); err != nil {
		t.Fatal(err)
	}
	w.wantStopped(w.a, w.admin, ask(token))
	w.wantStopped(w.a, stranger, ask(token))
	if out := w.resume(w.a, w.admin); len(out.Lifted) != 0 || !out.Stopped {
		t.Errorf("a tenant lifted %v", out.Lifted)
	}
	w.wantStopped(w.a, w.admin, ask(token))
	if out, err := w.a.Resume(t.Context(), operator, "over", true); err != nil || len(out.Lifted) != 1 {
		t.Errorf("%+v: %v", out, err)
	}
	w.wantReveal(w.a, token, "ann@example.com")
	w.wantStopped(w.a, stranger, ask(token))
}

func TestStopIsRefused(t *testing.T) {
	w := newWorld(t)
	_, err := w.a.Stop(t.Context(), w.as(authz.RoleReader), "why", false)
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.Resume(t.Context(), w.as(authz.RoleWriter, authz.RoleAuditor), "why", false)
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	_, err = w.a.Stops(t.Context(), w.as(authz.RoleReader))
	wantCode(t, err, vault.ErrForbidden, "forbidden")
	for _, reason := range []string{"", "two\nlines", string(make([]byte, 257))} {
		_, err = w.a.Stop(t.Context(), w.admin, reason, false)
		wantCode(t, err, vault.ErrInvalid, "invalid_reason")
		_, err = w.a.Resume(t.Context(), w.admin, reason, false)
		wantCode(t, err, vault.ErrInvalid, "invalid_reason")
	}
}

// stoppingLog runs a function while an entry waits to be durable.
type stoppingLog struct {
	audit.Log
	meanwhile atomic.Pointer[func()]
}

type stoppingPending struct {
	audit.Pending
	do func()
}

func (p stoppingPending) Wait(ctx context.Context) (audit.Receipt, error) {
	receipt, err := p.Pending.Wait(ctx)
	p.do()
	return receipt, err
}

func (l *stoppingLog) Append(entries []audit.Entry) audit.Pending {
	p := l.Log.Append(entries)
	if do := l.meanwhile.Swap(nil); do != nil {
		return stoppingPending{p, *do}
	}
	return p
}

// A request that is under way when its instance learns of a stop releases
// nothing, and the log says so of every item (G6).
func TestStopReachesRequestsUnderWay(t *testing.T) {
	log := &stoppingLog{}
	w := newWorld(t, wrapped(func(region string, cfg *vault.Config) {
		if region == regionA {
			log.Log, cfg.Log = cfg.Log, log
		}
	}))
	token := w.token(w.a, "email", "ann@example.com")
	do := func() { w.stop(w.a, w.admin) }
	log.meanwhile.Store(&do)
	w.wantStopped(w.a, w.admin, ask(token))
	found := w.entries(w.a, "detokenize")
	if len(found) != 2 || found[0].Entry.Outcome != audit.Failed || found[0].Entry.About == nil || found[1].Entry.Outcome != audit.Authorized {
		t.Errorf("%d entries: %+v", len(found), found)
	}
}

// A stop does not wait for the audit log: what it is for may be what is wrong with it.
func TestStopWithoutItsEntryIsInForce(t *testing.T) {
	log := &brokenLog{}
	w := newWorld(t, wrapped(func(region string, cfg *vault.Config) {
		if region == regionA {
			log.Log, cfg.Log = cfg.Log, log
		}
	}))
	token := w.token(w.a, "email", "ann@example.com")
	log.broken = true
	_, err := w.a.Stop(t.Context(), w.admin, "breach", false)
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	_, err = w.a.Resume(t.Context(), w.admin, "over", false)
	wantCode(t, err, vault.ErrUnavailable, "audit_unavailable")
	log.broken = false
	w.wantStopped(w.a, w.admin, ask(token))
}
