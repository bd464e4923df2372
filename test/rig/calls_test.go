package rig_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/client"
	"piivault/internal/sim/rig"
)

// bigBatch is the batch whose calls are counted.
const bigBatch = 100

// callCase is what one request costs in SDK calls. Calls in the background,
// and of writing the audit log's index behind, are not counted.
type callCase struct {
	name       string
	items      int
	idempotent bool
	reveal     bool
	// want is what design §5 allows at least: rows put or read in full calls
	// (25 to write, 100 to read: 50 tokens), one audit block, and for each
	// field of a per_field type a data key with a copy per region, or its unwrap.
	want map[string]int
}

func callCases() []callCase {
	return []callCase{
		{name: "tokenize", items: 1, want: map[string]int{
			"PutItem records": 1, "PutItem audit": 1, "GenerateDataKey": 1, "Encrypt": 1,
		}},
		{name: "tokenize", items: bigBatch, want: map[string]int{
			"BatchWriteItem records": bigBatch / 25, "PutItem audit": 1, "GenerateDataKey": bigBatch, "Encrypt": bigBatch,
		}},
		// Under a key it may be a retry: tombstones are looked for, each put has a condition.
		{name: "tokenize, idempotent", items: 1, idempotent: true, want: map[string]int{
			"BatchGetItem records": 1, "PutItem records": 1, "PutItem audit": 1, "GenerateDataKey": 1, "Encrypt": 1,
		}},
		{name: "tokenize, idempotent", items: bigBatch, idempotent: true, want: map[string]int{
			"BatchGetItem records": bigBatch / 100, "PutItem records": bigBatch, "PutItem audit": 1, "GenerateDataKey": bigBatch, "Encrypt": bigBatch,
		}},
		{name: "detokenize", items: 1, reveal: true, want: map[string]int{
			"BatchGetItem records": 1, "PutItem audit": 1, "Decrypt": 1,
		}},
		{name: "detokenize", items: bigBatch, reveal: true, want: map[string]int{
			"BatchGetItem records": bigBatch / 50, "PutItem audit": 1, "Decrypt": bigBatch,
		}},
	}
}

// What a request costs in calls of DynamoDB and KMS, in both regions, beside
// the least that the design allows; no more is made.
func TestCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, rig.Config{PerRegion: 1, More: "prefetch: {max_keys: 0}\n"})
	c := r.In(rig.EU)[0].Client(t)
	tokens := tokenize(t, c, "", emails("warm", bigBatch))
	detokenize(t, c, tokens[:1]) // the tenant's secret is there
	for _, k := range callCases() {
		least := map[string]int{}
		for n := range 3 { // a busy machine adds attempts to one, not to all
			r.Calls(t, rig.Where{})
			switch {
			case k.reveal:
				detokenize(t, c, tokens[:k.items])
			case k.idempotent:
				tokenize(t, c, client.NewIdempotencyKey(), emails(fmt.Sprint(k.name, n), k.items))
			default:
				tokenize(t, c, "", emails(fmt.Sprint(k.name, n), k.items))
			}
			got := counted(r.Calls(t, rig.Where{Instance: "eu-1"}), r.Names.Records, r.Names.Audit)
			if n == 0 {
				least = got
			}
			for call := range least {
				least[call] = min(least[call], got[call])
			}
		}
		maps.DeleteFunc(least, func(_ string, n int) bool { return n == 0 })
		t.Logf("%-20s %3d: %v", k.name, k.items, least)
		if diff := cmp.Diff(k.want, least); diff != "" {
			t.Errorf("%s of %d: calls: %s", k.name, k.items, diff)
		}
	}
}

// counted are the calls that a request waits for.
func counted(calls map[rig.Call]int, records, audit string) map[string]int {
	got := map[string]int{}
	for call, n := range calls {
		switch {
		case strings.HasPrefix(call.Op, "Batch") && call.Table == records, call.Op == "PutItem" && (call.Table == records || call.Table == audit),
			call.Op == "GenerateDataKey", call.Op == "Encrypt", call.Op == "Decrypt", call.Op == "TransactWriteItems":
			got[strings.TrimSpace(call.Op+" "+strings.TrimPrefix(call.Table, "vault-"))] += n
		}
	}
	return got
}

func emails(who string, n int) []client.TokenizeItem {
	items := make([]client.TokenizeItem, n)
	for i := range items {
		items[i] = client.TokenizeItem{Type: "email", Value: fmt.Sprintf("%s%d@example.com", strings.ReplaceAll(strings.ReplaceAll(who, " ", "-"), ",", ""), i)}
	}
	return items
}

// tokenize succeeds.
func tokenize(t *testing.T, c *client.Client, key string, items []client.TokenizeItem) []string {
	t.Helper()
	answer, err := c.Tokenize(t.Context(), key, client.TokenizeRequest{Items: items})
	if err != nil {
		t.Fatalf("tokenize: %v", err)
	}
	tokens := make([]string, len(answer.Items))
	for i := range answer.Items {
		tokens[i] = answer.Items[i].Token
	}
	return tokens
}

// detokenize succeeds.
func detokenize(t *testing.T, c *client.Client, tokens []string) client.DetokenizeResponse {
	t.Helper()
	answer, err := c.Detokenize(t.Context(), reveal(tokens))
	if err != nil {
		t.Fatalf("detokenize: %v", err)
	}
	return answer
}

func reveal(tokens []string) client.DetokenizeRequest {
	req := client.DetokenizeRequest{Purpose: "rig", Items: make([]client.DetokenizeItem, len(tokens))}
	for i, token := range tokens {
		req.Items[i].Token = token
	}
	return req
}
