package dynamo

import (
	"context"
	"fmt"
	"strings"

	"piivault/internal/dynamo"
)

// Heartbeats are rows of a partition whose tenant is empty, so of no record,
// and hold no attribute of an index (format.md §5).
const (
	beatPartition = "#beats"
	beatPrefix    = "H#"
)

// Beat implements store.Store: one call.
func (s *Store) Beat(ctx context.Context, region string, at int64) error {
	if !validName(region) {
		return fault("beat", fmt.Errorf("%w: a region is needed", errInvalid))
	}
	return fault("beat", s.db.BatchWrite(ctx, s.table, []dynamo.Write{{Put: encodeBeat(region, at)}}))
}

func encodeBeat(region string, at int64) dynamo.Item {
	return dynamo.Item{
		dynamo.PK: dynamo.String(beatPartition), dynamo.SK: dynamo.String(beatPrefix + region),
		attrVersion: dynamo.Int(rowVersion), attrAt: dynamo.Int(at),
	}
}

func decodeBeat(item dynamo.Item) (region string, at int64, err error) {
	f := dynamo.Read(item)
	key := f.Key()
	region, named := strings.CutPrefix(key.SK, beatPrefix)
	version, at := f.Int(attrVersion), f.Int(attrAt)
	if err := f.Err(); err != nil {
		return "", 0, err
	}
	if key.PK != beatPartition || !named || !validName(region) || version != rowVersion {
		return "", 0, errRow("heartbeat")
	}
	return region, at, nil
}

// Beats implements store.Store: one Query.
func (s *Store) Beats(ctx context.Context) (map[string]int64, error) {
	beats := map[string]int64{}
	err := s.db.Query(ctx, dynamo.Query{
		Table: s.table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(beatPartition)}, Consistent: true,
	}, func(item dynamo.Item) (bool, error) {
		region, at, err := decodeBeat(item)
		beats[region] = at
		return true, err
	})
	if err != nil {
		return nil, fault("read heartbeats", err)
	}
	return beats, nil
}
