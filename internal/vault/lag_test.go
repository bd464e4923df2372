package vault_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"piivault/internal/sim"
	"piivault/internal/store"
	"piivault/internal/vault"
)

func (w *world) wantLag(v *vault.Vault, want map[string]time.Duration) {
	w.t.Helper()
	got, err := v.ReplicationLag(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for region, d := range got {
		got[region] = d.Round(time.Second) // the world's clock moves a little at each look
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("lag %v, want %v", got, want)
	}
}

// The lag is the age of the newest heartbeat that has arrived: it grows while
// a link is down, and falls when it is up again.
func TestReplicationLag(t *testing.T) {
	w := newWorld(t)
	w.wantLag(w.a, map[string]time.Duration{})
	w.a.BeatPass(t.Context())
	w.b.BeatPass(t.Context())
	w.wantLag(w.a, map[string]time.Duration{})
	w.clock.advance(2 * time.Second)
	w.settle()
	w.wantLag(w.a, map[string]time.Duration{regionB: 2 * time.Second})
	w.wantLag(w.b, map[string]time.Duration{regionA: 2 * time.Second})
	w.fault(sim.Fault{Region: regionB, Link: "down"})
	w.clock.advance(time.Minute)
	w.b.BeatPass(t.Context())
	w.wantLag(w.a, map[string]time.Duration{regionB: 62 * time.Second})
	w.fault(sim.Fault{Region: regionB, Link: "up"})
	w.settle()
	w.wantLag(w.a, map[string]time.Duration{regionB: 0})
	w.clock.advance(-time.Minute) // a clock behind the other region's
	w.wantLag(w.a, map[string]time.Duration{regionB: 0})
}

// beatless fails to read heartbeats.
type beatless struct{ store.Store }

func (beatless) Beats(context.Context) (map[string]int64, error) {
	return nil, errors.New("a text that is for the log")
}

func TestReplicationLagUnknown(t *testing.T) {
	w := newWorld(t, wrapped(func(_ string, cfg *vault.Config) { cfg.Store = beatless{cfg.Store} }))
	_, err := w.a.ReplicationLag(t.Context())
	wantCode(t, err, vault.ErrUnavailable, "unavailable")
}
