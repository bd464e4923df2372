package vault

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// repairPage is how many degraded records are listed at once.
const repairPage = 200

// reconciler adds missing key copies, level-triggered: whatever made the gap,
// it looks at what is there (design §5). Any number of reconcilers in any
// region do no harm to each other, because Replace is conditional, and what
// two regions make of a record at once is complete whichever comes last.
type reconciler struct {
	v       *Vault
	kick    chan struct{} // wakes the loop; holds at most one wake
	forced  atomic.Bool   // somebody asked: scan for older ring epochs though that was done
	limiter *rate.Limiter // records a second

	restored atomic.Bool // a region came back: what could not be repaired may be now

	rings rings // as of the beginning of the pass
	share share

	// Of the loop's goroutine: when the latest run of passes that found no
	// record of an older ring epoch began, and until when the next scan waits,
	// and for how long, because the last ones could repair nothing.
	emptySince time.Time
	pausedTo   time.Time
	pause      time.Duration

	// mu guards status.
	mu     sync.Mutex
	status RepairStatus
}

func newReconciler(v *Vault) *reconciler {
	return &reconciler{
		v: v, kick: make(chan struct{}, 1),
		limiter: rate.NewLimiter(rate.Limit(v.RepairRate), v.RepairWorkers),
		share:   share{left: map[string]left{}},
	}
}

func (r *reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *reconciler) run(ctx context.Context) {
	every(ctx, r.v.RepairEvery, r.kick, func(ctx context.Context) {
		r.pass(ctx)
		if r.gapsLeft() { // have they become fewer by then?
			time.AfterFunc(r.gapPatience(), r.wake)
		}
	})
}

// StartRepair wakes this region's reconciler and returns at once. It also has
// it look for records of older ring epochs, done with or not.
func (v *Vault) StartRepair(ctx context.Context, c Call) error {
	if err := v.allow(ctx, c, authz.ActionRepair); err != nil {
		return err
	}
	if err := v.permitted(ctx, c, authz.ActionRepair, string(authz.ActionRepair)); err != nil {
		return err
	}
	v.repair.forced.Store(true)
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
	done, err := v.ringDone(ctx)
	if err != nil {
		return RepairStatus{}, unavailable("unavailable", err)
	}
	v.repair.mu.Lock()
	defer v.repair.mu.Unlock()
	status := v.repair.status
	status.Remaining, status.Epoch, status.RingDone = total+status.Outdated-status.both, v.Ring.Epoch(), done
	return status, nil
}

func (r *reconciler) update(change func(*RepairStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// pass repairs everything that the regions which answer now make repairable:
// tenant secrets first, because without them nothing else can be found. An
// instance of an older ring does nothing, lest it undo what newer ones do.
func (r *reconciler) pass(ctx context.Context) {
	forced := r.forced.Swap(false)
	r.update(func(s *RepairStatus) { *s = RepairStatus{Running: true, Outdated: s.Outdated, both: s.both} })
	defer r.update(func(s *RepairStatus) { s.Running = false })
	newer, err := r.v.newerRing(ctx)
	switch {
	case err != nil:
		r.warn(ctx, err, "whether there is a newer ring cannot be read now")
		return
	case newer:
		r.update(func(s *RepairStatus) { s.Superseded, s.Outdated, s.both = true, 0, 0 })
		r.v.Logger.Warn().Uint64("epoch", r.v.Ring.Epoch()).Msg("a newer key ring is in use: repair is left to its instances")
		return
	}
	if r.rings, err = r.v.rings(ctx); err != nil {
		r.warn(ctx, err, "which key rings there were cannot be read now")
		return
	}
	if err := r.tenantSecrets(ctx); err != nil {
		r.warn(ctx, err, "tenant secrets cannot be repaired now")
	}
	if !r.mayOpen() {
		return
	}
	r.divide(ctx, forced)
	r.gaps(ctx)
	if err := r.ring(ctx, forced); err != nil {
		r.warn(ctx, err, "records of older key rings cannot be repaired now")
	}
	r.mu.Lock()
	failed := r.status.Failed
	r.mu.Unlock()
	if failed > 0 && ctx.Err() == nil {
		r.v.Logger.Warn().Int("failed", failed).Msg("some records cannot be repaired now")
	}
}

func (r *reconciler) warn(ctx context.Context, err error, message string) {
	if ctx.Err() == nil {
		r.v.Logger.Warn().Err(err).Msg(message)
	}
}

// mayOpen reports that some tenant's key in this region does not refuse, and
// tells of those that do.
func (r *reconciler) mayOpen() bool {
	tenants := r.v.Ring.Tenants()
	refusing := 0
	for _, tenant := range tenants {
		if r.v.localDenied(tenant) {
			refusing++
		}
	}
	if refusing > 0 {
		r.v.Logger.Warn().Int("tenants", refusing).Msg("tenants' keys in this region refuse: their records are left to other regions' repair")
	}
	if !r.v.localDenied("") {
		return true
	}
	r.v.Logger.Warn().Msg("this region's key refuses: records are left to other regions' repair")
	return refusing < len(tenants)
}

// gaps repairs what misses the copy of a region that answers.
func (r *reconciler) gaps(ctx context.Context) {
	tenants := append(r.v.Ring.Tenants(), "")
	for _, region := range r.v.Ring.Names() {
		if !slices.ContainsFunc(tenants, func(t string) bool { return r.v.Ring.For(t).State(region) == crypto.Up }) {
			delete(r.share.left, gapListing(region))
			continue
		}
		if err := r.region(ctx, region); err != nil && ctx.Err() == nil {
			r.v.Logger.Warn().Err(err).Str("region", region).Msg("records cannot be repaired now")
		}
	}
}

// region walks the records that miss this region's copy, of tenants whose key
// there may make it: this region's share of them. A record that cannot be
// repaired is passed over, so that it does not hold up the others.
func (r *reconciler) region(ctx context.Context, region string) error {
	listing, others := gapListing(region), 0
	all := r.share.all || r.stalled(listing, r.gapPatience())
	for page := (store.Page{Limit: repairPage}); ; {
		keys, next, err := r.v.local.Degraded(ctx, region, page)
		if err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(k store.Key) bool { return r.v.Ring.For(k.Tenant).State(region) != crypto.Up })
		ours, more, err := r.ours(keys, all)
		if err == nil {
			err = r.records(ctx, ours, func(store.Key) {})
		}
		if err != nil {
			return err
		}
		if others += more; next == "" {
			r.took(listing, others)
			return nil
		}
		page.After = next
	}
}

// records repairs several at once, no more a second than is configured: most
// of the time goes to waiting for the KMS, and clients use it too. Those that
// cannot be opened here are left alone. done is told of each that needs no more.
func (r *reconciler) records(ctx context.Context, keys []store.Key, done func(store.Key)) error {
	var group errgroup.Group
	group.SetLimit(r.v.RepairWorkers)
	defer func() { _ = group.Wait() }() // what fails is counted, not returned
	for _, key := range keys {
		if r.v.localDenied(key.Tenant) {
			continue
		}
		if err := r.limiter.Wait(ctx); err != nil {
			return err
		}
		one := func() error {
			if r.record(ctx, key) {
				done(key)
			}
			return nil
		}
		if r.v.RepairWorkers == 1 { // in order, for simulations
			_ = one()
			continue
		}
		group.Go(one)
	}
	return nil
}
