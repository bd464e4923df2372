package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"piivault/internal/dynamo"
)

// twoRegions draws whether a tokenize is acknowledged only when a second
// region's table has its record too. Drawn apart, so that other seeds stay as
// they are.
func twoRegions(seed uint64) bool {
	return rand.New(rand.NewPCG(seed, 0x2e6)).IntN(3) == 0 //nolint:gosec // G404: draws schedules
}

// judgeDurable: with two_regions, the loss of any one region's table right
// after the acknowledgement loses nothing (G1).
func (o *oracle) judgeDurable(op *operation, row dynamo.Item) {
	if !o.w.twoRegions {
		return
	}
	o.counts["tokenize durable in two regions"]++
	at := dynamo.Read(row).Key()
	elsewhere := slices.ContainsFunc(o.w.regions, func(r *region) bool {
		return r != op.on.region && (r.db.Row("records", at).Item != nil || o.buried(r, at))
	})
	if !elsewhere {
		o.violatef("G1: op %d: acknowledged, and in no second region's table", op.id)
	}
	for _, subject := range o.links(op) {
		link := dynamo.Key{PK: at.PK, SK: fmt.Sprintf("L%s#%s", at.SK[1:], subject)}
		if !slices.ContainsFunc(o.w.regions, func(r *region) bool {
			return r != op.on.region && (r.db.Row("records", link).Item != nil || o.buried(r, at))
		}) {
			o.violatef("G9: op %d: acknowledged, and linked to its subject in no second region", op.id)
		}
	}
}

// links are the subjects that a record of several must name.
func (o *oracle) links(op *operation) []string {
	if !op.held.forever || op.subject == "" {
		return nil
	}
	return []string{o.keys.SubjectID(op.subject)}
}

// secondReachable reports that there was a second region to write to.
func (o *oracle) secondReachable(op *operation) bool {
	return !o.w.twoRegions || slices.ContainsFunc(o.w.members(op.on.epoch), func(r *region) bool {
		return r != op.on.region && o.reaches(op, r.tables)
	})
}
