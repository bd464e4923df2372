package simdynamo

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/dynamo"
)

var _ dynamo.Data = (*Region)(nil)

// tokenLife is how long a transaction's token makes attempts one
// (TransactWriteItems, ClientRequestToken).
const tokenLife = 10 * time.Minute

// option is the SDK's, which mean nothing here.
type option = func(*dynamodb.Options)

func (r *Region) table(name *string) (*table, error) {
	if t := r.tables[aws.ToString(name)]; t != nil {
		return t, nil
	}
	return nil, &types.ResourceNotFoundException{}
}

// lock begins an operation, unless the caller has gone.
func (r *Region) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("simdynamo: %w", err)
	}
	r.rw.Lock()
	return nil
}

// meets checks a condition on the row of a key.
func (r *Region) meets(t *table, key dynamo.Key, condition *string, s scope) (bool, error) {
	if condition == nil {
		return true, nil
	}
	e, err := r.parse(*condition)
	if err != nil {
		return false, err
	}
	return e.holds(t.rows[key].Item, s)
}

// PutItem implements dynamo.Data.
func (r *Region) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...option) (*dynamodb.PutItemOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	t, err := r.table(in.TableName)
	if err != nil {
		return nil, err
	}
	key := keyOf(in.Item)
	ok, err := r.meets(t, key, in.ConditionExpression, scope{in.ExpressionAttributeNames, in.ExpressionAttributeValues})
	if err != nil {
		return nil, err
	}
	if !ok {
		failed := &types.ConditionalCheckFailedException{}
		if in.ReturnValuesOnConditionCheckFailure == types.ReturnValuesOnConditionCheckFailureAllOld {
			failed.Item = clone(t.rows[key].Item)
		}
		return nil, failed
	}
	r.write(t, key, in.Item)
	return &dynamodb.PutItemOutput{}, nil
}

// UpdateItem implements dynamo.Data.
func (r *Region) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...option) (*dynamodb.UpdateItemOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	t, err := r.table(in.TableName)
	if err != nil {
		return nil, err
	}
	key, s := keyOf(in.Key), scope{in.ExpressionAttributeNames, in.ExpressionAttributeValues}
	ok, err := r.meets(t, key, in.ConditionExpression, s)
	if err != nil {
		return nil, err
	}
	old := clone(t.rows[key].Item)
	if !ok {
		failed := &types.ConditionalCheckFailedException{}
		if in.ReturnValuesOnConditionCheckFailure == types.ReturnValuesOnConditionCheckFailureAllOld {
			failed.Item = old
		}
		return nil, failed
	}
	item := clone(old)
	if item == nil {
		item = key.Item()
	}
	if err := update(item, aws.ToString(in.UpdateExpression), s); err != nil {
		return nil, err
	}
	r.write(t, key, item)
	out := &dynamodb.UpdateItemOutput{}
	if in.ReturnValues == types.ReturnValueAllOld {
		out.Attributes = old
	}
	return out, nil
}

// TransactWriteItems implements dynamo.Data for puts and condition checks.
func (r *Region) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...option) (*dynamodb.TransactWriteItemsOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	token, now := aws.ToString(in.ClientRequestToken), r.cfg.Now()
	if at, applied := r.tokens[token]; applied && now.Sub(at) < tokenLife {
		return &dynamodb.TransactWriteItemsOutput{}, nil
	}
	failed := false
	reasons := make([]types.CancellationReason, len(in.TransactItems))
	for i, item := range in.TransactItems {
		ok, err := r.check(item)
		if err != nil {
			return nil, err
		}
		reasons[i].Code = aws.String("None")
		if !ok {
			reasons[i].Code, failed = aws.String("ConditionalCheckFailed"), true
		}
	}
	if failed {
		return nil, &types.TransactionCanceledException{CancellationReasons: reasons}
	}
	for _, item := range in.TransactItems {
		if item.Put != nil {
			r.write(r.tables[*item.Put.TableName], keyOf(item.Put.Item), item.Put.Item)
		}
	}
	if token != "" {
		r.tokens[token] = now
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}

// check tells whether a transaction's item may be applied.
func (r *Region) check(item types.TransactWriteItem) (bool, error) {
	switch {
	case item.Put != nil:
		t, err := r.table(item.Put.TableName)
		if err != nil {
			return false, err
		}
		return r.meets(t, keyOf(item.Put.Item), item.Put.ConditionExpression, scope{item.Put.ExpressionAttributeNames, item.Put.ExpressionAttributeValues})
	case item.ConditionCheck != nil:
		c := item.ConditionCheck
		t, err := r.table(c.TableName)
		if err != nil {
			return false, err
		}
		return r.meets(t, keyOf(c.Key), c.ConditionExpression, scope{c.ExpressionAttributeNames, c.ExpressionAttributeValues})
	}
	return false, errExpression
}

// GetItem implements dynamo.Data.
func (r *Region) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...option) (*dynamodb.GetItemOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	t, err := r.table(in.TableName)
	if err != nil {
		return nil, err
	}
	return &dynamodb.GetItemOutput{Item: clone(t.rows[keyOf(in.Key)].Item)}, nil
}

