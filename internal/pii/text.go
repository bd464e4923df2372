package pii

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxJSONDepth is how deep arrays and objects may be nested.
const maxJSONDepth = 64

// normalizeText keeps what was sent, spaces at the ends included, in NFC.
func normalizeText(in input) ([]byte, error) { return nfc(in.value), nil }

// normalizeJSON accepts one document of RFC 8259 whose member names are
// unique (RFC 7493 §2.3) and keeps it byte for byte: NFC or another layout
// would change what its strings and numbers say.
func normalizeJSON(in input) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(in.value)) // reads a Buffer in place
	for first := true; first || d.StackDepth() > 0; first = false {
		if _, err := d.ReadToken(); err != nil {
			return nil, refuse(jsonCode(err))
		}
		if d.StackDepth() > maxJSONDepth {
			return nil, refuse(CodeJSONDepth)
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, refuse(CodeJSON)
	}
	return bytes.Clone(in.value), nil
}

func jsonCode(err error) string {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return CodeJSONDuplicate
	}
	return CodeJSON
}

// normalizeBytes decodes standard base64 with padding and no unused bits
// (RFC 4648 §4, §3.5), so that encoding gives back what was sent. Line breaks,
// which the decoder would skip, were refused as control characters.
func normalizeBytes(in input) ([]byte, error) {
	b := make([]byte, base64.StdEncoding.DecodedLen(len(in.value)))
	n, err := base64.StdEncoding.Strict().Decode(b, in.value)
	if err != nil {
		clear(b)
		return nil, refuse(CodeBase64)
	}
	return b[:n], nil
}
