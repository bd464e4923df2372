package authz

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// vectors is testdata/control_bodies.json (format.md §6).
type vectors struct {
	Key struct {
		Random     []byte // what the credential was drawn from
		ID         string
		Credential string
		Hash       string
	}
	Valid   []vector
	Invalid []vector
}

type vector struct {
	Why  string
	Kind Kind
	ID   string
	Body string
}

func readVectors(tb testing.TB) (v vectors) {
	tb.Helper()
	b, err := os.ReadFile("testdata/control_bodies.json")
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		tb.Fatal(err)
	}
	return v
}

// recode decodes a stored body and encodes it again.
func recode(kind Kind, id string, stored []byte) ([]byte, error) {
	var body any
	var err error
	switch {
	case kind == KindKey:
		body, _, err = decodeKeyBody(stored)
	case kind == KindRevocation:
		body, err = decodeRevocationBody(stored)
	case kind == KindStop:
		body, err = decodeStopBody(stored)
	case kind == KindResume:
		body, err = decodeResumeBody(stored)
	case kind == KindRetirement:
		body, err = decodeRetirementBody(stored)
	case kind == KindSuspension:
		body, err = decodeSuspensionBody(stored)
	case kind == KindReinstated:
		body, err = decodeReinstatedBody(stored)
	case kind == KindLastUse:
		body, err = decodeLastUseBody(stored)
	case kind == KindTenant && isID(id):
		body, err = decodeTenantBody(stored)
	case kind == KindTenant:
		body, err = decodeActivationBody(stored)
	default:
		body, err = decodeAliasBody(stored)
	}
	if err != nil {
		return nil, err
	}
	return encodeBody(body)
}

func TestBodyVectors(t *testing.T) {
	v := readVectors(t)
	for _, x := range v.Valid {
		if b, err := recode(x.Kind, x.ID, []byte(x.Body)); err != nil || string(b) != x.Body {
			t.Errorf("%s %s: %s: %v", x.Kind, x.ID, b, err)
		}
	}
	for _, x := range v.Invalid {
		if _, err := recode(x.Kind, x.ID, []byte(x.Body)); !errors.Is(err, errBody) {
			t.Errorf("%s: %s: got %v", x.Kind, x.Why, err)
		}
	}
	if len(v.Valid) < 6 || len(v.Invalid) < 30 {
		t.Errorf("only %d and %d vectors", len(v.Valid), len(v.Invalid))
	}
}

func TestCredentialVector(t *testing.T) {
	v := readVectors(t).Key
	id, secretText, err := newCredential(bytes.NewReader(v.Random))
	if err != nil {
		t.Fatal(err)
	}
	hash := hashCredential(id, secretText)
	if id != v.ID || credential(id, secretText).Reveal() != v.Credential ||
		base64.RawURLEncoding.EncodeToString(hash[:]) != v.Hash {
		t.Errorf("got %s, %s, %x", id, credential(id, secretText).Reveal(), hash)
	}
}

func TestParseCredentialIsStrict(t *testing.T) {
	good := readVectors(t).Key.Credential
	if _, _, ok := parseCredential(good); !ok {
		t.Fatal("the good one is refused")
	}
	for i := range len(good) {
		for _, c := range []string{"A", "1", "8", "-", "_", "=", " ", "\x00", "\xff"} {
			if s := good[:i] + c + good[i+1:]; s != good {
				if _, _, ok := parseCredential(s); ok {
					t.Errorf("%q is accepted as character %d", c, i)
				}
			}
		}
		if _, _, ok := parseCredential(good[:i]); ok {
			t.Errorf("%d characters are accepted", i)
		}
	}
}

func drawID(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-z2-7]{26}`).Draw(t, label)
}

func drawTime(t *rapid.T, label string) int64 {
	return rapid.Int64Range(1, 1<<53).Draw(t, label)
}

// Whatever is written is read back as it was.
func TestKeyBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hash digest
		copy(hash[:], rapid.SliceOfN(rapid.Byte(), len(hash), len(hash)).Draw(t, "hash"))
		roles, err := canonicalRoles(rapid.SliceOfN(rapid.SampledFrom(Roles()), 1, 9).Draw(t, "roles"))
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.String().Filter(func(s string) bool { return checkName(s) == nil }).Draw(t, "name")
		want := keyBody{
			bodyVersion, drawID(t, "tenant"), name, roles,
			base64.RawURLEncoding.EncodeToString(hash[:]), drawTime(t, "created"), drawTime(t, "expires") - 1, nil,
		}
		if rapid.Bool().Draw(t, "own budget") {
			n := rapid.Int64Range(0, MaxLimit).Draw(t, "limit")
			l := DefaultLimits().Principal
			l.Plain, l.Subjects = Limit{n / 2, n}, Limit{n, n}
			want.Budget = newBudgetBody(&l)
		}
		b, err := encodeBody(want)
		if err != nil {
			t.Fatal(err)
		}
		got, gotHash, err := decodeKeyBody(b)
		if err != nil || gotHash != hash || !slices.Equal(got.Roles, want.Roles) || !reflect.DeepEqual(got.Budget.limits(), want.Budget.limits()) {
			t.Fatalf("%s: %v", b, err)
		}
		if again, err := encodeBody(got); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
	})
}

// No byte of a stored body can change and leave it readable as what it was.
func TestEveryChangedByteOfABodyIsSeen(t *testing.T) {
	for _, x := range readVectors(t).Valid {
		for i := range len(x.Body) {
			for bit := range 8 {
				b := []byte(x.Body)
				b[i] ^= 1 << bit
				if again, err := recode(x.Kind, x.ID, b); err == nil && string(again) == x.Body {
					t.Fatalf("%s: bit %d of byte %d is not seen", x.Kind, bit, i)
				}
			}
			if _, err := recode(x.Kind, x.ID, []byte(x.Body[:i])); err == nil {
				t.Fatalf("%s: cut to %d bytes it is still read", x.Kind, i)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	v := readVectors(f)
	for _, x := range slices.Concat(v.Valid, v.Invalid) {
		f.Add(string(x.Kind), x.ID, []byte(x.Body))
	}
	f.Fuzz(func(t *testing.T, kind, id string, body []byte) {
		if again, err := recode(Kind(kind), id, body); err == nil && !bytes.Equal(again, body) {
			t.Errorf("%q was read, and written as %q", body, again)
		}
	})
}

func FuzzCredential(f *testing.F) {
	f.Add(readVectors(f).Key.Credential)
	f.Add("pvk_")
	f.Fuzz(func(t *testing.T, s string) {
		if id, secretText, ok := parseCredential(s); ok && credential(id, secretText).Reveal() != s {
			t.Errorf("%q was read as %q and %q", s, id, secretText)
		}
	})
}
