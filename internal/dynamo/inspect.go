package dynamo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Table is a table that an instance needs in every region.
type Table struct {
	Name    string
	Global  bool // replicated to every region
	Indexes []Index
}

// Tables are those of the names that are not empty.
func (n Names) Tables() []Table {
	all := []Table{
		{n.Records, true, Indexes()},
		{n.Audit, true, nil},
		{n.Control, true, nil},
		{n.AuditIndex, false, nil},
		{n.Counters, false, nil},
	}
	return slices.DeleteFunc(all, func(t Table) bool { return t.Name == "" })
}

// Inspection is what a table was found to be.
type Inspection struct {
	Active bool
	// Wrong are differences from the definition that no instance can serve with.
	Wrong []string
	// TTL reports that DynamoDB deletes rows by TTLAttribute.
	TTL bool
	// Protected reports protection from deletion.
	Protected bool
	// Replicas are the other regions of a global table.
	Replicas []string
	// Recovery is "ENABLED" or "DISABLED" for point-in-time recovery, "" where
	// the server does not say.
	Recovery string
	// Skew is the server's clock less ours, to a second; SkewKnown where it said a time.
	Skew      time.Duration
	SkewKnown bool
}

// Inspect compares a table with its definition. ErrNoTable: there is none.
func (c *Client) Inspect(ctx context.Context, t Table) (Inspection, error) {
	var out *dynamodb.DescribeTableOutput
	_, err := c.call(ctx, "describe table", func(ctx context.Context) (err error) {
		out, err = c.db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.Name})
		return err
	})
	if err != nil {
		return Inspection{}, err
	}
	found := Inspection{}
	if d := out.Table; d != nil {
		found.Active = d.TableStatus == types.TableStatusActive || d.TableStatus == types.TableStatusUpdating
		found.Protected = aws.ToBool(d.DeletionProtectionEnabled)
		found.Wrong = differences(t, d)
		for i := range d.Replicas {
			found.Replicas = append(found.Replicas, aws.ToString(d.Replicas[i].RegionName))
		}
	}
	found.Skew, found.SkewKnown = middleware.GetAttemptSkew(out.ResultMetadata)
	status, err := c.ttlStatus(ctx, &t.Name)
	if err != nil {
		return Inspection{}, err
	}
	found.TTL = ttlOn(status)
	found.Recovery = c.recovery(ctx, t.Name)
	return found, nil
}

// recovery is best effort: compatible servers do not all know the operation.
func (c *Client) recovery(ctx context.Context, table string) string {
	var status string
	_, err := c.call(ctx, "describe backups", func(ctx context.Context) error {
		out, err := c.db.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &table})
		if err == nil && out.ContinuousBackupsDescription != nil && out.ContinuousBackupsDescription.PointInTimeRecoveryDescription != nil {
			status = string(out.ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus)
		}
		return err
	})
	if err != nil {
		return ""
	}
	return status
}

// differences names what of the definition a table lacks.
func differences(t Table, d *types.TableDescription) (wrong []string) {
	kinds := map[string]types.ScalarAttributeType{}
	for _, a := range d.AttributeDefinitions {
		kinds[aws.ToString(a.AttributeName)] = a.AttributeType
	}
	if !sameSchema(d.KeySchema, PK, SK) || kinds[PK] != types.ScalarAttributeTypeS || kinds[SK] != types.ScalarAttributeTypeS {
		wrong = append(wrong, fmt.Sprintf("its key is not %s, %s, both strings", PK, SK))
	}
	for _, x := range t.Indexes {
		i := slices.IndexFunc(d.GlobalSecondaryIndexes, func(g types.GlobalSecondaryIndexDescription) bool { return aws.ToString(g.IndexName) == x.Name })
		if i < 0 {
			wrong = append(wrong, "index "+x.Name+" is not there")
			continue
		}
		g := d.GlobalSecondaryIndexes[i]
		rangeKind := types.ScalarAttributeTypeN
		if x.Range == PK {
			rangeKind = types.ScalarAttributeTypeS
		}
		if !sameSchema(g.KeySchema, x.Hash, x.Range) || kinds[x.Hash] != types.ScalarAttributeTypeS || kinds[x.Range] != rangeKind {
			wrong = append(wrong, "index "+x.Name+" has another key than "+x.Hash+", "+x.Range)
		}
		if g.IndexStatus != "" && g.IndexStatus != types.IndexStatusActive && g.IndexStatus != types.IndexStatusUpdating {
			wrong = append(wrong, "index "+x.Name+" is not active")
		}
	}
	return wrong
}

func sameSchema(got []types.KeySchemaElement, hash, ranged string) bool {
	return len(got) == 2 && slices.ContainsFunc(got, func(e types.KeySchemaElement) bool {
		return aws.ToString(e.AttributeName) == hash && e.KeyType == types.KeyTypeHash
	}) && slices.ContainsFunc(got, func(e types.KeySchemaElement) bool {
		return aws.ToString(e.AttributeName) == ranged && e.KeyType == types.KeyTypeRange
	})
}
