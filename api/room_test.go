package api

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"piivault/internal/secret"
)

// texts are values and references that JSON escapes in every way.
func texts() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\"\\\x00\a\b\t\n\v\f\r\x1b\x1f ~\x7f\u2028é😀"))))
}

// G4: a value is quoted in the room that was made for it: none is left behind.
func TestG4QuotingLeavesNoCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := []byte(strings.ToValidUTF8(texts().Draw(t, "value"), ""))
		room := make([]byte, 0, quotedSize(value))
		quoted, err := jsontext.AppendQuote(room, value)
		if err != nil || &quoted[0] != &room[:1][0] {
			t.Fatalf("%q is quoted in %d bytes, and %d were made ready (%v)", value, len(quoted), cap(room), err)
		}
	})
}

// G4: an answer is encoded in the buffer that was made for it, however its
// values must be escaped: none is left in one that was grown out of.
func TestG4EncodingLeavesNoCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var answer DetokenizeResponse
		for range rapid.IntRange(0, 12).Draw(t, "items") {
			text := strings.Repeat(strings.ToValidUTF8(texts().Draw(t, "value"), ""), rapid.IntRange(1, 100).Draw(t, "times"))
			answer.Items = append(answer.Items, DetokenizedItem{
				Index: 499, Type: strings.Repeat("t", 32), Status: ItemStatusOk, Reveal: RevealMasked,
				Value:     Value{Plaintext: secret.NewPlaintext([]byte(text))},
				Reference: strings.ToValidUTF8(texts().Draw(t, "reference"), ""),
			})
		}
		answer.Audit = AuditReceipt{Log: strings.Repeat("l", 200), FirstIndex: 1 << 53, Entries: 100}
		var encoded bytes.Buffer
		encoded.Grow(answer.SizeHint())
		room := encoded.AvailableBuffer()
		if err := json.MarshalWrite(&encoded, &answer); err != nil {
			t.Fatal(err)
		}
		if written := encoded.Bytes(); &written[0] != &room[:1][0] {
			t.Fatalf("%d items took %d bytes, and %d were made ready", len(answer.Items), len(written), cap(room))
		}
	})
}
