package pii_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/pii"
	"piivault/internal/secret"
)

type tokenVectors struct {
	Valid   []struct{ Env, Type, Hint, Secret, Text string }
	Invalid []struct{ Text, Why string }
}

func readTokens(tb testing.TB) tokenVectors {
	tb.Helper()
	var v tokenVectors
	b, err := os.ReadFile("testdata/tokens.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || len(v.Valid) == 0 || len(v.Invalid) == 0 {
		tb.Fatal("no vectors", err)
	}
	return v
}

func TestGoldenTokens(t *testing.T) {
	v := readTokens(t)
	for _, c := range v.Valid {
		want := pii.Token{Env: c.Env, Type: c.Type, Hint: c.Hint}
		if _, err := hex.Decode(want.Secret[:], []byte(c.Secret)); err != nil {
			t.Fatal(err)
		}
		if got := want.Text().Reveal(); got != c.Text {
			t.Errorf("the text is %q, want %q", got, c.Text)
		}
		if got, err := pii.ParseToken(secret.NewText(c.Text)); err != nil || got != want {
			t.Errorf("%q parses to another token: %v", c.Text, err)
		}
	}
	for _, c := range v.Invalid {
		if got, err := pii.ParseToken(secret.NewText(c.Text)); !errors.Is(err, pii.ErrToken) || got != (pii.Token{}) {
			t.Errorf("%s: %v", c.Why, err)
		}
	}
}

func anyToken(t *rapid.T) pii.Token {
	return pii.Token{
		Env:    rapid.StringMatching(`[a-z0-9]{1,8}`).Draw(t, "env"),
		Type:   rapid.StringMatching(`[a-z][a-z0-9_]{0,31}`).Draw(t, "type"),
		Hint:   rapid.StringMatching(`[a-z0-9-]{1,32}`).Draw(t, "hint"),
		Secret: [pii.TokenSecretSize]byte(rapid.SliceOfN(rapid.Byte(), pii.TokenSecretSize, pii.TokenSecretSize).Draw(t, "secret")),
	}
}

func TestTokensRoundTripAndHaveOneSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyToken(t)
		text := want.Text().Reveal()
		if len(text) > pii.MaxTokenLen || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
			t.Fatal("the text is too long or not URL-safe")
		}
		if got, err := pii.ParseToken(secret.NewText(text)); err != nil || got != want {
			t.Fatalf("does not round-trip: %v", err)
		}
		// One byte changed is another token or none, never the same one.
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		other := []byte(text)
		other[i] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		if got, err := pii.ParseToken(secret.NewText(string(other))); err == nil && got == want {
			t.Fatal("a second spelling")
		}
	})
}

// G4: a token prints as REDACTED.
func TestTokensAreRedacted(t *testing.T) {
	token := pii.Token{Env: "dev", Type: "email", Hint: "any", Secret: [24]byte([]byte("canary-canary-canary-123"))}
	encoded, err := json.Marshal(struct{ T pii.Token }{token})
	if err != nil {
		t.Fatal(err)
	}
	out := token.String() + string(encoded) + fmt.Sprintf("%v %+v %#v %s %x %d", token, &token, []any{token}, token, token, token)
	bits := token.Text().Reveal()
	for _, leak := range []string{"canary", "63616e617279", "99 97 110", bits[len(bits)-32:]} {
		if strings.Contains(out, leak) {
			t.Errorf("a printed form shows %s", leak)
		}
	}
}

func TestCheckPlace(t *testing.T) {
	for _, c := range []struct {
		env, region string
		ok          bool
	}{
		{"dev", "eu-west-1", true},
		{"prod2024", strings.Repeat("r", 32), true},
		{"", "eu-west-1", false},
		{"dev", "", false},
		{"prod-2024", "eu-west-1", false},
		{"prod20244", "eu-west-1", false},
		{"dev", "eu.west", false},
		{"dev", pii.AnyRegion, false},
	} {
		if err := pii.CheckPlace(c.env, c.region); (err == nil) != c.ok || (err != nil && !errors.Is(err, pii.ErrPlace)) {
			t.Errorf("%q %q: %v", c.env, c.region, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	v := readTokens(f)
	for _, c := range v.Valid {
		f.Add(c.Text)
	}
	for _, c := range v.Invalid {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := pii.ParseToken(secret.NewText(text))
		if err == nil && token.Text().Reveal() != text {
			t.Error("a second spelling was accepted")
		}
	})
}

func BenchmarkParseToken(b *testing.B) {
	text := secret.NewText("dev.email.eu-west-1." + strings.Repeat("a", 32))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pii.ParseToken(text); err != nil {
			b.Fatal(err)
		}
	}
}
