package vault_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// An instance without repair does none of it in the background: no missing key
// copy, no erasure's confirmation. It still learns of erase jobs and of stops.
func TestDutiesInTheBackground(t *testing.T) {
	for _, can := range [][]vault.Duty{nil, {vault.CanTokenize, vault.CanDetokenize, vault.CanAudit}} {
		w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) {
			cfg.Can = can
			cfg.RepairEvery, cfg.PollEvery, cfg.SweepEvery, cfg.BeatEvery = time.Millisecond, time.Millisecond, time.Millisecond, 20*time.Millisecond
		}))
		w.fault(sim.Fault{Region: regionB, KMS: "down"})
		w.token(w.a, "email", "ann@example.com") // degraded
		w.fault(sim.Fault{Region: regionB, KMS: "up"})
		w.a.ProbePass(t.Context())
		victim := w.token(w.a, "email", "bob@example.com")
		w.erase(w.a, vault.EraseRequest{Tokens: []secret.Text{victim}})
		w.settle()
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.b.Run(ctx) })
		running.Go(func() { w.a.Run(ctx) })
		// Several beats of each: every other loop has had its turn.
		for deadline, from := time.Now().Add(20*time.Second), w.clock.now(); ; time.Sleep(5 * time.Millisecond) {
			w.clock.advance(time.Second)
			w.settle()
			degraded, err := w.a.Regions(t.Context(), w.admin)
			if err != nil {
				t.Fatal(err)
			}
			idle := w.clock.now().Sub(from) > 60*time.Second
			if can == nil && degraded.DegradedRecords == 0 && confirmedIn(w, regionB) == 1 || can != nil && idle {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("can %v: %d degraded records", can, degraded.DegradedRecords)
			}
		}
		stop()
		running.Wait()
		if can != nil {
			w.wantDegraded(w.a, 1)
			if n := confirmedIn(w, regionB); n != 0 {
				t.Errorf("an instance without repair confirmed %d erasures", n)
			}
			w.stop(w.a, w.admin)
			w.wantStopped(w.a, w.admin, ask(victim))
		}
	}
}

// confirmedIn counts a region's confirmations of erasures.
func confirmedIn(w *world, region string) (n int) {
	for _, e := range w.entries(w.b, "confirm_erase") {
		if e.Entry.Region == region {
			n++
		}
	}
	return n
}
