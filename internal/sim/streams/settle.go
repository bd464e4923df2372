package streams

import (
	"context"
	"errors"
	"fmt"
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
// regions. Run must be running and nobody writing. It is an error if the regions
// are cut off from each other, or differ for good.
func (r *Replicator) Settle(ctx context.Context) error {
	for range quietRounds {
		if err := r.quiet(ctx); err != nil {
			return err
		}
		alike, err := r.alike(ctx)
		if err != nil || alike {
			return err
		}
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

func (r *Replicator) alike(ctx context.Context) (bool, error) {
	for _, table := range r.cfg.Tables {
		first, err := r.regions[0].scan(ctx, table)
		if err != nil {
			return false, fmt.Errorf("streams: settle: %w", err)
		}
		for _, other := range r.regions[1:] {
			items, err := other.scan(ctx, table)
			if err != nil {
				return false, fmt.Errorf("streams: settle: %w", err)
			}
			if !sameAll(first, items) {
				return false, nil
			}
		}
	}
	return true, nil
}

func sameAll(a, b map[dynamo.Key]dynamo.Item) bool {
	if len(a) != len(b) {
		return false
	}
	for key, item := range a {
		if !same(item, b[key]) {
			return false
		}
	}
	return true
}

// adopt gives stamps to what the regions have of a table, where they differ.
func (r *Replicator) adopt(ctx context.Context, table int) error {
	have := make([]map[dynamo.Key]dynamo.Item, len(r.regions))
	all := map[dynamo.Key]bool{}
	for i, one := range r.regions {
		var err error
		if have[i], err = one.scan(ctx, r.cfg.Tables[table]); err != nil {
			return err
		}
		for key := range have[i] {
			all[key] = true
		}
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

// scan reads a whole table, strongly consistent row by row. It asks again when
// there was no answer, until ctx ends.
func (one *region) scan(ctx context.Context, table string) (map[dynamo.Key]dynamo.Item, error) {
	items := map[dynamo.Key]dynamo.Item{}
	in := &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)}
	for {
		out, err := one.db.Scan(ctx, in)
		if err != nil {
			if !passing(err) || pause(ctx, retryPause) != nil {
				return nil, err
			}
			continue
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
