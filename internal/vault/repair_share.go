package vault

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/store"
)

// aliveFor is how old the newest heartbeat of a region may be for its
// instances to be counted on.
const aliveFor = 30 * time.Second

// share divides the records to be repaired among the regions, so that each is
// rewrapped once: by a hash of its name, among those that beat and whose key
// answers, as this instance sees it. Nothing rests on it. Where a listing's
// records of the others do not become fewer for a while, whatever keeps them
// from it, this region takes all; two that take the same do no harm. It belongs
// to the reconciler's goroutine.
type share struct {
	all   bool     // this pass takes everything
	alive []string // regions that beat, this one among them
	left  map[string]left
}

// left is what a listing had left for others, and since when it has not become less.
type left struct {
	records int
	since   time.Time
}

// divide begins a pass.
func (r *reconciler) divide(ctx context.Context, all bool) {
	r.share.all, r.share.alive = all, nil
	lag, err := r.v.ReplicationLag(ctx)
	if err != nil {
		r.warn(ctx, err, "whether other regions repair cannot be read now: all is repaired here")
		lag = nil
	}
	for _, region := range r.v.Ring.Names() {
		if behind, known := lag[region]; region == r.v.region || known && behind < aliveFor {
			r.share.alive = append(r.share.alive, region)
		}
	}
}

// mine reports a record that is this region's to repair.
func (r *reconciler) mine(key store.Key) bool {
	keys := r.v.Ring.For(key.Tenant)
	var able []string
	for _, region := range r.share.alive {
		if keys.State(region) == crypto.Up {
			able = append(able, region)
		}
	}
	if len(able) == 0 {
		return true
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key.ID)) // does not fail
	return able[hash.Sum32()%uint32(len(able))] == r.v.region
}

// Listings whose records are shared: those that lack a region's copy, and those
// that older rings wrapped.
func gapListing(region string) string { return "gap " + region }

const ringListing = "ring"

// gapPatience is how long a gap is left to others that do not close it. An
// outage that ended before they met it wakes no reconciler of theirs, and the
// records are short of a copy meanwhile.
func (r *reconciler) gapPatience() time.Duration { return r.v.RepairEvery / 6 }

// ringPatience is the same for records of older rings: each look for them
// reads the whole table.
func (r *reconciler) ringPatience() time.Duration { return 2 * r.v.RepairEvery }

// stalled reports that the others' records of a listing have not become fewer for so long.
func (r *reconciler) stalled(listing string, patience time.Duration) bool {
	was, ok := r.share.left[listing]
	return ok && r.v.since(was.since) >= patience
}

// gapsLeft reports that records with gaps were left for others.
func (r *reconciler) gapsLeft() bool {
	for listing := range r.share.left {
		if listing != ringListing {
			return true
		}
	}
	return false
}

// took takes note of how many records of a listing were left for others.
func (r *reconciler) took(listing string, records int) {
	was, ok := r.share.left[listing]
	switch {
	case records == 0:
		delete(r.share.left, listing)
	case !ok || records < was.records:
		r.share.left[listing] = left{records, r.v.Now()}
	}
}

// ours leaves of a listing's keys those that this region is to repair, in any
// order: instances of one region then seldom meet.
func (r *reconciler) ours(keys []store.Key, all bool) (ours []store.Key, others int, err error) {
	ours = slices.Clone(keys)
	if !all {
		ours = slices.DeleteFunc(ours, func(k store.Key) bool { return !r.mine(k) })
	}
	var seed [16]byte
	if _, err := io.ReadFull(r.v.Random, seed[:]); err != nil {
		return nil, 0, err
	}
	order := rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:]))) //nolint:gosec // an order is no secret
	order.Shuffle(len(ours), func(i, j int) { ours[i], ours[j] = ours[j], ours[i] })
	return ours, len(keys) - len(ours), nil
}