// BatchGetItem implements dynamo.Data. Answers come in no particular order: here in that of the keys.
func (r *Region) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...option) (*dynamodb.BatchGetItemOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]dynamo.Item{}}
	for name, ask := range in.RequestItems {
		t, err := r.table(&name)
		if err != nil {
			return nil, err
		}
		for _, k := range ask.Keys {
			if item := t.rows[keyOf(k)].Item; item != nil {
				out.Responses[name] = append(out.Responses[name], project(item, ask.ProjectionExpression, ask.ExpressionAttributeNames))
			}
		}
	}
	return out, nil
}

// BatchWriteItem implements dynamo.Data.
func (r *Region) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...option) (*dynamodb.BatchWriteItemOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	for name, requests := range in.RequestItems {
		t, err := r.table(&name)
		if err != nil {
			return nil, err
		}
		for _, w := range requests {
			if w.PutRequest != nil {
				r.write(t, keyOf(w.PutRequest.Item), w.PutRequest.Item)
			} else {
				r.write(t, keyOf(w.DeleteRequest.Key), nil)
			}
		}
	}
	return &dynamodb.BatchWriteItemOutput{}, nil
}

// project keeps the attributes asked for, all of them where none is named.
func project(item dynamo.Item, expression *string, names map[string]string) dynamo.Item {
	if expression == nil {
		return clone(item)
	}
	kept := dynamo.Item{}
	for name := range strings.SplitSeq(*expression, ",") {
		full := scope{names: names}.name(strings.TrimSpace(name))
		if v := item[full]; v != nil {
			kept[full] = v
		}
	}
	return clone(kept)
}

// Query implements dynamo.Data.
func (r *Region) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...option) (*dynamodb.QueryOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	t, err := r.table(in.TableName)
	if err != nil {
		return nil, err
	}
	where, err := r.parse(aws.ToString(in.KeyConditionExpression))
	if err != nil {
		return nil, err
	}
	s := scope{in.ExpressionAttributeNames, in.ExpressionAttributeValues}
	rows, order, err := t.candidates(in.IndexName, where, s)
	if err != nil {
		return nil, err
	}
	if in.ScanIndexForward != nil && !*in.ScanIndexForward {
		slices.Reverse(rows)
		forward := order
		order = func(a, b dynamo.Item) int { return forward(b, a) }
	}
	var found []dynamo.Item
	for _, item := range rows {
		ok, err := where.holds(item, s)
		if err != nil {
			return nil, err
		}
		if ok && (in.ExclusiveStartKey == nil || order(item, in.ExclusiveStartKey) > 0) {
			found = append(found, item)
		}
	}
	found, last := r.page(t, in.IndexName, found, in.Limit)
	out := &dynamodb.QueryOutput{LastEvaluatedKey: last}
	for _, item := range found {
		out.Items = append(out.Items, project(item, in.ProjectionExpression, in.ExpressionAttributeNames))
	}
	return out, nil
}

