package authz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// remoteTimeout bounds a write to another region's table, so that a region
// that hangs is named as not reached instead of taking the caller's deadline.
const remoteTimeout = 2 * time.Second

// RegionControl is one region's control table.
type RegionControl struct {
	Region  string
	Control Control
}

// InsertEverywhere writes item to every region's table directly, without
// waiting for replication (design §5). The first table is the local one: once
// it has the item, InsertEverywhere succeeds and names the regions that could
// not be shown to have it within two seconds; replication brings it to them.
// The write is idempotent: an item that is there with the same body is
// success, so a retry reaches the regions that an earlier call did not.
// ErrExists: the local table has the item with another body. Any other error:
// the local table may or may not have it.
func InsertEverywhere(ctx context.Context, tables []RegionControl, item Item) (notReached []string, err error) {
	if len(tables) == 0 {
		return nil, fmt.Errorf("no control table: %w", ErrUnavailable)
	}
	if err := insertSame(ctx, tables[0].Control, item); err != nil {
		return nil, fmt.Errorf("insert a control item: %w", err)
	}
	return insertRemote(ctx, tables[1:], item), nil
}

func insertRemote(ctx context.Context, tables []RegionControl, item Item) (notReached []string) {
	errs := make([]error, len(tables))
	var wg sync.WaitGroup
	for i, t := range tables {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
			defer cancel()
			errs[i] = insertSame(ctx, t.Control, item)
		})
	}
	wg.Wait()
	for i, t := range tables {
		if errs[i] != nil {
			notReached = append(notReached, t.Region)
		}
	}
	return notReached
}

// insertSame inserts item or finds it there with the same body. A failed
// insert may have been applied, which only reading back can tell.
func insertSame(ctx context.Context, table Control, item Item) error {
	insertErr := table.Insert(ctx, item)
	if insertErr == nil {
		return nil
	}
	found, err := table.Get(ctx, item.Kind, item.ID)
	switch {
	case err == nil && bytes.Equal(found.Body, item.Body):
		return nil
	case err == nil:
		return ErrExists
	case errors.Is(insertErr, ErrExists):
		return fmt.Errorf("read an existing item back: %w", ErrUnavailable)
	default:
		return insertErr
	}
}
