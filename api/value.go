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
	quoted, err := jsontext.AppendQuote(make([]byte, 0, quotedSize(v.Bytes())), v.Bytes())
	if err == nil {
		err = e.WriteValue(quoted)
	}
	clear(quoted)
	return err
}

// quotedSize is what valid UTF-8 takes at most as a JSON string: room of this
// size is not grown out of, which would leave a copy behind. Two characters and
// five control characters are escaped in two bytes, other control characters in
// six (RFC 8259 §7).
func quotedSize[T string | []byte](text T) int {
	n := len(`""`) + len(text)
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\', '\b' <= c && c <= '\r' && c != '\v':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
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

// SizeHint is what the answer in JSON takes at most, and a quarter more, which
// the encoder wants to have left: a buffer of this size is not grown out of,
// which would leave copies of values behind.
func (r *DetokenizeResponse) SizeHint() int {
	n := 512
	for i := range r.Items {
		item := &r.Items[i]
		n += 256 + quotedSize(item.Value.Bytes()) + quotedSize(item.Reference)
	}
	return n + n/4
}
