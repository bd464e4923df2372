package dynamo

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Scan is one page of one segment of a table.
type Scan struct {
	Table             string
	Segment, Segments int32
	Limit             int32 // items to look at, before Filter
	Filter            string
	Names             map[string]string
	Values            Item
	Attributes        string // a projection expression
	From              Item   // the key after which to begin
}

// ScanPage makes one call and gives the items that pass the filter; last is
// where the next page begins, nil at the end of the segment.
func (c *Client) ScanPage(ctx context.Context, s Scan) (items []Item, last Item, err error) {
	in := &dynamodb.ScanInput{
		TableName: &s.Table, Segment: aws.Int32(s.Segment), TotalSegments: aws.Int32(s.Segments), Limit: aws.Int32(s.Limit),
		FilterExpression: &s.Filter, ExpressionAttributeNames: s.Names, ExpressionAttributeValues: s.Values,
		ProjectionExpression: &s.Attributes, ExclusiveStartKey: s.From,
	}
	var out *dynamodb.ScanOutput
	_, err = c.call(ctx, "scan", func(ctx context.Context) (err error) {
		out, err = c.data.Scan(ctx, in)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(out.LastEvaluatedKey) > 0 {
		last = out.LastEvaluatedKey
	}
	return out.Items, last, nil
}
