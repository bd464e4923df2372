package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"piivault/internal/dynamo"
)

const (
	settlePoll = 5 * time.Millisecond
	// quietRounds of polls that found nothing, with regions that differ, say
	// that they will stay so.
	quietRounds = 5
)

var (
	errCut     = errors.New("streams: the regions are cut off from each other")
	errDiffers = errors.New("streams: nothing is on its way, and regions differ")
)

// Settle waits until nothing is on its way and every table is the same in all
// regions. Run must be running and nobody writing, but for a few items now and
// then, such as heartbeats. It is an error if the regions are cut off from each
// other, or differ for good.
func (r *Replicator) Settle(ctx context.Context) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	// To read large tables takes so long that what is written now and then is
	// read at other times here and there: only that is read again.
	differ, err := r.differing(ctx)
	for range quietRounds {
		if err != nil || len(differ) == 0 {
			return err
		}
		if err := r.quiet(ctx); err != nil {
			return err
		}
		differ, err = r.stillDiffering(ctx, differ)
	}
	if err != nil || len(differ) == 0 {
		return err
	}
	return errDiffers
}

// quiet waits until all that was written before is seen and delivered.
func (r *Replicator) quiet(ctx context.Context) error {
	for {
		r.mu.Lock()
		cut, left := r.cut, len(r.items)
		r.mu.Unlock()
		if cut {
			return errCut
		}
		if err := r.polled(ctx); err != nil {
			return err
		}
		if left == 0 && r.InFlight() == 0 {
			return nil
		}
	}
}

// polled waits until every stream has been looked at since, and had nothing.
func (r *Replicator) polled(ctx context.Context) error {
	for _, one := range r.regions {
		for _, s := range one.streams {
			// The poll under way may have begun before.
			for until := s.empty.Load() + 2; s.empty.Load() < until; {
				if err := pause(ctx, settlePoll); err != nil {
					return fmt.Errorf("streams: settle: %w", err)
				}
			}
		}
	}
	return nil
}

// differing reads all tables and finds what is not the same in all regions.
func (r *Replicator) differing(ctx context.Context) ([]itemKey, error) {
	var differ []itemKey
	for table := range r.cfg.Tables {
		have, all, err := r.scanAll(ctx, table)
		if err != nil {
			return nil, fmt.Errorf("streams: settle: %w", err)
		}
		for key := range all {
			if slices.ContainsFunc(have[1:], func(other map[dynamo.Key]dynamo.Item) bool { return !same(have[0][key], other[key]) }) {
				differ = append(differ, itemKey{table, key})
			}
		}
	}
	return differ, nil
}

// stillDiffering reads items again.
func (r *Replicator) stillDiffering(ctx context.Context, keys []itemKey) ([]itemKey, error) {
	var differ []itemKey
	for _, key := range keys {
		first, err := r.regions[0].get(ctx, r.cfg.Tables[key.table], key.Key)
		for _, other := range r.regions[1:] {
			if err != nil {
				break
			}
			var item dynamo.Item
			if item, err = other.get(ctx, r.cfg.Tables[key.table], key.Key); !same(first, item) {
				differ = append(differ, key)
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("streams: settle: %w", err)
		}
	}
	return differ, nil
}

// adopt gives stamps to what the regions have of a table, where they differ.
func (r *Replicator) adopt(ctx context.Context, table int) error {
	have, all, err := r.scanAll(ctx, table)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range all {
		r.adoptItem(itemKey{table, key}, have)
	}
	return nil
}

// adoptItem: the first region that has it is the one that wrote it.
func (r *Replicator) adoptItem(key itemKey, have []map[dynamo.Key]dynamo.Item) {
	it := r.item(key, nil)
	winner := -1
	for i := range it.places {
		it.places[i].image = have[i][key.Key]
		if winner < 0 && it.places[i].image != nil {
			winner = i
		}
	}
	r.clock++
	it.places[winner].stamp = r.clock
	r.spread(it, winner)
	r.plan(it)
}

// scanAll reads a table in every region, and tells which keys there are.
func (r *Replicator) scanAll(ctx context.Context, table int) (have []map[dynamo.Key]dynamo.Item, all map[dynamo.Key]bool, err error) {
	have, all = make([]map[dynamo.Key]dynamo.Item, len(r.regions)), map[dynamo.Key]bool{}
	for i, one := range r.regions {
		if have[i], err = one.scan(ctx, r.cfg.Tables[table]); err != nil {
			return nil, nil, err
		}
		for key := range have[i] {
			all[key] = true
		}
	}
	return have, all, nil
}

// scan reads a whole table, strongly consistent row by row.
func (one *region) scan(ctx context.Context, table string) (map[dynamo.Key]dynamo.Item, error) {
	items := map[dynamo.Key]dynamo.Item{}
	in := &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)}
	for {
		out, err := untilAnswered(ctx, func() (*dynamodb.ScanOutput, error) { return one.db.Scan(ctx, in) })
		if err != nil {
			return nil, err
		}
		for _, item := range out.Items {
			key, err := keyOf(item)
			if err != nil {
				return nil, err
			}
			items[key] = normal(item)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return items, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// get reads an item, nil where there is none.
func (one *region) get(ctx context.Context, table string, key dynamo.Key) (dynamo.Item, error) {
	in := &dynamodb.GetItemInput{TableName: &table, Key: key.Item(), ConsistentRead: aws.Bool(true)}
	out, err := untilAnswered(ctx, func() (*dynamodb.GetItemOutput, error) { return one.db.GetItem(ctx, in) })
	if err != nil || len(out.Item) == 0 {
		return nil, err
	}
	return normal(out.Item), nil
}

// untilAnswered asks again while there is no answer, until ctx ends.
func untilAnswered[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		out, err := ask()
		if err == nil || !passing(err) || pause(ctx, retryPause) != nil {
			return out, err
		}
	}
}
