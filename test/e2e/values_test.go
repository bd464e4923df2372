package e2e

import (
	"errors"
	"slices"
	"testing"

	"piivault/client"
)

// kept is a value with the token that an answer gave for it.
type kept struct{ Value, Token string }

func item(typ, value string) client.TokenizeItem {
	return client.TokenizeItem{Type: typ, Value: value}
}

// keep tokenizes values that come back as they are.
func keep(t *testing.T, c *client.Client, items ...client.TokenizeItem) []kept {
	t.Helper()
	answer, err := c.Tokenize(t.Context(), client.NewIdempotencyKey(), client.TokenizeRequest{Items: items})
	if err != nil {
		t.Fatalf("tokenize: %v", err)
	}
	return keptOf(items, answer)
}

func keptOf(items []client.TokenizeItem, answer client.TokenizeResponse) []kept {
	list := make([]kept, len(items))
	for i := range items {
		list[i] = kept{items[i].Value, answer.Items[i].Token}
	}
	return list
}

func tokensOf(list []kept) []string {
	tokens := make([]string, len(list))
	for i, k := range list {
		tokens[i] = k.Token
	}
	return tokens
}

func reveal(tokens ...string) client.DetokenizeRequest {
	req := client.DetokenizeRequest{Purpose: "e2e", Items: make([]client.DetokenizeItem, len(tokens))}
	for i, token := range tokens {
		req.Items[i].Token = token
	}
	return req
}

// wantValues asserts that each token opens to its value.
func wantValues(t *testing.T, c *client.Client, list []kept) {
	t.Helper()
	for chunk := range slices.Chunk(list, 100) {
		answer, err := c.Detokenize(t.Context(), reveal(tokensOf(chunk)...))
		if err != nil {
			t.Fatalf("detokenize: %v", err)
		}
		for i, k := range chunk {
			if answer.Items[i].Value != k.Value {
				t.Errorf("a token gives %d bytes that are not its value", len(answer.Items[i].Value))
			}
		}
	}
}

// codeOf is the stable code of a refusal, "" of anything else.
func codeOf(err error) string {
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		return refusal.Code
	}
	return ""
}

// wantGone asserts that a token is refused as if it had never been.
func wantGone(t *testing.T, c *client.Client, token string) {
	t.Helper()
	if _, err := c.Detokenize(t.Context(), reveal(token)); codeOf(err) != "not_found" {
		t.Errorf("a token that should be gone: %v", err)
	}
}

// auditOf pages through all entries that a query selects.
func auditOf(t *testing.T, c *client.Client, q client.AuditQueryRequest) (all []client.AuditEntry) {
	t.Helper()
	q.Limit = 1000
	for {
		page, err := c.QueryAudit(t.Context(), q)
		if err != nil {
			t.Fatalf("audit query: %v", err)
		}
		all = append(all, page.Entries...)
		if page.NextCursor == "" {
			return all
		}
		q.Cursor = page.NextCursor
	}
}

// recordsOf are the distinct records of entries.
func recordsOf(entries []client.AuditEntry) map[string]bool {
	records := map[string]bool{}
	for _, e := range entries {
		records[e.Record] = true
	}
	return records
}
