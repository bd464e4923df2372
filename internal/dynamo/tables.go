package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Names of a region's tables. Records, Audit and Control are global tables;
// AuditIndex and Counters are the region's own.
type Names struct {
	Records, Audit, AuditIndex, Control, Counters string
}

// NamesWith gives every table's name the prefix.
func NamesWith(prefix string) Names {
	return Names{
		Records: prefix + "records", Audit: prefix + "audit", AuditIndex: prefix + "audit-index",
		Control: prefix + "control", Counters: prefix + "counters",
	}
}

// Index is a secondary index: sparse, KEYS_ONLY, of string keys.
type Index struct{ Name, Hash, Range string }

// Indexes of the records table (docs/design/format.md §5).
func Indexes() []Index {
	return []Index{
		{"by-subject", "subject", PK},
		{"by-gap", "gap", PK},
		{"by-expiry", "expiry", "expires"},
		{"by-sweep", "sweep", "due"},
	}
}

// TTLAttribute holds the time, in Unix seconds, from which DynamoDB may delete
// a row of any table.
const TTLAttribute = "ttl"

// tableWait bounds the wait for a table to become active.
const tableWait = 5 * time.Minute

// CreateTables creates those of the tables that do not exist, billed on
// demand, with their indexes, TTL and, for global tables, streams, and waits
// until they are there. It is for development and tests: production tables
// come from Terraform, with the same definitions.
func CreateTables(ctx context.Context, c *Client, n Names) error {
	for _, t := range n.Tables() {
		if err := c.createTable(ctx, definition(t.Name, t.Global, t.Indexes)); err != nil {
			return fmt.Errorf("create table %s: %w", t.Name, err)
		}
	}
	return nil
}

func definition(name string, global bool, indexes []Index) *dynamodb.CreateTableInput {
	in := &dynamodb.CreateTableInput{
		TableName:   aws.String(name),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   schema(PK, SK),
	}
	attributes := map[string]types.ScalarAttributeType{PK: types.ScalarAttributeTypeS, SK: types.ScalarAttributeTypeS}
	for _, x := range indexes {
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: aws.String(x.Name), KeySchema: schema(x.Hash, x.Range),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		})
		attributes[x.Hash] = types.ScalarAttributeTypeS
		if x.Range != PK {
			attributes[x.Range] = types.ScalarAttributeTypeN
		}
	}
	for attribute, typ := range attributes {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: aws.String(attribute), AttributeType: typ})
	}
	if global {
		in.StreamSpecification = &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewAndOldImages}
	}
	return in
}

func schema(hash, ranged string) []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: aws.String(hash), KeyType: types.KeyTypeHash},
		{AttributeName: aws.String(ranged), KeyType: types.KeyTypeRange},
	}
}

func (c *Client) createTable(ctx context.Context, in *dynamodb.CreateTableInput) error {
	_, err := c.call(ctx, "create table", func(ctx context.Context) error {
		_, err := c.db.CreateTable(ctx, in)
		if exists := (*types.ResourceInUseException)(nil); errors.As(err, &exists) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	waiter := dynamodb.NewTableExistsWaiter(c.db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, 2*time.Second
	})
	if err := waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: in.TableName}, tableWait); err != nil {
		return failed(ctx, "wait for the table", faultOf(err))
	}
	return c.enableTTL(ctx, in.TableName)
}

func (c *Client) enableTTL(ctx context.Context, table *string) error {
	status, err := c.ttlStatus(ctx, table)
	if err != nil || ttlOn(status) {
		return err
	}
	_, err = c.call(ctx, "enable TTL", func(ctx context.Context) error {
		_, err := c.db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName: table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{
				AttributeName: aws.String(TTLAttribute), Enabled: aws.Bool(true),
			},
		})
		return err
	})
	return err
}

func (c *Client) ttlStatus(ctx context.Context, table *string) (status types.TimeToLiveStatus, err error) {
	_, err = c.call(ctx, "describe TTL", func(ctx context.Context) error {
		out, err := c.db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: table})
		if err == nil && out.TimeToLiveDescription != nil && aws.ToString(out.TimeToLiveDescription.AttributeName) == TTLAttribute {
			status = out.TimeToLiveDescription.TimeToLiveStatus
		}
		return err
	})
	return status, err
}

func ttlOn(status types.TimeToLiveStatus) bool {
	return status == types.TimeToLiveStatusEnabled || status == types.TimeToLiveStatusEnabling
}
