package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"piivault/internal/store"
)

const (
	// readBackTimeout bounds finding out what a failed write left behind.
	readBackTimeout = time.Second
	// shunned is how long a region that failed as the second is tried last.
	shunned = 10 * time.Second
)

// insert makes records durable here and, with TwoRegions, in a second region
// at the same time (G1). What is buried there is buried here too.
func (v *Vault) insert(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	if !v.TwoRegions {
		return v.insertHere(ctx, records)
	}
	var wg sync.WaitGroup
	var there []store.Outcome
	var failure error
	wg.Go(func() { there, failure = v.insertElsewhere(ctx, records) })
	here, err := v.insertHere(ctx, records)
	wg.Wait()
	switch {
	case err != nil:
		return nil, err
	case failure != nil:
		return nil, unavailable("second_region_unavailable", failure)
	}
	return v.buryAlike(ctx, records, here, there)
}

// insertHere resolves an error by reading back, because a write that timed out
// may have been applied (design §5).
func (v *Vault) insertHere(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	outcomes, failure := v.local.Insert(ctx, records)
	if failure == nil {
		return outcomes, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBackTimeout)
	defer cancel()
	outcomes = make([]store.Outcome, len(records))
	for i := range records {
		r, buried, err := v.local.Get(ctx, records[i].Record.Key)
		switch {
		case err != nil || (r == nil && !buried):
			return nil, unavailable("unavailable", failure)
		case buried:
			outcomes[i] = store.Buried
		case bytes.Equal(r.Message, records[i].Record.Message) && len(records[i].Links) == 0:
			outcomes[i] = store.Inserted
		default:
			return nil, unavailable("unavailable", failure)
		}
	}
	return outcomes, nil
}

// insertElsewhere puts the records into the table of the first other region
// that answers, in the ring's order but for those that failed just now.
// Replication delivers the same items there once more.
func (v *Vault) insertElsewhere(ctx context.Context, records []store.New) (outcomes []store.Outcome, err error) {
	unseen := slices.Clone(records)
	for i := range unseen {
		unseen[i].Unburied = false // what was read was read here
	}
	err = errors.New("vault: there is no second region")
	for _, i := range v.seconds.order(v.Now()) {
		attempt, cancel := context.WithTimeout(ctx, remoteTimeout)
		outcomes, err = v.Others[i].Insert(attempt, unseen)
		cancel()
		if err == nil || ctx.Err() != nil {
			return outcomes, err
		}
		v.seconds.shun(i, v.Now())
	}
	return nil, err
}

// buryAlike buries here what is buried there: its tombstone is on its way here
// anyway, and without it a deterministic token would stay at that generation.
func (v *Vault) buryAlike(ctx context.Context, records []store.New, here, there []store.Outcome) ([]store.Outcome, error) {
	var keys []store.Key
	for i := range records {
		if there[i] == store.Buried && here[i] != store.Buried {
			keys = append(keys, records[i].Record.Key)
			here[i] = store.Buried
		}
	}
	if len(keys) == 0 {
		return here, nil
	}
	if err := v.local.Bury(ctx, keys); err != nil {
		return nil, unavailable("unavailable", err)
	}
	return here, nil
}

// seconds says which other region to write to: until when each is tried last,
// in Unix ns, by its place in Config.Others.
type seconds []atomic.Int64

func (s seconds) order(now time.Time) []int {
	order, last := make([]int, 0, len(s)), make([]int, 0, len(s))
	for i := range s {
		if s[i].Load() > now.UnixNano() {
			last = append(last, i)
		} else {
			order = append(order, i)
		}
	}
	return append(order, last...)
}

func (s seconds) shun(i int, now time.Time) { s[i].Store(now.Add(shunned).UnixNano()) }
