package api

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxBatch is the most items that any operation of the contract takes.
const MaxBatch = 500

// ErrTooMany reports a batch of more than MaxBatch items.
var ErrTooMany = errors.New("api: too many items")

var errNotArray = errors.New("api: items must be a JSON array")

// Batch is the items of a request. Reading it stops with ErrTooMany at the
// first item over MaxBatch: a body of many tiny items, well within its size
// limit, would otherwise take thirty times its size in memory.
type Batch[T any] []T

// UnmarshalJSONFrom reads a JSON array with the decoder's options.
func (b *Batch[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginArray {
		return errNotArray
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	items := make(Batch[T], 0, 1)
	for d.PeekKind() != jsontext.KindEndArray {
		if len(items) == MaxBatch {
			*b = items
			return ErrTooMany
		}
		items = append(items, *new(T))
		*b = items // kept on an error too, so that its values can be wiped
		if err := json.UnmarshalDecode(d, &items[len(items)-1]); err != nil {
			return err
		}
	}
	*b = items
	_, err := d.ReadToken()
	return err
}
