package api

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"piivault/internal/secret"
)

var errNotString = errors.New("api: a value must be a JSON string")

// Value is a JSON string that holds a plaintext. It goes from the request's
// buffer into bytes of its own and from there into the answer's buffer, and is
// never a Go string, which could not be wiped. Whatever prints it prints
// secret.Redacted; only the encoder of go-json-experiment shows it.
type Value struct{ secret.Plaintext }

// IsZero reports a Value that is absent or empty.
func (v Value) IsZero() bool { return v.Len() == 0 }

// UnmarshalJSONFrom copies a JSON string's content. Anything else is an error,
// null too; what is not valid UTF-8 the decoder has refused before.
func (v *Value) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	if raw.Kind() != jsontext.KindString {
		return errNotString
	}
	// Unquoting never lengthens, so the bytes never move and leave a copy.
	content, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)-2), raw)
	if err != nil {
		return err
	}
	v.Plaintext = secret.NewPlaintext(content)
	return nil
}

// MarshalJSONTo writes the content as a JSON string; the encoder's buffer is
// its owner's to wipe.
func (v Value) MarshalJSONTo(e *jsontext.Encoder) error {
	quoted, err := jsontext.AppendQuote(make([]byte, 0, v.Len()+v.Len()/8+16), v.Bytes())
	if err == nil {
		err = e.WriteValue(quoted)
	}
	clear(quoted)
	return err
}

// Wipe ends the life of the request's values.
func (r *TokenizeRequest) Wipe() {
	for i := range r.Items {
		r.Items[i].Value.Wipe()
	}
}

// Wipe ends the life of the answer's values.
func (r *DetokenizeResponse) Wipe() {
	for i := range r.Items {
		r.Items[i].Value.Wipe()
	}
}

// SizeHint is about how long the answer is in JSON: a buffer of this size
// seldom grows, and so seldom leaves a copy of a value behind.
func (r *DetokenizeResponse) SizeHint() int {
	n := 256
	for i := range r.Items {
		n += 256 + r.Items[i].Value.Len()*5/4
	}
	return n
}
