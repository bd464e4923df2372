package dynamo

import (
	"context"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// What tests tamper with.
const (
	Window       = window
	PerPartition = perPartition
	Patient      = patient
	MaxExamined  = maxExamined
	MaxScanned   = maxScanned
)

// End closes a log with a hole at a place.
func (c *Config) End(ctx context.Context, log audit.LogName, hole uint64) error {
	return c.end(ctx, log, hole)
}

func BlockKey(log audit.LogName, number uint64) dynamo.Key { return blockKey(log, number) }

func ProgressKey(log audit.LogName) dynamo.Key { return progressKey(log) }

// CountBlocks finds the end of a log.
var CountBlocks = (*Config).countBlocks

// IndexRow is the row of entries of one second with an actor.
func IndexRow(log audit.LogName, tenant, actor string, places ...[3]uint64) dynamo.Item {
	var r rows
	for _, p := range places {
		r.add(posting{time: int64(p[0]), index: p[1], block: p[2]}, rowActor, tenant, actor)
	}
	return r.encode(log)[0].Put
}

// ParseRow gives the places that a row speaks of: time, index, block.
func ParseRow(item dynamo.Item) (places [][3]uint64, err error) {
	_, found, err := parseRow(item)
	for _, c := range found {
		places = append(places, [3]uint64{uint64(c.at.Time), c.at.Index, c.block})
	}
	return places, err
}
