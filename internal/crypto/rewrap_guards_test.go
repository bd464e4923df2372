package crypto_test

import (
	"context"
	"errors"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// lacking is a sealer of two regions and a message without region-1's copy.
func lacking(t *testing.T, c crypto.RingConfig, kmss []*remoteKMS) []byte {
	t.Helper()
	kmss[1].set(fails(crypto.ErrThrottled))
	defer kmss[1].set(nil)
	return mustSeal(t, crypto.NewSealer(mustRing(t, c), nil, nil), boundValue("x")).Message
}

// What needs no copy costs no call.
func TestRewrapOfACompleteMessageAsksNobody(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	sealed := mustSeal(t, s, boundValue("x"))
	before := kmss[0].calls.Load() + kmss[1].calls.Load()
	if _, err := s.Rewrap(t.Context(), sealed.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("got %v", err)
	}
	if n := kmss[0].calls.Load() + kmss[1].calls.Load() - before; n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A caller that gives up while copies are made gets its own error: that a copy
// is missing then says nothing of the region.
func TestRewrapGivenUp(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	ctx, cancel := context.WithCancel(t.Context())
	kmss[1].set(func(ctx context.Context, op string) error {
		if op != "encrypt" {
			return nil
		}
		cancel()
		return ctx.Err()
	})
	if _, err := crypto.NewSealer(mustRing(t, c), nil, nil).Rewrap(ctx, message); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// spent has no randomness left.
type spent struct{}

func (spent) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// G8: without randomness there is no fresh message id, and so no message.
func TestRewrapWithoutRandomness(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	sealed, err := crypto.NewSealer(mustRing(t, c), nil, spent{}).Rewrap(t.Context(), message)
	if err == nil || sealed.Message != nil {
		t.Errorf("rewrapped: %v", err)
	}
}

// swollen makes copies that no message has room for.
type swollen struct{ *remoteKMS }

func (k swollen) Encrypt(context.Context, string, secret.Key, map[string]string) ([]byte, error) {
	return make([]byte, 1<<16), nil
}

// A copy of an impossible size makes no message.
func TestRewrapOfAnImpossibleCopy(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	message := lacking(t, c, kmss)
	c.Regions[1].KMS = swollen{kmss[1]}
	sealed, err := crypto.NewSealer(mustRing(t, c), nil, nil).Rewrap(t.Context(), message)
	if err == nil || errors.Is(err, crypto.ErrNothingToAdd) || sealed.Message != nil {
		t.Errorf("rewrapped: %v", err)
	}
}
