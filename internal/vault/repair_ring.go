package vault

import (
	"context"
	"io"
	"slices"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// A scan for records of older ring epochs: its pages, and the segments that
// instances begin in at different places, so that they seldom meet.
const (
	scanPage     = 1000
	scanSegments = 16
)

// ring rewraps what an earlier ring wrapped (region added or removed, key
// replaced, mode changed). It is over here after two passes that found
// nothing, further apart than the replication lag; the control table says so,
// and then only StartRepair makes it scan again. A scan that was interrupted
// begins anew: what was done is filtered out where the rows are.
func (r *reconciler) ring(ctx context.Context, forced bool) error {
	if r.restored.Swap(false) || forced {
		r.pause, r.pausedTo = 0, time.Time{}
	}
	done, err := r.v.ringDone(ctx)
	here := slices.Contains(done, r.v.region)
	if err != nil || here && !forced || r.v.Now().Before(r.pausedTo) {
		return err
	}
	r.update(func(s *RepairStatus) { s.RingScan = true })
	outdated, both, err := r.countOutdated(ctx)
	if err != nil {
		return err
	}
	r.update(func(s *RepairStatus) { s.Outdated, s.both = outdated, both })
	if outdated == 0 {
		r.pause = 0
		return r.ringEmpty(ctx, here)
	}
	r.emptySince = time.Time{}
	before, others, all := r.repaired(), 0, r.share.all || r.stalled(ringListing, r.ringPatience())
	defer func() { r.rest(before, others) }()
	err = r.eachOutdated(ctx, func(keys []store.Key, degraded map[store.Key]bool) error {
		ours, more, err := r.ours(keys, all)
		if others += more; err == nil {
			err = r.records(ctx, ours, func(key store.Key) { r.update(func(s *RepairStatus) { s.rewrapped(degraded[key]) }) })
		}
		select {
		case <-r.kick: // a region is back: its gaps do not wait for the end of this
			r.gaps(ctx)
		default:
		}
		return err
	})
	if err == nil {
		r.took(ringListing, others)
	}
	return err
}

// maxPause bounds how long a scan waits after one that could repair nothing:
// each reads the whole table, which is billed.
const maxPause = 15 * time.Minute

// rest makes the next scan wait, from the second time on and twice as long each
// time, where this one could repair nothing and left nothing to others: what is
// left needs a region that is away, or a person.
func (r *reconciler) rest(before, others int) {
	if r.repaired() > before || others > 0 {
		r.pause = 0
		return
	}
	r.pausedTo = r.v.Now().Add(r.pause)
	r.pause = min(max(2*r.pause, r.v.RepairEvery), maxPause)
}

func (r *reconciler) repaired() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.Repaired
}

// localDenied: the tenant's key in this region refuses, so that nothing of it
// can be opened here.
func (v *Vault) localDenied(tenant string) bool {
	return v.Ring.For(tenant).State(v.region) == crypto.Denied
}

// rewrapped counts one that is no longer of an older ring.
func (s *RepairStatus) rewrapped(degraded bool) {
	s.Outdated = max(s.Outdated-1, 0)
	if degraded {
		s.both = max(s.both-1, 0)
	}
	s.both = min(s.both, s.Outdated)
}

// countOutdated also tells how many of them lack a copy, too.
func (r *reconciler) countOutdated(ctx context.Context) (n, both int, err error) {
	err = r.eachOutdated(ctx, func(keys []store.Key, degraded map[store.Key]bool) error {
		n, both = n+len(keys), both+len(degraded)
		return nil
	})
	return n, both, err
}

// eachOutdated scans this region's table for records that older rings wrapped
// for other keys and that are not waiting for their end only, and tells which of
// them lack a copy.
func (r *reconciler) eachOutdated(ctx context.Context, fn func(keys []store.Key, degraded map[store.Key]bool) error) error {
	return r.v.scan(ctx, r.v.Ring.Epoch(), func(rows []store.Row) error {
		keys, degraded := make([]store.Key, 0, len(rows)), map[store.Key]bool{}
		for _, row := range rows {
			if r.v.outdated(r.rings, row.Tenant, row.RingEpoch) && !r.v.awaitsDeletion(row.Expires) {
				keys = append(keys, row.Key)
				if len(row.Missing) > 0 {
					degraded[row.Key] = true
				}
			}
		}
		return fn(keys, degraded)
	})
}

// scan walks this region's table, beginning somewhere.
func (v *Vault) scan(ctx context.Context, below uint64, fn func([]store.Row) error) error {
	var start [1]byte
	if _, err := io.ReadFull(v.Random, start[:]); err != nil {
		return err
	}
	for i := range scanSegments {
		part := store.Part{Segment: (int(start[0]) + i) % scanSegments, Segments: scanSegments, Below: below}
		if err := v.scanPart(ctx, part, fn); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) scanPart(ctx context.Context, part store.Part, fn func([]store.Row) error) error {
	for page := (store.Page{Limit: scanPage}); ; {
		rows, next, err := v.local.Scan(ctx, part, page)
		if err == nil {
			err = fn(rows)
		}
		if err != nil || next == "" {
			return err
		}
		page.After = next
	}
}

// ringEmpty takes note of a pass that found nothing.
func (r *reconciler) ringEmpty(ctx context.Context, known bool) error {
	now := r.v.Now()
	if r.emptySince.IsZero() {
		r.emptySince = now
		return nil
	}
	if known || now.Sub(r.emptySince) <= r.v.ErasureQuiet {
		return nil
	}
	if _, err := r.v.note(ctx, r.v.own("", actionRingDone)); err != nil {
		return err
	}
	item := authz.Item{Kind: authz.KindRingDone, ID: ringID(r.v.Ring.Epoch()) + "#" + r.v.region, Body: []byte(`{"v":1}`)}
	_, err := authz.InsertEverywhere(ctx, r.v.Controls, item)
	return err
}
