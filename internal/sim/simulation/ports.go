package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
	"piivault/internal/secret"
)

type option = func(*dynamodb.Options)

// tables is a region's tables as an instance reaches them.
type tables struct {
	w    *World
	from *instance
	to   *region
}

var _ dynamo.Data = (*tables)(nil)

// through parks an operation. The answer is set only where it was applied and
// somebody waits for it.
func through[In, Out any](ctx context.Context, t *tables, name string, write bool, in In, do func(context.Context, In, ...option) (Out, error)) (out Out, err error) {
	err = t.w.park(ctx, &call{
		name: t.to.name + " " + name, from: t.from, to: t.to.tables, write: write,
		index: isIndexing(ctx, name), chore: isIndexing(ctx, name) || isSweep(name),
		do: func(p part) (err error) {
			if write && strings.Contains(name, " records ") {
				t.w.oracle.wrote[actor(ctx)] = true
			}
			if batch, ok := any(in).(*dynamodb.BatchWriteItemInput); ok {
				_, err = t.to.db.BatchWriteItem(context.WithoutCancel(ctx), partial(batch, p))
				return err
			}
			out, err = do(context.WithoutCancel(ctx), in)
			return err
		},
	})
	if err == nil {
		return out, nil
	}
	var none Out
	if batch, ok := any(&out).(**dynamodb.BatchWriteItemOutput); ok && *batch == nil {
		*batch = &dynamodb.BatchWriteItemOutput{}
	}
	return none, err
}

// isIndexing: the audit index is rebuildable, and never trusted.
func isIndexing(ctx context.Context, name string) bool {
	return strings.Contains(name, "audit-index") || strings.HasSuffix(actor(ctx), " log") && strings.HasPrefix(name, "query ")
}

// isSweep: sweepers look for what is due again and again.
func isSweep(name string) bool {
	return strings.HasPrefix(name, "query records by-") && !strings.Contains(name, "by-subject")
}

func partial(in *dynamodb.BatchWriteItemInput, p part) *dynamodb.BatchWriteItemInput {
	out := &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{}}
	for name, requests := range in.RequestItems {
		for i, r := range requests {
			if p(i) {
				out.RequestItems[name] = append(out.RequestItems[name], r)
			}
		}
	}
	return out
}

func keyName(item dynamo.Item) string {
	f := dynamo.Read(item)
	k := f.Key()
	return k.PK + "|" + k.SK
}

func (t *tables) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...option) (*dynamodb.PutItemOutput, error) {
	return through(ctx, t, "put "+*in.TableName+" "+keyName(in.Item), true, in, t.to.db.PutItem)
}

func (t *tables) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...option) (*dynamodb.UpdateItemOutput, error) {
	return through(ctx, t, "update "+*in.TableName+" "+keyName(in.Key), true, in, t.to.db.UpdateItem)
}

func (t *tables) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...option) (*dynamodb.TransactWriteItemsOutput, error) {
	put := in.TransactItems[0].Put
	return through(ctx, t, "transact "+*put.TableName+" "+keyName(put.Item), true, in, t.to.db.TransactWriteItems)
}

func (t *tables) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...option) (*dynamodb.GetItemOutput, error) {
	return through(ctx, t, "get "+*in.TableName+" "+keyName(in.Key), false, in, t.to.db.GetItem)
}

func (t *tables) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...option) (*dynamodb.BatchGetItemOutput, error) {
	var keys []string
	for name, ask := range in.RequestItems {
		for _, k := range ask.Keys {
			keys = append(keys, name+" "+keyName(k))
		}
	}
	read := func(done context.Context, in *dynamodb.BatchGetItemInput, _ ...option) (*dynamodb.BatchGetItemOutput, error) {
		out, err := t.to.db.BatchGetItem(done, in)
		if err == nil {
			t.tamperWith(ctx, out.Responses["records"])
		}
		return out, err //nolint:wrapcheck // the service's own
	}
	return through(ctx, t, "batch get "+strings.Join(keys, ","), false, in, read)
}

func (t *tables) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...option) (*dynamodb.BatchWriteItemOutput, error) {
	var keys []string
	for name, requests := range in.RequestItems {
		for _, r := range requests {
			if r.PutRequest != nil {
				keys = append(keys, "put "+name+" "+keyName(r.PutRequest.Item))
			} else {
				keys = append(keys, "delete "+name+" "+keyName(r.DeleteRequest.Key))
			}
		}
	}
	if _, err := through(ctx, t, "batch "+strings.Join(keys, ","), true, in, t.to.db.BatchWriteItem); err != nil {
		return nil, err
	}
	return &dynamodb.BatchWriteItemOutput{}, nil
}

