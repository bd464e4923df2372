package streams

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"piivault/internal/dynamo"
)

// itemKey names an item in all regions.
type itemKey struct {
	table int
	dynamo.Key
}

// keyOf reads an item's key.
func keyOf(item dynamo.Item) (dynamo.Key, error) {
	f := dynamo.Read(item)
	return f.Key(), f.Err()
}

// same compares two images; nil is an item that is not there.
func same(a, b dynamo.Item) bool { return reflect.DeepEqual(a, b) }

// exactly is the condition that a row is this image, nil for none. What has
// attributes beyond the image's, next's and the tables' other keys is not told
// apart: no item of the vault differs from a former self by that alone.
func exactly(image, next dynamo.Item) dynamo.Condition {
	c := dynamo.Condition{}
	if image == nil {
		c.Expression = "attribute_not_exists(" + dynamo.PK + ")"
		return c
	}
	c.Names, c.Values = map[string]string{}, dynamo.Item{}
	add := func(term string) {
		if c.Expression != "" {
			c.Expression += " AND "
		}
		c.Expression += term
	}
	for name, value := range image {
		n := strconv.Itoa(len(c.Names))
		c.Names["#"+n], c.Values[":"+n] = name, value
		add("#" + n + " = :" + n)
	}
	for name := range next {
		if image[name] == nil {
			n := strconv.Itoa(len(c.Names))
			c.Names["#"+n] = name
			add("attribute_not_exists(#" + n + ")")
		}
	}
	return c
}

var errAttribute = errors.New("streams: an attribute of an unknown type")

// fromStream makes an item of a stream's image; nil of none.
func fromStream(image map[string]streamtypes.AttributeValue) (dynamo.Item, error) {
	if len(image) == 0 {
		return nil, nil //nolint:nilnil // nil is an item that is not there
	}
	item := make(dynamo.Item, len(image))
	for name, v := range image {
		var err error
		if item[name], err = value(v); err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
	}
	return item, nil
}

func value(v streamtypes.AttributeValue) (types.AttributeValue, error) {
	switch v := v.(type) {
	case *streamtypes.AttributeValueMemberS:
		return &types.AttributeValueMemberS{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberN:
		return &types.AttributeValueMemberN{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberB:
		return &types.AttributeValueMemberB{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberBOOL:
		return &types.AttributeValueMemberBOOL{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberNULL:
		return &types.AttributeValueMemberNULL{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberSS:
		return &types.AttributeValueMemberSS{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberNS:
		return &types.AttributeValueMemberNS{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberBS:
		return &types.AttributeValueMemberBS{Value: v.Value}, nil
	case *streamtypes.AttributeValueMemberL:
		list := make([]types.AttributeValue, len(v.Value))
		for i := range v.Value {
			var err error
			if list[i], err = value(v.Value[i]); err != nil {
				return nil, err
			}
		}
		return &types.AttributeValueMemberL{Value: list}, nil
	case *streamtypes.AttributeValueMemberM:
		m, err := fromStream(v.Value)
		return &types.AttributeValueMemberM{Value: m}, err
	default:
		return nil, errAttribute
	}
}

// normal orders the members of sets, which have no order of their own.
func normal(item dynamo.Item) dynamo.Item {
	for _, v := range item {
		switch v := v.(type) {
		case *types.AttributeValueMemberSS:
			slices.Sort(v.Value)
		case *types.AttributeValueMemberNS:
			slices.Sort(v.Value)
		case *types.AttributeValueMemberBS:
			slices.SortFunc(v.Value, bytes.Compare)
		default:
		}
	}
	return item
}
