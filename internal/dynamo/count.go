package dynamo

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// UpdateOld changes a row, or makes it, if the condition holds, and gives what
// was there before, nil for nothing. Where the condition fails it gives what
// is there, and ErrCondition. With again, an earlier attempt of this very call
// may have been applied, and what was there before may be its own.
func (c *Client) UpdateOld(ctx context.Context, table string, key Key, update string, cond Condition) (old Item, again bool, err error) {
	in := &dynamodb.UpdateItemInput{
		TableName: &table, Key: key.Item(), UpdateExpression: &update, ConditionExpression: &cond.Expression,
		ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
		ReturnValues: types.ReturnValueAllOld, ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	again, err = c.call(ctx, "update", func(ctx context.Context) error {
		out, err := c.data.UpdateItem(ctx, in)
		if failed := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &failed) {
			old = failed.Item
			return err
		}
		if err == nil {
			old = out.Attributes
		}
		return err
	})
	if len(old) == 0 {
		old = nil
	}
	return old, again, err
}