func (t *tables) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...option) (*dynamodb.QueryOutput, error) {
	parts := []string{"query", *in.TableName, aws.ToString(in.IndexName)}
	for _, v := range slices.Sorted(maps.Keys(in.ExpressionAttributeValues)) {
		parts = append(parts, valueName(in.ExpressionAttributeValues[v]))
	}
	name := strings.Join(parts, " ")
	if in.ExclusiveStartKey != nil {
		name += " from " + keyName(in.ExclusiveStartKey)
	}
	read := func(done context.Context, in *dynamodb.QueryInput, _ ...option) (*dynamodb.QueryOutput, error) {
		out, err := t.to.db.Query(done, in)
		if err == nil {
			t.tamperWith(ctx, out.Items)
		}
		return out, err //nolint:wrapcheck // the service's own
	}
	return through(ctx, t, name, false, in, read)
}

func (t *tables) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...option) (*dynamodb.ScanOutput, error) {
	name := "scan " + *in.TableName + " " + aws.ToString(in.IndexName)
	if in.TotalSegments != nil {
		name += fmt.Sprintf("%d/%d", aws.ToInt32(in.Segment), *in.TotalSegments)
	}
	if in.ExclusiveStartKey != nil {
		name += " from " + keyName(in.ExclusiveStartKey)
	}
	return through(ctx, t, name, false, in, t.to.db.Scan)
}

func valueName(v types.AttributeValue) string {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return v.Value
	}
	return "?"
}

// kms is a region's KMS as an instance reaches it.
type kms struct {
	w    *World
	from *instance
	to   *region
}

// errWiped: a call that nobody waits for has no key any more.
var errWiped = errors.New("simulation: the caller is gone")

func (k *kms) park(ctx context.Context, name string, ec map[string]string, do func() error) error {
	c := &call{name: k.to.name + " kms " + name + " " + k.w.dataKeys.of(ec["pv-key"]), from: k.from, to: k.to.kms, chore: name == "check"}
	c.do = func(part) error {
		if c.orphan.Load() {
			return errWiped
		}
		return do()
	}
	return k.w.park(ctx, c)
}

func (k *kms) GenerateDataKey(ctx context.Context, arn string, ec map[string]string) (key secret.Key, blob []byte, err error) {
	k.w.dataKeys.begun(ctx, k.from, ec)
	err = k.park(ctx, "generate", ec, func() (err error) {
		key, blob, err = k.to.keys.GenerateDataKey(context.WithoutCancel(ctx), arn, ec)
		return err
	})
	return key, blob, err
}

func (k *kms) Encrypt(ctx context.Context, arn string, key secret.Key, ec map[string]string) (blob []byte, err error) {
	err = k.park(ctx, "encrypt", ec, func() (err error) {
		blob, err = k.to.keys.Encrypt(context.WithoutCancel(ctx), arn, key, ec)
		return err
	})
	return blob, err
}

func (k *kms) Decrypt(ctx context.Context, arn string, ciphertext []byte, ec map[string]string) (key secret.Key, err error) {
	err = k.park(ctx, fmt.Sprintf("decrypt %08x", crc32.ChecksumIEEE(ciphertext)), ec, func() (err error) {
		key, err = k.to.keys.Decrypt(context.WithoutCancel(ctx), arn, ciphertext, ec)
		return err
	})
	return key, err
}

func (k *kms) Check(ctx context.Context, arn string) error {
	return k.park(ctx, "check", nil, func() error { return k.to.keys.Check(context.WithoutCancel(ctx), arn) })
}

// serialLog wakes the requests of one audit block one by one: which of them
// runs first is the scheduler's choice like any other.
type serialLog struct {
	audit.Log
	w    *World
	from *instance
}

// Append implements audit.Log.
func (l *serialLog) Append(entries []audit.Entry) audit.Pending {
	parts := []string{"audited"}
	for i := range entries {
		e := &entries[i]
		parts = append(parts, fmt.Sprintf("%s %s#%d %s", e.Action, e.Record, e.Generation, e.Outcome))
	}
	return &serialPending{Pending: l.Log.Append(entries), log: l, name: strings.Join(parts, " ")}
}

type serialPending struct {
	audit.Pending
	log  *serialLog
	name string
}

// Wait implements audit.Pending.
func (p *serialPending) Wait(ctx context.Context) (audit.Receipt, error) {
	receipt, err := p.Pending.Wait(ctx)
	name := p.name
	if err == nil {
		name += fmt.Sprintf(" at %s/%d", receipt.Log, receipt.First)
	}
	wake := &call{name: name, from: p.log.from, do: func(part) error { return nil }}
	if parked := p.log.w.park(context.WithoutCancel(ctx), wake); parked != nil && err == nil {
		return audit.Receipt{}, fmt.Errorf("%w: %w", audit.ErrUnavailable, parked)
	}
	return receipt, err //nolint:wrapcheck // the log's own
}
