package pii

import (
	"encoding/base64"
	"fmt"
	"time"

	"piivault/internal/secret"
)

const (
	smallLimit = 4 << 10  // bytes of a normalized value
	largeLimit = 64 << 10 // of text, json and bytes
)

// rules is what a kind is made of.
type rules struct {
	limit int // bytes of a normalized value
	// guessable says that all likely values can be listed: whoever holds the
	// tenant secret can try them against a deterministic token.
	guessable bool
	chars     charset
	// normalize returns new bytes and leaves no copy of the value behind that
	// could be wiped; its error is a *ValueError.
	normalize func(input) ([]byte, error)
	mask      func(value []byte) []byte
	example   string // a normalized value that is nobody's
}

// input is a value that passed the checks common to all kinds.
type input struct {
	value   []byte
	country string
	now     time.Time
}

// Kinds returns the names of the built-in kinds, in the order of design §6.
func Kinds() []string {
	return []string{
		"email", "phone", "name", "address", "date_of_birth", "ssn", "national_id",
		"card_number", "iban", "ip", "text", "json", "bytes",
	}
}

func rulesOf(kind string) (rules, bool) {
	switch kind {
	case "email":
		return rules{smallLimit, false, oneLine, normalizeEmail, maskEmail, "ann.example@example.com"}, true
	case "phone":
		return rules{smallLimit, true, oneLine, normalizePhone, maskPhone, "+12025550143"}, true
	case "name":
		return rules{smallLimit, true, displayed, normalizeText, maskName, "Ann Example"}, true
	case "address":
		return rules{smallLimit, false, manyLines, normalizeText, maskAll, "1 Example Street"}, true
	case "date_of_birth":
		return rules{smallLimit, true, oneLine, normalizeDate, maskDate, "1980-02-29"}, true
	case "ssn":
		return rules{smallLimit, true, oneLine, normalizeSSN, maskSSN, "123-45-6789"}, true
	case "national_id":
		return rules{smallLimit, true, oneLine, normalizeNationalID, maskNationalID, "44051401359"}, true
	case "card_number":
		return rules{smallLimit, true, oneLine, normalizeCard, maskCard, "4111111111111111"}, true
	case "iban":
		return rules{smallLimit, true, oneLine, normalizeIBAN, maskIBAN, "IE29AIBK93115212345678"}, true
	case "ip":
		return rules{smallLimit, true, oneLine, normalizeIP, maskIP, "192.0.2.44"}, true
	case "text":
		return rules{largeLimit, false, manyLines, normalizeText, maskAll, "an example"}, true
	case "json":
		return rules{largeLimit, false, manyLines, normalizeJSON, maskAll, `{"an":"example"}`}, true
	case "bytes":
		return rules{largeLimit, false, oneLine, normalizeBytes, maskAll, "an example"}, true
	}
	return rules{}, false
}

// Normalize validates a value as sent and returns what is stored, in new
// bytes: the input is left as it is, and the caller wipes both. country is an
// ISO 3166-1 alpha-2 code or "", now the time of the request; a kind that has
// no use for them ignores them. docs/design/format.md §4 tells what each kind
// accepts and stores. Normalizing what Present returns gives the same bytes.
//
// The error is a *ValueError. Copies that cannot be wiped remain where a
// library works on strings: of a phone number, of an IP address, and of an
// email's domain that is not plain ASCII; and, of text that is not in NFC and
// of a JSON document's member names, inside the library's buffers.
func (t *Type) Normalize(value secret.Plaintext, country string, now time.Time) (secret.Plaintext, error) {
	r, ok := rulesOf(t.Kind)
	if !ok {
		return secret.Plaintext{}, fmt.Errorf("%w: there is no such kind", ErrConfig)
	}
	limit := t.MaxBytes
	if limit == 0 {
		limit = r.limit
	}
	// Separators, base64 and decomposed characters take more room before
	// normalizing than after, but never four times as much as is allowed.
	if value.Len() > 4*limit {
		return secret.Plaintext{}, refuse(CodeTooLong)
	}
	if code := r.chars.check(value.Bytes()); code != "" {
		return secret.Plaintext{}, refuse(code)
	}
	if country != "" {
		if _, err := countryOf(country); err != nil {
			return secret.Plaintext{}, err
		}
	}
	b, err := r.normalize(input{value.Bytes(), country, now})
	if err != nil {
		return secret.Plaintext{}, err
	}
	if len(b) > limit {
		clear(b)
		return secret.Plaintext{}, refuse(CodeTooLong)
	}
	return secret.NewPlaintext(b), nil
}

// Present turns a normalized value, as stored and opened, into the text that a
// client gets, and takes ownership of it. Of kind bytes that is base64, and
// the decoded bytes are wiped; of every other kind it is the value itself.
func (t *Type) Present(value secret.Plaintext) secret.Plaintext {
	if t.Kind != "bytes" {
		return value
	}
	defer value.Wipe()
	return secret.NewPlaintext(base64.StdEncoding.AppendEncode(nil, value.Bytes()))
}

// countryOf returns the code in upper case, or a *ValueError.
func countryOf(code string) (string, error) {
	if len(code) != 2 || !consistsOf(code, isLetter) {
		return "", refuse(CodeCountry)
	}
	upper := []byte(code)
	for i := range upper {
		upper[i] = toUpper(upper[i])
	}
	return string(upper), nil
}
