package vault_test

import (
	"testing"

	"piivault/internal/sim"
	"piivault/internal/vault"
)

// G2, G3: with either region's KMS down nothing is refused, what was written
// meanwhile says what it lacks, and it is repaired when the KMS is back.
func TestAnyRegionsKMSMayBeDown(t *testing.T) {
	for _, down := range []string{regionA, regionB} {
		t.Run(down, func(t *testing.T) {
			w := newWorld(t)
			before := w.token(w.a, "email", "before@example.com")
			w.settle()
			w.fault(sim.Fault{Region: down, KMS: "down"})
			out := w.tokenize(w.a, value("email", "during@example.com"))[0]
			if !sameSet(out.Copies.Missing, down) {
				t.Fatalf("key copies %+v, want %s missing", out.Copies, down)
			}
			w.settle()
			for _, v := range []*vault.Vault{w.a, w.b} {
				w.wantReveal(v, before, "before@example.com")
				w.wantReveal(v, out.Token, "during@example.com")
			}
			w.wantDegraded(w.a, 1)
			w.fault(sim.Fault{Region: down, KMS: "up"})
			w.a.ProbePass(t.Context())
			w.b.ProbePass(t.Context())
			w.a.RepairPass(t.Context())
			w.wantDegraded(w.a, 0)
			w.settle()
			other := map[string]string{regionA: regionB, regionB: regionA}[down]
			w.fault(sim.Fault{Region: other, KMS: "down"})
			w.wantReveal(w.b, out.Token, "during@example.com")
			w.wantReveal(w.a, out.Token, "during@example.com")
		})
	}
}

func (w *world) wantDegraded(v *vault.Vault, want int) {
	w.t.Helper()
	r, err := v.Regions(w.ctx(), w.admin)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.DegradedRecords != want {
		w.t.Errorf("%d degraded records, want %d", r.DegradedRecords, want)
	}
}

// A region's copy used in place of the local one is said so in the audit log.
func TestUseOfAnotherRegionsCopyIsAudited(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.fault(sim.Fault{Region: regionA, KMS: "down"})
	w.wantReveal(w.a, token, "ann@example.com")
	found := w.entries(w.a, "detokenize")
	if len(found) != 2 || found[0].Entry.Outcome != "copy_used" || !sameSet(found[0].Entry.Copies, regionB) {
		t.Fatalf("%d entries, newest %s with copies %v", len(found), found[0].Entry.Outcome, found[0].Entry.Copies)
	}
	if about := found[0].Entry.About; about == nil || about.Index != found[1].Index || about.Log != found[1].Log {
		t.Error("the follow-up does not name the entry it is about")
	}
}

// With every KMS down nothing can be wrapped or opened, and nothing hangs.
func TestAllKMSDownIsUnavailable(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.fault(sim.Fault{Region: regionA, KMS: "down"})
	w.fault(sim.Fault{Region: regionB, KMS: "down"})
	_, err := w.a.Tokenize(t.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "bob@example.com")}})
	wantCode(t, err, vault.ErrUnavailable, "too_few_copies")
	_, err = w.a.Detokenize(t.Context(), w.admin, ask(token))
	wantCode(t, err, vault.ErrUnavailable, "kms_unavailable")
	for _, e := range w.entries(w.a, "detokenize") {
		if e.Entry.Outcome == "authorized" && e.Entry.About != nil {
			t.Error("a failed reveal is recorded as released")
		}
	}
}

// A denial is somebody's decision: writes go on and are marked, reveals in
// that region are refused and not routed around.
func TestDeniedKMSIsNotRoutedAround(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.a, "email", "ann@example.com")
	w.settle()
	w.fault(sim.Fault{Region: regionA, KMS: "denied"})
	_, err := w.a.Detokenize(t.Context(), w.admin, ask(token))
	wantCode(t, err, vault.ErrUnavailable, "kms_denied")
	w.wantReveal(w.b, token, "ann@example.com")
	out := w.tokenize(w.a, value("email", "bob@example.com"))[0]
	if !sameSet(out.Copies.Missing, regionA) {
		t.Errorf("key copies %+v", out.Copies)
	}
	r, err := w.a.Regions(t.Context(), w.admin)
	if err != nil || r.Regions[0].KMS != "denied" {
		t.Errorf("regions %+v, %v", r.Regions, err)
	}
}

// An instance that can record nothing serves nothing, and says so.
func TestNotReadyWithoutAudit(t *testing.T) {
	var failure error
	w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) { cfg.LogReady = func() error { return failure } }))
	if err := w.a.Ready(t.Context())["audit"]; err != nil {
		t.Error(err)
	}
	failure = errFault
	if err := w.a.Ready(t.Context())["audit"]; err == nil {
		t.Error("it is ready")
	}
}
