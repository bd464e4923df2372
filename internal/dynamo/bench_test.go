package dynamo_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"piivault/internal/dynamo"
)

// canned answers every call with the same body, in no time: what is measured
// is the client.
type canned string

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, ContentLength: int64(len(c)),
		Body: io.NopCloser(bytes.NewReader([]byte(c))),
	}, nil
}

func static(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret"}, nil
}

func client(tb testing.TB, t http.RoundTripper) *dynamo.Client {
	tb.Helper()
	c, err := dynamo.New(dynamo.Config{
		Region: "eu-west-1", Credentials: aws.NewCredentialsCache(aws.CredentialsProviderFunc(static)), Transport: t,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func row() dynamo.Item {
	return dynamo.Item{
		"pk": dynamo.String("tenant#record"), "sk": dynamo.String("R#00000000"), "v": dynamo.Int(1), "type": dynamo.String("email"),
		"message": dynamo.Bytes(make([]byte, 1000)), "created": dynamo.Int(1), "epoch": dynamo.Int(1), "home": dynamo.String("eu-west-1"),
	}
}

const found = `{"Responses":{"records":[{"pk":{"S":"tenant#record"},"sk":{"S":"R#00000000"},"v":{"N":"1"},"type":{"S":"email"},"message":{"B":"bWVzc2FnZQ=="},"created":{"N":"1"},"epoch":{"N":"1"},"home":{"S":"eu-west-1"}}]},"UnprocessedKeys":{}}`

func BenchmarkPut(b *testing.B) {
	c := client(b, canned("{}"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.PutNew(b.Context(), "records", row()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBatchGet(b *testing.B) {
	c := client(b, canned(found))
	keys := []dynamo.Key{{PK: "tenant#record", SK: "R#00000000"}, {PK: "tenant#record", SK: "X#00000000"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.BatchGet(b.Context(), "records", keys, "", func(dynamo.Item) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBarePut is the SDK's own call, as it comes.
func BenchmarkBarePut(b *testing.B) {
	db := dynamodb.New(dynamodb.Options{
		Region: "eu-west-1", Credentials: aws.NewCredentialsCache(aws.CredentialsProviderFunc(static)),
		HTTPClient: &http.Client{Transport: canned("{}")},
	})
	b.ReportAllocs()
	for b.Loop() {
		in := &dynamodb.PutItemInput{TableName: aws.String("records"), Item: row(), ConditionExpression: aws.String("attribute_not_exists(pk)")}
		if _, err := db.PutItem(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
