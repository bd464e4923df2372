package main

import (
	"net/http"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// records counts a region's.
func (r *rig) records(t *testing.T, region string) int {
	t.Helper()
	db := dynamodb.New(dynamodb.Options{
		Region: region, BaseEndpoint: aws.String(r.dynamo.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), "secret", ""),
	})
	out, err := db.Scan(t.Context(), &dynamodb.ScanInput{
		TableName: aws.String("vault-records"), ConsistentRead: aws.Bool(true), FilterExpression: aws.String("begins_with(sk, :r)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":r": &types.AttributeValueMemberS{Value: "R#"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return int(out.Count)
}

// twoRegions: G1 with durability two_regions: what is acknowledged is in the
// other region's table, to which nothing replicates here; and nothing is
// acknowledged where that cannot be reached.
func (r *rig) twoRegions(t *testing.T, key string) {
	t.Helper()
	const body = `{"items":[{"type":"email","value":"ann@example.com"},{"type":"email","value":"bob@example.com"},{"type":"ssn","value":"778-35-0827"}]}`
	before := r.records(t, "us-east-1")
	s := r.serve(t, "VAULT_INSTANCE=durable", "VAULT_DURABILITY=two_regions")
	var text string
	if status := r.post(t, s.at["api"]+"/v1/tokenize", key, body, &text); status != http.StatusOK {
		t.Errorf("tokenize into two regions: %d %s", status, text)
	}
	if n := r.records(t, "us-east-1") - before; n != 3 {
		t.Errorf("%d records are in the other region, want 3", n)
	}
	cut := r.serve(t, "VAULT_INSTANCE=cut", "VAULT_DURABILITY=two_regions", "VAULT_REGIONS_1_DYNAMODB_ENDPOINT=http://127.0.0.1:1")
	var problem struct{ Code string }
	if status := r.post(t, cut.at["api"]+"/v1/tokenize", key, body, &problem); status != http.StatusServiceUnavailable || problem.Code != "second_region_unavailable" {
		t.Errorf("tokenize without a second region: %d %s", status, problem.Code)
	}
}
