package pii_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/pii"
)

func TestMaskExamples(t *testing.T) {
	want := map[string]string{
		"email": "a***@e***.com", "phone": "***43", "name": "A*** E***", "address": "***", "date_of_birth": "****-**-**",
		"ssn": "***-**-6789", "national_id": "***59", "card_number": "***1111", "iban": "IE***5678", "ip": "192.0.2.*",
		"text": "***", "json": "***", "bytes": "***",
	}
	for _, kind := range pii.Kinds() {
		if got := builtIn(t, kind).MaskExample(); got != want[kind] {
			t.Errorf("%s: %q, want %q", kind, got, want[kind])
		}
	}
}

// What a caller has no right to see must not be in the mask, whatever the bytes.
func TestAMaskNeverContainsItsValue(t *testing.T) {
	chars := rapid.SampledFrom([]rune("ab19*.@:-[]maskedé後𠮷 \u00a0\u0301{}"))
	value := rapid.OneOf(rapid.StringOfN(chars, 0, 24, -1), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		typ := pii.Type{Kind: rapid.SampledFrom(pii.Kinds()).Draw(t, "kind")}
		sent := plain(v)
		mask := typ.Mask(sent)
		if v != "" && bytes.Contains(mask.Bytes(), []byte(v)) {
			t.Fatalf("%s: the mask %+q holds %+q", typ.Kind, mask.Bytes(), v)
		}
		if text(sent) != v {
			t.Fatal("the value was changed")
		}
	})
}

// Free text and names have masks whose length says nothing of theirs; the last
// characters shown of numbers are a fixed few.
func TestAMaskDoesNotRevealTheLength(t *testing.T) {
	for _, kind := range []string{"address", "text", "json", "bytes", "name", "email", "iban", "card_number", "phone", "national_id"} {
		typ := builtIn(t, kind)
		lengths := map[int]bool{}
		for _, n := range []int{16, 17, 34, 100, 1000} {
			lengths[typ.Mask(plain(strings.Repeat("7", n))).Len()] = true
		}
		if len(lengths) != 1 {
			t.Errorf("%s: masks of lengths %v", kind, lengths)
		}
	}
}
