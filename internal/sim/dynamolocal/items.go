package dynamolocal

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"piivault/internal/dynamo"
)

// attribute is DynamoDB's JSON form of a value, as far as we use it.
type attribute struct {
	S *string `json:",omitempty"`
	N *string `json:",omitempty"`
	B []byte  `json:",omitempty"`
}

// ParseItem reads DynamoDB's JSON form of an item.
func ParseItem(tb testing.TB, text []byte) dynamo.Item {
	tb.Helper()
	var attributes map[string]attribute
	if err := json.Unmarshal(text, &attributes); err != nil {
		tb.Fatal(err)
	}
	item := dynamo.Item{}
	for name, a := range attributes {
		switch {
		case a.S != nil:
			item[name] = dynamo.String(*a.S)
		case a.N != nil:
			item[name] = &types.AttributeValueMemberN{Value: *a.N}
		default:
			item[name] = dynamo.Bytes(a.B)
		}
	}
	return item
}

// FormatItem is DynamoDB's JSON form of an item, attributes in order of name.
func FormatItem(tb testing.TB, item dynamo.Item) string {
	tb.Helper()
	attributes := map[string]attribute{}
	for name, value := range item {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			attributes[name] = attribute{S: &v.Value}
		case *types.AttributeValueMemberN:
			attributes[name] = attribute{N: &v.Value}
		case *types.AttributeValueMemberB:
			attributes[name] = attribute{B: v.Value}
		default:
			tb.Fatalf("attribute %s is a %T", name, value)
		}
	}
	b, err := json.Marshal(attributes)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// WantItem compares an item with its JSON form.
func WantItem(tb testing.TB, got dynamo.Item, want string) {
	tb.Helper()
	if diff := cmp.Diff(FormatItem(tb, ParseItem(tb, []byte(want))), FormatItem(tb, got)); diff != "" {
		tb.Error(diff)
	}
}
