package dynamo_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	storedynamo "piivault/internal/store/dynamo"
)

// The stored bytes of docs/design/format.md §5.
func TestBeatItem(t *testing.T) {
	const golden = `{"pk":{"S":"#beats"},"sk":{"S":"H#eu-west-1"},"v":{"N":"1"},"at":{"N":"1700000000000"}}`
	item := dynamolocal.ParseItem(t, json.RawMessage(golden))
	if diff := cmp.Diff(dynamolocal.FormatItem(t, item), dynamolocal.FormatItem(t, storedynamo.EncodeBeat("eu-west-1", 1_700_000_000_000))); diff != "" {
		t.Error(diff)
	}
	if region, at, err := storedynamo.DecodeBeat(item); region != "eu-west-1" || at != 1_700_000_000_000 || err != nil {
		t.Errorf("read as %q %d %v", region, at, err)
	}
	if _, _, _, _, _, err := storedynamo.DecodeRow(item); !errors.Is(err, dynamo.ErrCorrupt) {
		t.Errorf("a heartbeat is a record's row: %v", err)
	}
	for name, change := range map[string]func(dynamo.Item){
		"version":     func(i dynamo.Item) { i["v"] = dynamo.Int(2) },
		"no time":     func(i dynamo.Item) { delete(i, "at") },
		"no region":   func(i dynamo.Item) { i["sk"] = dynamo.String("H#") },
		"kind of row": func(i dynamo.Item) { i["sk"] = dynamo.String("R#eu-west-1") },
		"a tenant's":  func(i dynamo.Item) { i["pk"] = dynamo.String("t#beats") },
	} {
		bad := dynamolocal.ParseItem(t, json.RawMessage(golden))
		change(bad)
		if _, _, err := storedynamo.DecodeBeat(bad); !errors.Is(err, dynamo.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
