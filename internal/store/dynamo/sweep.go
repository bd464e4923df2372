package dynamo

import (
	"context"
	"errors"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// No index can tell that an R came to lie under an X: they are two items, and
// replication may bring the R after the X. So each X is due to be looked at,
// by the sparse index by-sweep, at once and then after ever longer times, until
// it is so old that no replica can still be on its way. Regions share the
// looks: what one sees after the last of both has replicated, all see.
const (
	firstLook = time.Minute
	nextLook  = 3 // ages later: looks after 1, 4, 16 minutes …
	lastLook  = 35 * 24 * time.Hour
)

// Swept implements store.Store. On the way it puts off the next look at
// tombstones with nothing under them.
func (s *Store) Swept(ctx context.Context, page store.Page) ([]store.Key, string, error) {
	w, err := newWalk("by-sweep", attrSweep, attrDue, s.now().UnixMilli(), page)
	if err == nil {
		err = s.walk(ctx, w, s.look)
	}
	if err != nil {
		return nil, "", fault("list what to sweep", err)
	}
	return w.keys, w.next, nil
}

// look says which tombstones have something under them: one query a record,
// however many of its generations are due.
func (s *Store) look(ctx context.Context, due []found) ([]bool, error) {
	pks, of := newSet[string](len(due)), map[int][]int{}
	for i, x := range due {
		at, _ := pks.add(partition(x.Tenant, x.ID))
		of[at] = append(of[at], i)
	}
	covers := make([]bool, len(due))
	err := dynamo.Each(ctx, len(pks.list), func(ctx context.Context, at int) error {
		rows, err := s.rows(ctx, pks.list[at])
		if err != nil {
			return err
		}
		for _, i := range of[at] {
			if covers[i] = due[i].covers(rows); covers[i] {
				continue
			}
			if err := s.putOff(ctx, due[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return covers, err
}

// covers reports that there is an R or an L under the tombstone, and learns
// when that was written.
func (x *found) covers(rows []row) (covers bool) {
	for _, r := range rows {
		switch {
		case r.Key != x.Key:
		case r.kind == kindTombstone:
			x.at = r.at
		default:
			covers = true
		}
	}
	return covers
}

// putOff moves the next look at a tombstone, unless it was written again.
func (s *Store) putOff(ctx context.Context, x found) error {
	now := s.now().UnixMilli()
	age := max(now-x.at, 0)
	cond := dynamo.Condition{
		Expression: "#due = :was", Names: map[string]string{"#due": attrDue}, Values: dynamo.Item{":was": dynamo.Int(x.time)},
	}
	update := "REMOVE #due, #sweep"
	if age < lastLook.Milliseconds() {
		update = "SET #due = :due"
		cond.Values[":due"] = dynamo.Int(now + max(nextLook*age, firstLook.Milliseconds()))
	} else {
		cond.Names["#sweep"] = attrSweep
	}
	err := s.db.Update(ctx, s.table, rowKey(x.Key, kindTombstone), update, cond)
	if errors.Is(err, dynamo.ErrCondition) {
		return nil
	}
	return err
}
