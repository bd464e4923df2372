package pii_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"piivault/internal/pii"
	"piivault/internal/secret"
)

// now is the time of every request here: one at which 2 July 2026 has begun in
// the Line Islands and 1 July 2026 has not ended on Baker Island.
var now = time.Date(2026, 7, 1, 10, 30, 0, 0, time.UTC)

// row is one line of a file in testdata.
type row struct {
	Type, Value, Country, Code, Stored, Mask, Why string
}

func readLines[T any](tb testing.TB, file string) []T {
	tb.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var rows []T
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r T
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			tb.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil || len(rows) == 0 {
		tb.Fatalf("%s: %d rows, %v", file, len(rows), err)
	}
	return rows
}

func builtIn(tb testing.TB, kind string) *pii.Type {
	tb.Helper()
	catalog, err := pii.NewCatalog(pii.BuiltIn())
	if err != nil {
		tb.Fatal(err)
	}
	typ, ok := catalog.Lookup(kind)
	if !ok {
		tb.Fatalf("no kind %s", kind)
	}
	return typ
}

func plain(s string) secret.Plaintext { return secret.NewPlaintext([]byte(s)) }

func text(p secret.Plaintext) string { return string(p.Bytes()) }

// codeOf is the code with which a value is refused, "" where it is accepted.
func codeOf(tb testing.TB, typ *pii.Type, value, country string) string {
	tb.Helper()
	sent := plain(value)
	got, err := typ.Normalize(sent, country, now)
	if text(sent) != value {
		tb.Errorf("%s: the input was changed", typ.Name)
	}
	if err == nil {
		return ""
	}
	var refused *pii.ValueError
	if !errors.As(err, &refused) {
		tb.Fatalf("%s: the error is a %T", typ.Name, err)
	}
	if got.Len() != 0 {
		tb.Errorf("%s: a refused value came back", typ.Name)
	}
	// G4: no error quotes the value, or a part of it that is more than a word.
	for _, part := range append(strings.Fields(value), value) {
		if len(part) >= 4 && strings.ContainsAny(part, "0123456789@") && strings.Contains(refused.Error()+refused.Message, part) {
			tb.Errorf("%s: %s quotes the value", typ.Name, refused.Code)
		}
	}
	return refused.Code
}

func TestGoldenValuesAreStoredAndMaskedAsRecorded(t *testing.T) {
	for _, r := range readLines[row](t, "normalized.jsonl") {
		typ := builtIn(t, r.Type)
		got, err := typ.Normalize(plain(r.Value), r.Country, now)
		if err != nil {
			t.Errorf("%s %+q: %v", r.Type, r.Value, err)
			continue
		}
		stored := text(got)
		if r.Type == "bytes" {
			stored = hex.EncodeToString(got.Bytes())
		}
		if stored != r.Stored {
			t.Errorf("%s %+q is stored as %+q, want %+q", r.Type, r.Value, stored, r.Stored)
		}
		if mask := text(typ.Mask(got)); mask != r.Mask {
			t.Errorf("%s %+q is masked as %+q, want %+q", r.Type, r.Value, mask, r.Mask)
		}
	}
}

func TestInvalidValuesAreRefusedWithTheirCode(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range readLines[row](t, "invalid_more.jsonl") {
		code := codeOf(t, builtIn(t, r.Type), r.Value, r.Country)
		if code != r.Code {
			t.Errorf("%s, %s: refused with %q, want %q", r.Type, r.Why, code, r.Code)
		}
		seen[code] = true
	}
	for i, r := range readLines[row](t, "invalid.jsonl") {
		code := codeOf(t, builtIn(t, r.Type), r.Value, "")
		if code != wantedCodes()[i] {
			t.Errorf("%s, %s: refused with %q, want %q", r.Type, r.Why, code, wantedCodes()[i])
		}
		seen[code] = true
	}
	seen[codeOf(t, builtIn(t, "text"), "\xff", "")] = true
	for _, c := range pii.Codes() {
		if !seen[c.Code] {
			t.Errorf("no row is refused with %s", c.Code)
		}
		if c.Message == "" {
			t.Errorf("%s has no message", c.Code)
		}
		delete(seen, c.Code)
	}
	for code := range seen {
		t.Errorf("%q is not in Codes", code)
	}
}

// wantedCodes are those of invalid.jsonl, which is a copy of the shared file, line by line.
func wantedCodes() []string {
	return strings.Fields(`
		value_empty email_invalid email_invalid value_too_long email_invalid email_domain_invalid value_control_character value_control_character
		value_empty phone_country_required phone_invalid phone_invalid phone_invalid phone_invalid
		ssn_not_assignable ssn_not_assignable ssn_not_assignable ssn_not_assignable ssn_not_assignable ssn_invalid ssn_invalid
		card_luhn card_invalid card_invalid card_invalid value_empty
		iban_checksum iban_country iban_length iban_invalid
		date_in_future date_too_old date_invalid date_invalid date_invalid value_empty
		ip_invalid value_control_character ip_invalid value_empty
		value_empty value_empty value_control_character value_too_long`)
}

// Invalid UTF-8 of every sort is refused, never repaired: lone surrogates,
// overlong forms, truncated and bare continuation bytes, beyond U+10FFFF.
func TestInvalidUTF8IsRefusedByEveryKind(t *testing.T) {
	for _, kind := range pii.Kinds() {
		for _, b := range []string{"\xff", "abc\xed\xa0\x80", "\xc0\x80", "\xe2\x82", "a\x80", "\xf4\x90\x80\x80"} {
			if code := codeOf(t, builtIn(t, kind), b, ""); code != pii.CodeEncoding {
				t.Errorf("%s %q: %q", kind, b, code)
			}
		}
	}
}

