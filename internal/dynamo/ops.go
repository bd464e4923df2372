package dynamo

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// absent is the condition that a row is new.
const absent = "attribute_not_exists(" + PK + ")"

// PutNew inserts an item unless its key is there: then it gives what is there.
// again reports that an earlier attempt of this very call may have put it
// there; comparing tells. On ErrTransient it may have been written.
func (c *Client) PutNew(ctx context.Context, table string, item Item) (there Item, again bool, err error) {
	in := &dynamodb.PutItemInput{
		TableName: &table, Item: item, ConditionExpression: aws.String(absent),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	again, err = c.call(ctx, "put", func(ctx context.Context) error {
		_, err := c.data.PutItem(ctx, in)
		if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) && len(failed.Item) > 0 {
			there = failed.Item
			return nil
		}
		return err
	})
	return there, again, err
}

// Condition is an expression over a row and what it refers to.
type Condition struct {
	Expression string
	Names      map[string]string
	Values     Item
}

// Put writes an item if the condition holds on what its key names, else
// ErrCondition; again is as in PutNew.
func (c *Client) Put(ctx context.Context, table string, item Item, cond Condition) (again bool, err error) {
	in := &dynamodb.PutItemInput{
		TableName: &table, Item: item, ConditionExpression: &cond.Expression,
		ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
	}
	return c.call(ctx, "put", func(ctx context.Context) error {
		_, err := c.data.PutItem(ctx, in)
		return err
	})
}

// Update changes attributes of a row that is there if the condition holds, else
// ErrCondition.
func (c *Client) Update(ctx context.Context, table string, key Key, update string, cond Condition) error {
	in := &dynamodb.UpdateItemInput{
		TableName: &table, Key: key.Item(), UpdateExpression: &update, ConditionExpression: &cond.Expression,
		ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
	}
	_, err := c.call(ctx, "update", func(ctx context.Context) error {
		_, err := c.data.UpdateItem(ctx, in)
		return err
	})
	return err
}

// PutWhere writes an item if its own condition holds and no row is under
// without, in one transaction; else ErrCondition. The token makes attempts of
// ten minutes one: a retry of what was applied succeeds.
func (c *Client) PutWhere(ctx context.Context, table string, item Item, cond Condition, without Key, token string) error {
	in := &dynamodb.TransactWriteItemsInput{
		ClientRequestToken: &token,
		TransactItems: []types.TransactWriteItem{
			{Put: &types.Put{
				TableName: &table, Item: item, ConditionExpression: &cond.Expression,
				ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
			}},
			{ConditionCheck: &types.ConditionCheck{TableName: &table, Key: without.Item(), ConditionExpression: aws.String(absent)}},
		},
	}
	_, err := c.call(ctx, "transaction", func(ctx context.Context) error {
		_, err := c.data.TransactWriteItems(ctx, in)
		return err
	})
	return err
}

// Get reads a row, strongly consistent; nil where there is none.
func (c *Client) Get(ctx context.Context, table string, key Key) (Item, error) {
	in := &dynamodb.GetItemInput{TableName: &table, Key: key.Item(), ConsistentRead: aws.Bool(true)}
	var item Item
	_, err := c.call(ctx, "get", func(ctx context.Context) error {
		out, err := c.data.GetItem(ctx, in)
		if err == nil {
			item = out.Item
		}
		return err
	})
	if len(item) == 0 {
		return nil, err
	}
	return item, err
}

// Query asks for rows in order of their sort key. Zero fields ask for nothing special.
type Query struct {
	Table, Index string
	// Where is the key condition; Values and Names are what it refers to.
	Where  string
	Names  map[string]string
	Values Item
	// Attributes to give, "" for all: a projection expression.
	Attributes string
	// Consistent asks for strong consistency, which no index has.
	Consistent bool
	Backward   bool
	// Limit bounds the rows of one page; 0: what fits 1 MB.
	Limit int32
	// From is the row after which to begin, keys of table and index.
	From Item
}

// Query calls fn for every row, page by page, until it has enough or there are no more.
func (c *Client) Query(ctx context.Context, q Query, fn func(Item) (more bool, err error)) error {
	in := &dynamodb.QueryInput{
		TableName: &q.Table, KeyConditionExpression: &q.Where,
		ExpressionAttributeNames: q.Names, ExpressionAttributeValues: q.Values, ExclusiveStartKey: q.From,
	}
	if q.Index != "" {
		in.IndexName = &q.Index
	}
	if q.Attributes != "" {
		in.ProjectionExpression = &q.Attributes
	}
	if q.Consistent {
		in.ConsistentRead = aws.Bool(true)
	}
	if q.Backward {
		in.ScanIndexForward = aws.Bool(false)
	}
	if q.Limit > 0 {
		in.Limit = &q.Limit
	}
	for {
		var out *dynamodb.QueryOutput
		_, err := c.call(ctx, "query", func(ctx context.Context) (err error) {
			out, err = c.data.Query(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		if more, err := each(out.Items, fn); err != nil || !more || len(out.LastEvaluatedKey) == 0 {
			return err
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

func each(items []Item, fn func(Item) (bool, error)) (more bool, err error) {
	for _, item := range items {
		if more, err = fn(item); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// ScanIndex calls fn for every row of an index, in an order that stays, from
// behind the row given, nil for the first. Limit bounds one page's rows.
func (c *Client) ScanIndex(ctx context.Context, table, index string, limit int32, from Item, fn func(Item) (more bool, err error)) error {
	in := &dynamodb.ScanInput{TableName: &table, IndexName: &index, ExclusiveStartKey: from}
	if limit > 0 {
		in.Limit = &limit
	}
	for {
		var out *dynamodb.ScanOutput
		_, err := c.call(ctx, "scan", func(ctx context.Context) (err error) {
			out, err = c.data.Scan(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		if more, err := each(out.Items, fn); err != nil || !more || len(out.LastEvaluatedKey) == 0 {
			return err
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}
