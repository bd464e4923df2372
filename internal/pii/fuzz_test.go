package pii_test

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"piivault/internal/pii"
)

// checkNormalize holds what is true of every kind and any value.
func checkNormalize(tb testing.TB, kind string, value []byte, country string) {
	tb.Helper()
	typ := builtIn(tb, kind)
	code := codeOf(tb, typ, string(value), country)
	if code != "" {
		return
	}
	stored, err := typ.Normalize(plain(string(value)), country, now)
	if err != nil {
		tb.Fatal("refused the second time")
	}
	if stored.Len() == 0 || stored.Len() > typ.MaxBytes {
		tb.Errorf("%s: %d bytes stored", kind, stored.Len())
	}
	if mask := typ.Mask(stored); bytes.Contains(mask.Bytes(), stored.Bytes()) || !utf8.Valid(mask.Bytes()) {
		tb.Errorf("%s: the mask %q of %q", kind, mask.Bytes(), stored.Bytes())
	}
	presented := typ.Present(plain(text(stored)))
	if !utf8.Valid(presented.Bytes()) {
		tb.Errorf("%s: what a client gets is no text", kind)
	}
	if kind != "json" && !norm.NFC.IsNormal(presented.Bytes()) {
		tb.Errorf("%s: %+q is not in NFC", kind, presented.Bytes())
	}
	again, err := typ.Normalize(presented, country, now)
	if err != nil || !again.Equal(stored) {
		tb.Errorf("%s: %+q becomes %+q, then %+q (%v)", kind, value, stored.Bytes(), again.Bytes(), err)
	}
}

// FuzzNormalize covers every kind: the first argument picks it.
func FuzzNormalize(f *testing.F) {
	kinds := map[string]uint8{}
	for i, kind := range pii.Kinds() {
		kinds[kind] = uint8(i)
	}
	for _, file := range []string{"normalized.jsonl", "invalid.jsonl", "invalid_more.jsonl"} {
		for _, r := range readLines[row](f, file) {
			f.Add(kinds[r.Type], []byte(r.Value), r.Country)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, value []byte, country string) {
		checkNormalize(t, pii.Kinds()[int(kind)%len(kinds)], value, country)
	})
}

// Values that look like each kind: most random bytes never get past its first check.
func TestNormalizeIsStableForLikelyValues(t *testing.T) {
	shapes := map[string]string{
		"email":         `[a-zA-Z0-9é.+]{1,9}@[a-zA-ZäÖßİ0-9-]{1,8}\.[a-zA-Zñ]{2,4}`,
		"phone":         `(\+|00|\(\+)?[ 0-9()/.-]{3,18}`,
		"name":          `[\pL\pM' \x{200c}-]{1,20}`,
		"address":       `[\pL\pM\pN ,\n]{1,40}`,
		"date_of_birth": `(18|19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]`,
		"ssn":           `[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}`,
		"national_id":   `[\p{Latin}\p{Nd} ./-]{3,33}`,
		"card_number":   `([0-9] ?-?){13,19}`,
		"iban":          `(ie|GB|NO|zz)[0-9]{2}[ A-Za-z0-9]{11,30}`,
		"ip":            `(::)?([0-9a-fF]{1,4}:){0,8}([0-9]{1,3}\.){0,4}[0-9a-f]{0,3}`,
		"text":          `[\pL\pM\x{ac00}-\x{ac20}\x{1100}-\x{11ff}]{1,20}`,
		"json":          `[{\["]*("[a-z\\u]{0,9}":)?[0-9.e-]{0,4}["\]}]*`,
		"bytes":         `([A-Za-z0-9+/]{4}){0,5}([A-Za-z0-9+/]{2}==)?`,
	}
	for _, kind := range pii.Kinds() {
		shape := rapid.StringMatching(shapes[kind])
		rapid.Check(t, func(rt *rapid.T) {
			country := rapid.SampledFrom([]string{"", "IE", "us", "JP", "BR", "PL", "FR", "AR", "MX", "XX"}).Draw(rt, "country")
			checkNormalize(t, kind, []byte(shape.Draw(rt, kind)), country)
		})
	}
}

func BenchmarkNormalize(b *testing.B) {
	for _, kind := range []string{"email", "phone", "name", "iban", "card_number", "ip", "json"} {
		typ := builtIn(b, kind)
		value := plain(map[string]string{
			"email": "Ann.Example@Example.com", "phone": "+353850265481", "name": "Ann Example", "iban": "IE29AIBK93115212345678",
			"card_number": "4111 1111 1111 1111", "ip": "192.0.2.44", "json": `{"a":[1,2,{"b":"c"}]}`,
		}[kind])
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := typ.Normalize(value, "", now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
