package dynamo

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Names of the attributes that are keys, in every table.
const (
	PK = "pk"
	SK = "sk"
)

// Item is a row by attribute.
type Item = map[string]types.AttributeValue

// Key names a row.
type Key struct{ PK, SK string }

// Item is the key alone.
func (k Key) Item() Item { return Item{PK: String(k.PK), SK: String(k.SK)} }

// String makes an S.
func String(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Bytes makes a B. It refers to b.
func Bytes(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// Int makes an N.
func Int(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// Uint makes an N.
func Uint(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}

// Fields reads an item strictly: an attribute of another type, a required one
// that is not there and a number of another spelling are an error, which Err
// gives after all was read. It copies nothing.
type Fields struct {
	item Item
	bad  string // the first attribute that was not as it should be
}

// Read begins to read an item.
func Read(item Item) *Fields { return &Fields{item: item} }

// Err is ErrCorrupt where anything was not as it should be.
func (f *Fields) Err() error {
	if f.bad != "" {
		return fmt.Errorf("attribute %q: %w", f.bad, ErrCorrupt)
	}
	return nil
}

func (f *Fields) fail(name string) {
	if f.bad == "" {
		f.bad = name
	}
}

// Has reports that the attribute is there.
func (f *Fields) Has(name string) bool { return f.item[name] != nil }

// Key reads the item's.
func (f *Fields) Key() Key { return Key{f.String(PK), f.String(SK)} }

// String reads a required S.
func (f *Fields) String(name string) string {
	v, ok := f.item[name].(*types.AttributeValueMemberS)
	if !ok {
		f.fail(name)
		return ""
	}
	return v.Value
}

// Optional reads an S that may be absent, but not empty.
func (f *Fields) Optional(name string) string {
	if !f.Has(name) {
		return ""
	}
	s := f.String(name)
	if s == "" {
		f.fail(name)
	}
	return s
}

// Bytes reads a required B.
func (f *Fields) Bytes(name string) []byte {
	v, ok := f.item[name].(*types.AttributeValueMemberB)
	if !ok {
		f.fail(name)
		return nil
	}
	return v.Value
}

// Int reads a required N, in the spelling that Int writes.
func (f *Fields) Int(name string) int64 {
	s := f.number(name)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		f.fail(name)
	}
	return n
}

// Uint reads a required N, in the spelling that Uint writes.
func (f *Fields) Uint(name string) uint64 {
	s := f.number(name)
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		f.fail(name)
	}
	return n
}

func (f *Fields) number(name string) string {
	v, ok := f.item[name].(*types.AttributeValueMemberN)
	if !ok {
		f.fail(name)
		return ""
	}
	return v.Value
}
