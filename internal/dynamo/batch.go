package dynamo

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Limits of one call (DynamoDB API reference, BatchGetItem and BatchWriteItem).
const (
	maxGet   = 100
	maxWrite = 25
)

// Parallel is how many calls of one request are under way at once.
const Parallel = 32

// Each runs fn for 0 to n-1, at most Parallel at once, and waits. After an
// error nothing more is begun; the first is returned.
func Each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	switch n {
	case 0:
		return ctx.Err()
	case 1:
		return fn(ctx, 0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards next and first
	var first error
	next := 0
	for range min(n, Parallel) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil || i >= n
				mu.Unlock()
				if stop {
					return
				}
				if err := fn(ctx, i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
						cancel(err)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// BatchGet reads the rows of distinct keys, strongly consistent, 100 a call,
// calls in parallel. It calls fn for each row that is there, one at a time, in
// any order. A key left unprocessed is asked for again until the context ends,
// and is then an error, never an absent row.
func (c *Client) BatchGet(ctx context.Context, table string, keys []Key, attributes string, fn func(Item) error) error {
	var mu sync.Mutex // one fn at a time
	locked := func(item Item) error {
		mu.Lock()
		defer mu.Unlock()
		return fn(item)
	}
	chunks := (len(keys) + maxGet - 1) / maxGet
	return Each(ctx, chunks, func(ctx context.Context, i int) error {
		return c.getChunk(ctx, table, keys[i*maxGet:min((i+1)*maxGet, len(keys))], attributes, locked)
	})
}

func (c *Client) getChunk(ctx context.Context, table string, keys []Key, attributes string, fn func(Item) error) error {
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(true), Keys: make([]Item, len(keys))}
	for i, k := range keys {
		ask.Keys[i] = k.Item()
	}
	if attributes != "" {
		ask.ProjectionExpression = &attributes
	}
	in := &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{table: ask}}
	_, err := c.call(ctx, "batch get", func(ctx context.Context) error {
		out, err := c.data.BatchGetItem(ctx, in)
		if err != nil {
			return err
		}
		for _, item := range out.Responses[table] {
			if err := fn(item); err != nil {
				return &stop{err}
			}
		}
		left := out.UnprocessedKeys[table]
		if len(left.Keys) == 0 {
			return nil
		}
		in.RequestItems = out.UnprocessedKeys
		return errUnprocessed
	})
	return err
}

// Write is a row to put or, without Put, the key of one to delete.
type Write struct {
	Put    Item
	Delete Key
}

// BatchWrite puts and deletes rows without conditions, 25 a call, calls in
// parallel; keys must be distinct. Each must be idempotent: on an error any of
// them may have been applied.
func (c *Client) BatchWrite(ctx context.Context, table string, writes []Write) error {
	requests := make([]types.WriteRequest, len(writes))
	for i, w := range writes {
		if w.Put != nil {
			requests[i].PutRequest = &types.PutRequest{Item: w.Put}
		} else {
			requests[i].DeleteRequest = &types.DeleteRequest{Key: w.Delete.Item()}
		}
	}
	chunks := (len(requests) + maxWrite - 1) / maxWrite
	return Each(ctx, chunks, func(ctx context.Context, i int) error {
		return c.writeChunk(ctx, table, requests[i*maxWrite:min((i+1)*maxWrite, len(requests))])
	})
}

func (c *Client) writeChunk(ctx context.Context, table string, requests []types.WriteRequest) error {
	in := &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: requests}}
	_, err := c.call(ctx, "batch write", func(ctx context.Context) error {
		out, err := c.data.BatchWriteItem(ctx, in)
		if err != nil {
			return err
		}
		if len(out.UnprocessedItems[table]) == 0 {
			return nil
		}
		in.RequestItems = out.UnprocessedItems
		return errUnprocessed
	})
	return err
}

// errUnprocessed: a part of a batch was put off, which is throttling.
var errUnprocessed error = &types.ProvisionedThroughputExceededException{Message: aws.String("unprocessed")}
