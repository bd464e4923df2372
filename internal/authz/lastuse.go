package authz

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// noteEvery is how often the table is told of uses.
	noteEvery = time.Minute
	// noteTimeout bounds that: it is part of a poll.
	noteTimeout = 500 * time.Millisecond
)

// hourOf is what is kept of a use's time: when a key was last needed is a
// question about days.
func hourOf(at time.Time) int64 { return at.Unix() / 3600 }

// use notes that a key opened something: no write, and mostly not even to memory.
func (key *knownKey) use(now time.Time) {
	if hour := hourOf(now); key.used.Load() != hour {
		key.used.Store(hour)
	}
}

// noteUses writes the hour in which each key was last used here to the local
// table, from where it replicates: at most once an hour for a key and a
// region. What fails is tried again; it is bookkeeping, and nothing waits.
func (k *Keys) noteUses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	s := k.snapshot.Load()
	for _, id := range slices.Sorted(maps.Keys(s.keys)) {
		key := s.keys[id]
		hour := key.used.Load()
		if hour == 0 || hour == key.noted {
			continue
		}
		if k.noteUse(ctx, id, hour) == nil {
			key.noted = hour
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (k *Keys) noteUse(ctx context.Context, id string, hour int64) error {
	local := k.cfg.Tables[0]
	body, err := encodeBody(lastUseBody{bodyVersion, hour})
	if err != nil {
		return err
	}
	next := Item{KindLastUse, id + "#" + local.Region, body}
	old, err := local.Control.Get(ctx, KindLastUse, next.ID)
	if errors.Is(err, ErrNotFound) {
		return local.Control.Insert(ctx, next)
	}
	if err != nil {
		return err
	}
	if known, err := decodeLastUseBody(old.Body); err == nil && known.Hour >= hour {
		return nil // another instance was faster
	}
	return local.Control.Replace(ctx, old, next)
}

// lastUses are the latest of all regions, by key, in Unix milliseconds.
func (k *Keys) lastUses(ctx context.Context) (map[string]int64, error) {
	items, err := listAll(ctx, k.cfg.Tables[0].Control, KindLastUse)
	if err != nil {
		return nil, err
	}
	uses := map[string]int64{}
	for _, item := range items {
		id, _, _ := strings.Cut(item.ID, "#")
		if body, err := decodeLastUseBody(item.Body); err == nil {
			uses[id] = max(uses[id], body.Hour*time.Hour.Milliseconds())
		}
	}
	return uses, nil
}
