package vault

import (
	"context"
	"errors"
	"time"

	"piivault/internal/store"
)

// sweepGrace is how long an expired record stays before the sweeper takes it:
// longer than the clocks of two regions differ.
const sweepGrace = time.Hour

// sweepPage is how many keys are swept at once.
const sweepPage = 500

// sweep runs the sweeper until ctx is done.
func (v *Vault) sweep(ctx context.Context) { every(ctx, v.SweepEvery, nil, v.sweepOnce) }

// sweepOnce deletes what is under a tombstone, records that reappeared there
// too (G9), and buries and deletes what has expired.
func (v *Vault) sweepOnce(ctx context.Context) {
	expiredBefore := v.Now().Add(-sweepGrace).UnixMilli()
	err := errors.Join(
		v.sweepList(ctx, func(p store.Page) ([]store.Key, string, error) { return v.local.Expired(ctx, expiredBefore, p) }, true),
		v.sweepList(ctx, func(p store.Page) ([]store.Key, string, error) { return v.local.Swept(ctx, p) }, false))
	if err != nil && ctx.Err() == nil {
		v.Logger.Warn().Err(err).Msg("the sweeper cannot proceed now")
	}
}

// sweepList deletes a listing's keys page by page.
func (v *Vault) sweepList(ctx context.Context, list func(store.Page) ([]store.Key, string, error), bury bool) error {
	for page := (store.Page{Limit: sweepPage}); ; {
		keys, next, err := list(page)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return nil
		}
		if bury {
			if err := v.local.Bury(ctx, keys); err != nil {
				return err
			}
		}
		if err := v.local.Delete(ctx, keys); err != nil || next == "" {
			return err
		}
		page.After = next
	}
}
