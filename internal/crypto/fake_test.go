package crypto_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

// remoteKMS is a local KMS that the ring must take for a remote one: it is not
// prompt, and a hook decides what each call meets on its way.
type remoteKMS struct {
	*localkms.KMS
	calls atomic.Int32 // of all but Check

	mu   sync.Mutex // guards hook
	hook func(ctx context.Context, op string) error
}

func (k *remoteKMS) Prompt() bool { return false }

func (k *remoteKMS) set(hook func(ctx context.Context, op string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hook = hook
}

func (k *remoteKMS) meet(ctx context.Context, op string) error {
	if op != "check" {
		k.calls.Add(1)
	}
	k.mu.Lock()
	hook := k.hook
	k.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx, op)
}

func (k *remoteKMS) GenerateDataKey(ctx context.Context, arn string, ec map[string]string) (secret.Key, []byte, error) {
	if err := k.meet(ctx, "generate"); err != nil {
		return secret.Key{}, nil, err
	}
	return k.KMS.GenerateDataKey(context.WithoutCancel(ctx), arn, ec)
}

func (k *remoteKMS) Encrypt(ctx context.Context, arn string, key secret.Key, ec map[string]string) ([]byte, error) {
	if err := k.meet(ctx, "encrypt"); err != nil {
		return nil, err
	}
	return k.KMS.Encrypt(context.WithoutCancel(ctx), arn, key, ec)
}

func (k *remoteKMS) Decrypt(ctx context.Context, arn string, blob []byte, ec map[string]string) (secret.Key, error) {
	if err := k.meet(ctx, "decrypt"); err != nil {
		return secret.Key{}, err
	}
	return k.KMS.Decrypt(context.WithoutCancel(ctx), arn, blob, ec)
}

func (k *remoteKMS) Check(ctx context.Context, arn string) error {
	if err := k.meet(ctx, "check"); err != nil {
		return err
	}
	return k.KMS.Check(ctx, arn)
}

// fails is a hook that answers every call with err, of the given operations or of all.
func fails(err error, ops ...string) func(context.Context, string) error {
	return func(_ context.Context, op string) error {
		if len(ops) > 0 && !slices.Contains(ops, op) {
			return nil
		}
		return fmt.Errorf("hook: %w", err)
	}
}

// hangs is a hook that answers when its context is done.
func hangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// remoteRing is a ring of n remote KMSs; region-0 is local.
func remoteRing(tb testing.TB, n int) (crypto.RingConfig, []*remoteKMS) {
	tb.Helper()
	locals := newKMSs(tb, n)
	c := ringConfig(locals)
	remotes := make([]*remoteKMS, n)
	for i := range remotes {
		remotes[i] = &remoteKMS{KMS: locals[i]}
		c.Regions[i].KMS = remotes[i]
	}
	return c, remotes
}

func states(r *crypto.Ring) (all []string) {
	for _, h := range r.Health() {
		all = append(all, string(h.State))
	}
	return all
}

// runRing probes in the background until the returned function is called.
func runRing(tb testing.TB, r *crypto.Ring) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var wait sync.WaitGroup
	wait.Go(func() { r.Run(ctx) })
	return func() {
		cancel()
		wait.Wait()
	}
}
