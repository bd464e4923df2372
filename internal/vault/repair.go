package vault

import (
	"context"
	"errors"
	"sync"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// repairPage is how many degraded records are listed at once.
const repairPage = 200

// reconciler adds missing key copies, level-triggered: whatever made the gap,
// it looks at what is there (design §5). Any number of reconcilers in any
// region do no harm to each other, because Replace is conditional.
type reconciler struct {
	v    *Vault
	kick chan struct{} // wakes the loop; holds at most one wake

	// mu guards status.
	mu     sync.Mutex
	status RepairStatus
}

func newReconciler(v *Vault) *reconciler { return &reconciler{v: v, kick: make(chan struct{}, 1)} }

func (r *reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *reconciler) run(ctx context.Context) { every(ctx, r.v.RepairEvery, r.kick, r.pass) }

// StartRepair wakes this region's reconciler and returns at once.
func (v *Vault) StartRepair(ctx context.Context, c Call) error {
	if err := v.allow(ctx, c, authz.ActionRepair); err != nil {
		return err
	}
	if err := v.permitted(ctx, c, authz.ActionRepair, string(authz.ActionRepair)); err != nil {
		return err
	}
	v.repair.wake()
	return nil
}

// RepairStatus tells how the pass under way, or the last one, stands.
func (v *Vault) RepairStatus(ctx context.Context, c Call) (RepairStatus, error) {
	if err := v.allow(ctx, c, authz.ActionRepair); err != nil {
		return RepairStatus{}, err
	}
	_, total, err := v.local.CountDegraded(ctx, degradedCount)
	if err != nil {
		return RepairStatus{}, unavailable("unavailable", err)
	}
	v.repair.mu.Lock()
	defer v.repair.mu.Unlock()
	status := v.repair.status
	status.Remaining = total
	return status, nil
}

func (r *reconciler) update(change func(*RepairStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// pass repairs everything that the regions which answer now make repairable:
// tenant secrets first, because without them nothing else can be found.
func (r *reconciler) pass(ctx context.Context) {
	r.update(func(s *RepairStatus) { *s = RepairStatus{Running: true} })
	defer r.update(func(s *RepairStatus) { s.Running = false })
	if err := r.tenantSecrets(ctx); err != nil && ctx.Err() == nil {
		r.v.Logger.Warn().Err(err).Msg("tenant secrets cannot be repaired now")
	}
	for _, h := range r.v.Ring.Health() {
		if h.State != crypto.Up {
			continue
		}
		if err := r.region(ctx, h.Name); err != nil && ctx.Err() == nil {
			r.v.Logger.Warn().Err(err).Str("region", h.Name).Msg("records cannot be repaired now")
		}
	}
}

// tenantSecrets adds missing key copies to every tenant's secret.
func (r *reconciler) tenantSecrets(ctx context.Context) error {
	for after := ""; ; {
		items, err := r.v.control.List(ctx, authz.KindTenantSecret, after, repairPage)
		if err != nil {
			return err
		}
		for _, item := range items {
			after = item.ID
			if err := r.tenantSecret(ctx, item); err != nil {
				return err
			}
		}
		if len(items) < repairPage {
			return nil
		}
	}
}

func (r *reconciler) tenantSecret(ctx context.Context, item authz.Item) error {
	m, err := crypto.Parse(item.Body)
	if err != nil {
		return err
	}
	if _, missing := r.v.Ring.Copies(m); len(missing) == 0 {
		return nil
	}
	sealed, err := r.v.Sealer.Rewrap(ctx, item.Body)
	if errors.Is(err, crypto.ErrNothingToAdd) {
		return nil
	}
	if err != nil {
		return err
	}
	e := r.v.own(item.ID, actionRepairTenant)
	e.DataKey, e.Copies = sealed.DataKey, sealed.Present
	receipt, err := r.v.note(ctx, e)
	if err != nil {
		return err
	}
	next := authz.Item{Kind: item.Kind, ID: item.ID, Body: sealed.Message}
	if err := r.v.control.Replace(ctx, item, next); err != nil {
		return errors.Join(err, r.v.retract(ctx, receipt, []audit.Entry{e}))
	}
	return nil
}

// region walks the records that miss this region's copy. A record that cannot
// be repaired is passed over, so that it does not hold up the others.
func (r *reconciler) region(ctx context.Context, region string) error {
	for page := (store.Page{Limit: repairPage}); ; {
		keys, next, err := r.v.local.Degraded(ctx, region, page)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.record(ctx, key)
		}
		if next == "" {
			return nil
		}
		page.After = next
	}
}

// record repairs one record and counts how that went.
func (r *reconciler) record(ctx context.Context, key store.Key) {
	repaired, err := r.repairRecord(ctx, key)
	r.update(func(s *RepairStatus) {
		s.Scanned++
		switch {
		case err != nil:
			s.Failed++
		case repaired:
			s.Repaired++
		}
	})
	if err != nil && ctx.Err() == nil {
		r.v.Logger.Warn().Err(err).Str("record", key.ID).Msg("a record cannot be repaired now")
	}
}

// repairRecord swaps a degraded record's message for one with more key
// copies, unless it changed or was buried meanwhile.
func (r *reconciler) repairRecord(ctx context.Context, key store.Key) (bool, error) {
	old, buried, err := r.v.local.Get(ctx, key)
	if err != nil || buried || old == nil || len(old.Missing) == 0 {
		return false, err
	}
	sealed, err := r.v.Sealer.Rewrap(ctx, old.Message)
	if errors.Is(err, crypto.ErrNothingToAdd) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e := r.v.own(key.Tenant, actionRepair)
	e.Record, e.Generation, e.Type, e.DataKey, e.Copies = key.ID, key.Generation, old.Type, sealed.DataKey, sealed.Present
	pending := r.v.Log.Append([]audit.Entry{e})
	next := *old
	next.Message, next.Missing, next.RingEpoch = sealed.Message, sealed.Missing, sealed.RingEpoch
	failure := r.v.local.Replace(ctx, old, &next)
	receipt, err := pending.Wait(ctx)
	if err != nil {
		return false, errors.Join(failure, auditUnavailable(err))
	}
	if failure == nil {
		return true, nil
	}
	if _, err := r.v.note(ctx, followUp(e, receipt.At(0), audit.Failed)); err != nil {
		return false, err
	}
	if errors.Is(failure, store.ErrConflict) {
		return false, nil
	}
	return false, failure
}