func TestSizeLimitsHoldForWhatIsStored(t *testing.T) {
	for _, kind := range pii.Kinds() {
		typ := builtIn(t, kind)
		if code := codeOf(t, typ, strings.Repeat("1", 4*typ.MaxBytes+1), "US"); code != pii.CodeTooLong {
			t.Errorf("%s: a huge value: %q", kind, code)
		}
	}
	wrap := map[string]func(n int) string{
		"name": func(n int) string { return strings.Repeat("x", n) },
		"text": func(n int) string { return strings.Repeat("e\u0301", n/2) + strings.Repeat("x", n%2) }, // é is two bytes in NFC
		"json": func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` },
		"bytes": func(n int) string {
			return base64.StdEncoding.EncodeToString(make([]byte, n))
		},
	}
	for kind, value := range wrap {
		typ := *builtIn(t, kind)
		for _, limit := range []int{typ.MaxBytes, 100} {
			typ.MaxBytes = limit
			if code := codeOf(t, &typ, value(limit), ""); code != "" {
				t.Errorf("%s: %d bytes are refused with %q", kind, limit, code)
			}
			if code := codeOf(t, &typ, value(limit+1), ""); code != pii.CodeTooLong {
				t.Errorf("%s: %d bytes over the limit: %q", kind, limit+1, code)
			}
		}
	}
}

// A day is no future once it has begun in UTC+14; 130 years are over when they are in UTC-12.
func TestDateOfBirthFollowsTheClockAtTheEdges(t *testing.T) {
	typ := builtIn(t, "date_of_birth")
	for _, c := range []struct{ value, at, code string }{
		{"2026-07-02", "2026-07-01T10:00:00Z", ""},
		{"2026-07-02", "2026-07-01T09:59:59Z", pii.CodeDateFuture},
		{"1896-07-01", "2026-07-02T11:59:59Z", ""},
		{"1896-07-01", "2026-07-02T12:00:00Z", pii.CodeDateTooOld},
		{"2026-07-02", "2026-07-01T23:00:00+14:00", pii.CodeDateFuture}, // the server's own zone does not matter
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		_, err = typ.Normalize(plain(c.value), "", at)
		var refused *pii.ValueError
		if errors.As(err, &refused) != (c.code != "") || (refused != nil && refused.Code != c.code) {
			t.Errorf("%s at %s: %v, want %q", c.value, c.at, err, c.code)
		}
	}
}

func TestEveryCountryOfTheIBANRegistryIsAccepted(t *testing.T) {
	b, err := os.ReadFile("testdata/iban.txt")
	if err != nil {
		t.Fatal(err)
	}
	typ := builtIn(t, "iban")
	for iban := range strings.Lines(string(b)) {
		iban = strings.TrimSpace(iban)
		if code := codeOf(t, typ, iban, ""); code != "" {
			t.Errorf("%s: %s", iban, code)
		}
		if code := codeOf(t, typ, iban+"0", ""); code != pii.CodeIBANLength {
			t.Errorf("%s0: %q", iban, code)
		}
		swapped := []byte(iban)
		swapped[len(swapped)-1] = (swapped[len(swapped)-1]-'0'+1)%10 + '0'
		if code := codeOf(t, typ, string(swapped), ""); code != pii.CodeIBANCheck {
			t.Errorf("%s: %q", swapped, code)
		}
	}
}

type person map[string]string

// 20 people of each of ten countries, from the shared people.jsonl.
func TestPeopleAreAcceptedAndComeBackAsSent(t *testing.T) {
	fields := []string{"name", "email", "phone", "date_of_birth", "address", "card_number", "ip", "ssn", "iban"}
	count := 0
	for _, p := range readLines[person](t, "people.jsonl") {
		for _, field := range fields {
			sent, ok := p[field]
			if !ok {
				continue
			}
			want := sent
			switch field {
			case "phone":
				want = p["phone_e164"]
			case "email":
				local, domain, _ := strings.Cut(sent, "@")
				want = local + "@" + strings.ToLower(domain)
			}
			got, err := builtIn(t, field).Normalize(plain(sent), p["country"], now)
			if err != nil || text(got) != want {
				t.Errorf("%s %s: %v, or not as expected", p["customer_id"], field, err)
			}
			count++
		}
	}
	if count < 1500 {
		t.Errorf("only %d fields", count)
	}
}

func TestPresentGivesBytesBackAsBase64AndWipesThem(t *testing.T) {
	typ := builtIn(t, "bytes")
	value, err := typ.Normalize(plain("AP+A"), "", now)
	if err != nil {
		t.Fatal(err)
	}
	decoded := value.Bytes()
	if got := text(typ.Present(value)); got != "AP+A" {
		t.Errorf("got %q", got)
	}
	if !bytes.Equal(decoded, []byte{0, 0, 0}) {
		t.Error("the decoded bytes are still there")
	}
	name := plain("Ann")
	if got := builtIn(t, "name").Present(name); text(got) != "Ann" {
		t.Error("a name does not come back as it is")
	}
}

func TestNormalizeOfNoKindIsAnErrorAndMaskShowsNothing(t *testing.T) {
	none := pii.Type{Name: "x", Kind: "none"}
	if _, err := none.Normalize(plain("value"), "", now); !errors.Is(err, pii.ErrConfig) {
		t.Errorf("got %v", err)
	}
	if got := text(none.Mask(plain("value"))); got != "***" {
		t.Errorf("got %q", got)
	}
}
