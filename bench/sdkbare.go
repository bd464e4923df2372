package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// bare makes the calls that nobody could leave out (design §4, §5), with AWS's
// SDK as it comes, of items that the vault itself had put.
type bare struct {
	db        *dynamodb.Client
	near, far *kms.Client
	nearARN   string
	farARN    string
	records   []map[string]dynamotypes.AttributeValue
	block     map[string]dynamotypes.AttributeValue // of the audit log
}

func newBare(tables, far *stub) *bare {
	client := func(s *stub) *kms.Client {
		return kms.New(kms.Options{Region: s.region, Credentials: staticCredentials(), HTTPClient: &http.Client{Transport: s}})
	}
	return &bare{
		db:   dynamodb.New(dynamodb.Options{Region: tables.region, Credentials: staticCredentials(), HTTPClient: &http.Client{Transport: tables}}),
		near: client(tables), far: client(far), nearARN: tables.arn(), farARN: far.arn(),
	}
}

// parseItem reads DynamoDB's JSON form, as far as the vault uses it.
func parseItem(text []byte) (map[string]dynamotypes.AttributeValue, error) {
	var attributes map[string]struct {
		S, N *string
		B    []byte
	}
	if err := json.Unmarshal(text, &attributes); err != nil {
		return nil, fmt.Errorf("read an item: %w", err)
	}
	item := map[string]dynamotypes.AttributeValue{}
	for name, a := range attributes {
		switch {
		case a.S != nil:
			item[name] = &dynamotypes.AttributeValueMemberS{Value: *a.S}
		case a.N != nil:
			item[name] = &dynamotypes.AttributeValueMemberN{Value: *a.N}
		default:
			item[name] = &dynamotypes.AttributeValueMemberB{Value: a.B}
		}
	}
	return item, nil
}

// take makes the items of a tokenize the ones to work with.
func (b *bare) take(records, blocks []json.RawMessage) (err error) {
	b.records = make([]map[string]dynamotypes.AttributeValue, len(records))
	for i := range records {
		if b.records[i], err = parseItem(records[i]); err != nil {
			return err
		}
	}
	b.block, err = parseItem(blocks[len(blocks)-1])
	return err
}

func contextOfKey() map[string]string {
	return map[string]string{"pv-tenant": "abcdefghijklmnopqrstuvwxyz", "pv-type": "email", "pv-key": "AAAAAAAAAAAAAAAAAAAAAA"}
}

// tokenize: a data key for each value, wrapped by both regions; the records, a
// put for one or 25 a call; a block of the audit log.
func (b *bare) tokenize(ctx context.Context) error {
	for range b.records {
		made, err := b.near.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &b.nearARN, NumberOfBytes: aws.Int32(32), EncryptionContext: contextOfKey()})
		if err != nil {
			return err
		}
		if _, err := b.far.Encrypt(ctx, &kms.EncryptInput{KeyId: &b.farARN, Plaintext: made.Plaintext, EncryptionContext: contextOfKey()}); err != nil {
			return err
		}
	}
	if len(b.records) == 1 {
		if err := b.put(ctx, recordsTable, b.records[0]); err != nil {
			return err
		}
		return b.put(ctx, auditTable, b.block)
	}
	for from := 0; from < len(b.records); from += writeItems {
		var writes []dynamotypes.WriteRequest
		for _, item := range b.records[from:min(from+writeItems, len(b.records))] {
			writes = append(writes, dynamotypes.WriteRequest{PutRequest: &dynamotypes.PutRequest{Item: item}})
		}
		if _, err := b.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]dynamotypes.WriteRequest{recordsTable: writes}}); err != nil {
			return err
		}
	}
	return b.put(ctx, auditTable, b.block)
}

func (b *bare) put(ctx context.Context, table string, item map[string]dynamotypes.AttributeValue) error {
	_, err := b.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: item, ConditionExpression: aws.String("attribute_not_exists(pk)")})
	return err
}

// detokenize: R#0 and X#0 of each token, 50 tokens a call; an unwrapping of
// each data key; a block of the audit log.
func (b *bare) detokenize(ctx context.Context) error {
	for from := 0; from < len(b.records); from += readTokens {
		var keys []map[string]dynamotypes.AttributeValue
		for _, item := range b.records[from:min(from+readTokens, len(b.records))] {
			for _, row := range []string{"R#00000000", "X#00000000"} {
				keys = append(keys, map[string]dynamotypes.AttributeValue{"pk": item["pk"], "sk": &dynamotypes.AttributeValueMemberS{Value: row}})
			}
		}
		if _, err := b.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]dynamotypes.KeysAndAttributes{
			recordsTable: {Keys: keys, ConsistentRead: aws.Bool(true)},
		}}); err != nil {
			return err
		}
	}
	copied := make([]byte, 184)
	for range b.records {
		if _, err := b.near.Decrypt(ctx, &kms.DecryptInput{KeyId: &b.nearARN, CiphertextBlob: copied, EncryptionContext: contextOfKey()}); err != nil {
			return err
		}
	}
	return b.put(ctx, auditTable, b.block)
}
