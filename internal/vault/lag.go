package vault

import (
	"context"
	"time"
)

// ReplicationLag says for each other region by how much, at most, what it
// wrote is behind here: the age of its newest heartbeat that has arrived, so
// never less than the time since it was written, and exact to the difference
// of the regions' clocks. A region of which none ever arrived is not in it.
func (v *Vault) ReplicationLag(ctx context.Context) (map[string]time.Duration, error) {
	beats, err := v.local.Beats(ctx)
	if err != nil {
		return nil, unavailable("unavailable", err)
	}
	now := v.Now()
	lag := make(map[string]time.Duration, len(v.Others))
	for _, other := range v.Others {
		if at, seen := beats[other.Region]; seen {
			lag[other.Region] = max(now.Sub(time.UnixMilli(at)), 0)
		}
	}
	return lag, nil
}

// beat writes this region's heartbeat until ctx is done, where there is a
// region to see it. Every instance does, over the others' of its region.
func (v *Vault) beat(ctx context.Context) {
	if len(v.Others) > 0 {
		every(ctx, v.BeatEvery, nil, v.beatOnce)
	}
}

func (v *Vault) beatOnce(ctx context.Context) {
	timed, cancel := context.WithTimeout(ctx, v.BeatEvery) // the next is due by then
	defer cancel()
	if err := v.local.Beat(timed, v.region, v.Now().UnixMilli()); err != nil && ctx.Err() == nil {
		v.Logger.Warn().Err(err).Msg("the heartbeat cannot be written now")
	}
}
