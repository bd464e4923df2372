package main

import (
	"net/http"
	"testing"

	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
)

// ofSubjects counts the records of a region that name a subject.
func (r *rig) ofSubjects(t *testing.T, region string) (n int) {
	t.Helper()
	credentials, err := kms.DefaultCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamo.New(dynamo.Config{Region: region, Endpoint: r.dynamo.Endpoint, Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.ScanIndex(t.Context(), "vault-records", "by-subject", 0, nil, func(dynamo.Item) (bool, error) {
		n++
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// twoRegions: G1 with durability two_regions: what is acknowledged is in the
// other region's table, to which nothing replicates here; and nothing is
// acknowledged where that cannot be reached.
func (r *rig) twoRegions(t *testing.T, key string) {
	t.Helper()
	const body = `{"items":[{"type":"email","value":"ann@example.com","subject_id":"C-1"},{"type":"ssn","value":"778-35-0827","subject_id":"C-1"}]}`
	s := r.serve(t, "VAULT_INSTANCE=durable", "VAULT_DURABILITY=two_regions")
	var text string
	if status := r.post(t, s.at["api"]+"/v1/tokenize", key, body, &text); status != http.StatusOK {
		t.Errorf("tokenize into two regions: %d %s", status, text)
	}
	if n := r.ofSubjects(t, "us-east-1"); n != 2 {
		t.Errorf("%d records are in the other region, want 2", n)
	}
	cut := r.serve(t, "VAULT_INSTANCE=cut", "VAULT_DURABILITY=two_regions", "VAULT_REGIONS_1_DYNAMODB_ENDPOINT=http://127.0.0.1:1")
	var problem struct{ Code string }
	if status := r.post(t, cut.at["api"]+"/v1/tokenize", key, body, &problem); status != http.StatusServiceUnavailable || problem.Code != "second_region_unavailable" {
		t.Errorf("tokenize without a second region: %d %s", status, problem.Code)
	}
}