// candidates are the rows of the partition that a key condition names, and their order.
func (t *table) candidates(index *string, where expression, s scope) ([]dynamo.Item, func(a, b dynamo.Item) int, error) {
	if len(where) != 1 || where[0][0].op != "=" {
		return nil, nil, errExpression
	}
	hash := text(s.values[where[0][0].operands[0]])
	if index == nil {
		rows := make([]dynamo.Item, 0, len(t.parts[hash]))
		for _, sk := range t.parts[hash] {
			rows = append(rows, t.rows[dynamo.Key{PK: hash, SK: sk}].Item)
		}
		return rows, func(a, b dynamo.Item) int { return compareKeys(keyOf(a), keyOf(b)) }, nil
	}
	order := t.order(*index)
	rows := make([]dynamo.Item, 0, len(t.byIndex[*index][hash]))
	for _, item := range t.byIndex[*index][hash] {
		rows = append(rows, item)
	}
	slices.SortFunc(rows, order)
	return rows, order, nil
}

// order is that of an index's rows: hash, range, key.
func (t *table) order(index string) func(a, b dynamo.Item) int {
	x := t.Indexes[slices.IndexFunc(t.Indexes, func(x dynamo.Index) bool { return x.Name == index })]
	return func(a, b dynamo.Item) int {
		for _, name := range []string{x.Hash, x.Range} {
			if n, _ := compare(a[name], b[name]); n != 0 {
				return n
			}
		}
		return compareKeys(keyOf(a), keyOf(b))
	}
}

// page cuts a listing and gives the key after which the next page begins.
func (r *Region) page(t *table, index *string, rows []dynamo.Item, limit *int32) ([]dynamo.Item, dynamo.Item) {
	n := r.cfg.Page
	if limit != nil {
		n = min(n, int(*limit))
	}
	if len(rows) < n || len(rows) == 0 {
		return rows, nil
	}
	rows = rows[:n]
	last := rows[n-1]
	key := keyOf(last).Item()
	if index != nil {
		x := t.Indexes[slices.IndexFunc(t.Indexes, func(x dynamo.Index) bool { return x.Name == *index })]
		key[x.Hash], key[x.Range] = last[x.Hash], last[x.Range]
	}
	return rows, key
}

// Scan implements dynamo.Data.
func (r *Region) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...option) (*dynamodb.ScanOutput, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	defer r.rw.Unlock()
	t, err := r.table(in.TableName)
	if err != nil {
		return nil, err
	}
	if in.IndexName == nil {
		return r.scanTable(t, in)
	}
	order := t.order(*in.IndexName)
	var rows []dynamo.Item
	for _, of := range t.byIndex[*in.IndexName] {
		for _, item := range of {
			if in.ExclusiveStartKey == nil || order(item, in.ExclusiveStartKey) > 0 {
				rows = append(rows, item)
			}
		}
	}
	slices.SortFunc(rows, order)
	rows, last := r.page(t, in.IndexName, rows, in.Limit)
	out := &dynamodb.ScanOutput{LastEvaluatedKey: last}
	for _, item := range rows {
		out.Items = append(out.Items, clone(item))
	}
	return out, nil
}

// scanTable is a Scan of a segment of a table. Limit counts what is looked at,
// before the filter.
func (r *Region) scanTable(t *table, in *dynamodb.ScanInput) (*dynamodb.ScanOutput, error) {
	filter := expression{{}}
	if in.FilterExpression != nil {
		var err error
		if filter, err = r.parse(*in.FilterExpression); err != nil {
			return nil, err
		}
	}
	var rows []dynamo.Item
	for _, key := range slices.SortedFunc(maps.Keys(t.rows), compareKeys) {
		item := t.rows[key].Item
		if item == nil || in.TotalSegments != nil && segmentOf(key.PK, *in.TotalSegments) != aws.ToInt32(in.Segment) {
			continue
		}
		if in.ExclusiveStartKey == nil || compareKeys(key, keyOf(in.ExclusiveStartKey)) > 0 {
			rows = append(rows, item)
		}
	}
	rows, last := r.page(t, nil, rows, in.Limit)
	out := &dynamodb.ScanOutput{LastEvaluatedKey: last}
	for _, item := range rows {
		ok, err := filter.holds(item, scope{in.ExpressionAttributeNames, in.ExpressionAttributeValues})
		if err != nil {
			return nil, err
		}
		if ok {
			out.Items = append(out.Items, project(item, in.ProjectionExpression, in.ExpressionAttributeNames))
		}
	}
	return out, nil
}

func segmentOf(pk string, of int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pk))
	return int32(h.Sum32() % uint32(of))
}
