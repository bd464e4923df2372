package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// tenantSecrets gives every tenant's secret the copies that it lacks, and
// takes away those of regions that have left. One that cannot be repaired
// does not hold up the others.
func (r *reconciler) tenantSecrets(ctx context.Context) error {
	var failures []error
	err := eachItem(ctx, r.v.control, authz.KindTenantSecret, "", func(item authz.Item) error {
		failures = append(failures, r.tenantSecret(ctx, item))
		return nil
	})
	return errors.Join(append(failures, err)...)
}

func (r *reconciler) tenantSecret(ctx context.Context, item authz.Item) error {
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
	failure := r.v.control.Replace(ctx, item, next)
	if failure == nil {
		return nil
	}
	there, err := r.v.control.Get(ctx, item.Kind, item.ID)
	switch {
	case err != nil: // what became of it is not known, and the entry stands
		return errors.Join(failure, err)
	case bytes.Equal(there.Body, next.Body):
		return nil
	}
	if errors.Is(failure, authz.ErrConflict) { // another reconciler was first
		failure = nil
	}
	return errors.Join(failure, r.v.retract(ctx, receipt, []audit.Entry{e}))
}

// record repairs one record, counts how that went and reports that it needs no more.
func (r *reconciler) record(ctx context.Context, key store.Key) bool {
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
		r.v.Logger.Debug().Err(err).Str("record", key.ID).Msg("a record cannot be repaired now")
	}
	return err == nil
}

// repairRecord swaps a record's message for one that this ring's regions open,
// unless it changed or was buried meanwhile. One of a newer ring is left alone,
// and so is what waits for its end only. No record changes before the entry
// that says so is durable.
func (r *reconciler) repairRecord(ctx context.Context, key store.Key) (bool, error) {
	old, buried, err := r.v.local.Get(ctx, key)
	if err != nil || buried || old == nil || r.asItShouldBe(old) {
		return false, err
	}
	next, e, err := r.rewrapped(ctx, old)
	if err != nil || next == nil {
		return false, err
	}
	receipt, err := r.v.note(ctx, e)
	if err != nil {
		return false, err
	}
	failure := r.v.local.Replace(ctx, old, next)
	if failure == nil {
		return true, nil
	}
	applied, err := r.applied(ctx, next)
	switch {
	case err != nil: // what became of it is not known, and the entry stands
		return false, errors.Join(failure, err)
	case applied:
		return true, nil
	}
	if errors.Is(failure, store.ErrConflict) { // another reconciler was first, or an erasure
		failure = nil
	}
	return false, errors.Join(failure, r.v.retract(ctx, receipt, []audit.Entry{e}))
}

func (r *reconciler) asItShouldBe(old *store.Record) bool {
	return old.RingEpoch > r.v.Ring.Epoch() || r.v.awaitsDeletion(old.Expires) ||
		len(old.Missing) == 0 && !r.v.outdated(r.rings, old.Tenant, old.RingEpoch)
}

// awaitsDeletion reports a record that expired so long ago that no region's
// clock says otherwise.
func (v *Vault) awaitsDeletion(expires int64) bool {
	return expires != 0 && expires <= v.Now().Add(-sweepGrace).UnixMilli()
}

// rewrapped is the record with every copy that can be added now, and the entry
// that says so; nil if it is as it should be. Where none can be added the
// message stays, and the row says of it what is so in this ring: its gaps are
// then found by the regions that come back.
func (r *reconciler) rewrapped(ctx context.Context, old *store.Record) (*store.Record, audit.Entry, error) {
	next := *old
	next.RingEpoch = r.v.Ring.Epoch()
	e := r.v.own(old.Tenant, actionRepair)
	e.Record, e.Generation, e.Type = old.ID, old.Generation, old.Type
	sealed, err := r.v.Sealer.Rewrap(ctx, old.Message)
	switch {
	case err == nil:
		next.Message, next.Missing = sealed.Message, sealed.Missing
		e.DataKey, e.Copies = sealed.DataKey, sealed.Present
		return &next, e, nil
	case !errors.Is(err, crypto.ErrNothingToAdd):
		return nil, e, err
	}
	m, err := crypto.Parse(old.Message)
	if err != nil {
		return nil, e, err
	}
	e.DataKey = m.DataKey()
	e.Copies, next.Missing = r.v.Ring.Copies(m)
	if next.RingEpoch == old.RingEpoch && slices.Equal(next.Missing, old.Missing) {
		return nil, e, nil
	}
	return &next, e, nil
}

// applied resolves a Replace that failed, or seemed to, by reading back.
func (r *reconciler) applied(ctx context.Context, next *store.Record) (bool, error) {
	there, _, err := r.v.local.Get(ctx, next.Key)
	return there != nil && there.RingEpoch == next.RingEpoch &&
		bytes.Equal(there.Message, next.Message) && slices.Equal(there.Missing, next.Missing), err
}
