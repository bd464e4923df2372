package simulation

import (
	"context"
	"maps"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// alive are the regions that are not lost.
func (w *World) alive() []*region {
	return slices.DeleteFunc(slices.Clone(w.regions), func(r *region) bool { return r == w.lost })
}

// lose takes a region away for good: its instances, its tables, its KMS, and
// what it wrote that has not arrived elsewhere.
func (w *World) lose(r *region) {
	w.tracef("%s is lost for good", r.name)
	w.oracle.counts[string(isLost)]++
	w.stopAll([]*region{r})
	gone := hangs
	if w.partitionRefuses {
		gone = refuses
	}
	w.set(r.kms, gone)
	w.set(r.tables, gone)
	w.lost = r
	w.replicas.lanes = slices.DeleteFunc(w.replicas.lanes, func(l *lane) bool { return l.from == r || l.to == r })
	for _, e := range w.oracle.erasures {
		e.lost = e.lost || e.on == r && e.completed.IsZero()
	}
}

// lostWrites are the rows of which some region has what only the lost region
// wrote: others may not have it, and never will. What lies under such a
// tombstone is alive where that has not come.
func (o *oracle) lostWrites(table string) map[dynamo.Key]bool {
	found := map[dynamo.Key]bool{}
	if o.w.lost == nil {
		return found
	}
	for _, key := range o.keysOf(table) {
		grave := dynamo.Key{PK: key.PK, SK: "X" + key.SK[1:min(len(key.SK), 10)]}
		for _, r := range o.w.alive() {
			if r.db.Row(table, key).Stamp.Region == o.w.lost.name || r.db.Row(table, grave).Stamp.Region == o.w.lost.name {
				found[key] = true
			}
		}
	}
	return found
}

// keysOf are the rows that any region has.
func (o *oracle) keysOf(table string) []dynamo.Key {
	found := map[dynamo.Key]bool{}
	for _, r := range o.w.alive() {
		r.db.Rows(table, func(key dynamo.Key, _ dynamo.Item) { found[key] = true })
	}
	return slices.Collect(maps.Keys(found))
}

// givenUp reports a record that no region of the ring can open, since those
// that could are lost.
func (o *oracle) givenUp(item dynamo.Item) bool {
	return o.w.lost != nil && len(o.opensIn(o.w.epoch, item, "message")) == 0
}

// remaining are the logs of a table but those of a region that is lost: of
// them claims and blocks may be missing, and are found to be.
type remaining struct {
	audit.Source
	lost *region
}

// Claims implements audit.Source.
func (s remaining) Claims(ctx context.Context, fn func(log audit.LogName, item []byte) error) error {
	return s.Source.Claims(ctx, func(log audit.LogName, item []byte) error { //nolint:wrapcheck // the table's own
		if s.lost != nil && log.Region == s.lost.name {
			return nil
		}
		return fn(log, item)
	})
}
