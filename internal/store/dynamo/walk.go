package dynamo

import (
	"context"
	"fmt"
	"strconv"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// walkChunk is how many rows of an index are judged at once.
const walkChunk = 64

// walk goes through an index whose hash is a shard and whose range a time, up
// to a time, shard by shard, and gathers a page of what is chosen.
type walk struct {
	index, hash, time string
	until             int64
	limit             int
	from              dynamo.Item // where to begin in the first shard
	shard             uint32

	keys []store.Key
	next string
}

// found is a row of the index.
type found struct {
	row
	time int64
}

func newWalk(index, hash, time string, until int64, page store.Page) (*walk, error) {
	w := &walk{index: index, hash: hash, time: time, until: until, limit: page.Limit}
	if err := checkPage(page); err != nil || page.After == "" {
		return w, err
	}
	p, err := decodeCursor(page.After, 4)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(p[0], 16, 32)
	at, timeErr := strconv.ParseInt(p[1], 10, 64)
	if err != nil || timeErr != nil || n >= shards {
		return nil, fmt.Errorf("%w: not a cursor of this listing", errInvalid)
	}
	w.shard = uint32(n)
	w.from = dynamo.Item{hash: dynamo.String(p[0]), time: dynamo.Int(at), dynamo.PK: dynamo.String(p[2]), dynamo.SK: dynamo.String(p[3])}
	return w, nil
}

// walk lets choose say, of some rows at a time, which belong to the listing.
func (s *Store) walk(ctx context.Context, w *walk, choose func(context.Context, []found) ([]bool, error)) error {
	for ; w.shard < shards && w.next == ""; w.shard++ {
		var chunk []found
		judge := func() error {
			chosen, err := choose(ctx, chunk)
			for i := range chosen {
				if chosen[i] && w.next == "" {
					w.take(chunk[i])
				}
			}
			chunk = chunk[:0]
			return err
		}
		err := s.db.Query(ctx, dynamo.Query{
			Table: s.table, Index: w.index, Where: "#hash = :shard AND #time <= :until",
			Names:  map[string]string{"#hash": w.hash, "#time": w.time},
			Values: dynamo.Item{":shard": dynamo.String(shard(w.shard)), ":until": dynamo.Int(w.until)},
			From:   w.from,
		}, func(item dynamo.Item) (bool, error) {
			f, err := w.parse(item)
			if err != nil {
				return false, err
			}
			if chunk = append(chunk, f); len(chunk) == walkChunk {
				err = judge()
			}
			return w.next == "", err
		})
		if err == nil && len(chunk) > 0 {
			err = judge()
		}
		if err != nil {
			return err
		}
		w.from = nil
	}
	return nil
}

func (w *walk) parse(item dynamo.Item) (found, error) {
	r, err := parseRow(item)
	if err != nil {
		return found{}, err
	}
	f := dynamo.Read(item)
	return found{row: r, time: f.Int(w.time)}, f.Err()
}

func (w *walk) take(f found) {
	w.keys = append(w.keys, f.Key)
	if len(w.keys) == w.limit {
		w.next = encodeCursor(shard(w.shard), strconv.FormatInt(f.time, 10), partition(f.Tenant, f.ID), f.sk)
	}
}
