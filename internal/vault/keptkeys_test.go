package vault_test

import (
	"context"
	"testing"
	"time"

	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/sim"
)

// G4: a data key that is kept for reuse is gone when the instance ends.
func TestG4KeptDataKeysEndWithTheInstance(t *testing.T) {
	w := newWorld(t, func(cfg *sim.Config) {
		cfg.Types = append(cfg.Types, pii.Type{
			Name: "shared", Kind: "name", Token: pii.Random, Bound: true,
			DataKey: pii.DataKeyPolicy{Reuse: true, MaxMessages: 100, MaxBytes: 1 << 20, MaxAge: time.Hour},
		})
	})
	dataKey := func() string {
		out, err := w.a.Inspect(w.ctx(), w.admin, []secret.Text{w.token(w.a, "shared", "Ann")})
		if err != nil || out[0].Err != nil {
			t.Fatal(err, out)
		}
		return out[0].DataKey
	}
	first := dataKey()
	if dataKey() != first {
		t.Fatal("the data key is not reused")
	}
	over, end := context.WithCancel(t.Context())
	end()
	w.a.Run(over)
	if dataKey() == first {
		t.Error("the data key is still there")
	}
}
