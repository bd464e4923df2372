package pii

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"piivault/internal/secret"
)

// TokenSecretSize is the length of a token's secret in bytes: 192 bits.
const TokenSecretSize = 24

// MaxTokenLen is the length of the longest token in bytes.
const MaxTokenLen = maxEnv + 1 + maxName + 1 + maxHint + 1 + tokenSecretText

// AnyRegion is the hint of a token that may have been made in any region:
// a deterministic one, or one made under an idempotency key. No region may
// bear this name.
const AnyRegion = "any"

const (
	maxEnv          = 8
	maxName         = 32
	maxHint         = 32
	tokenSecretText = TokenSecretSize / 3 * 4 // base64url without padding
)

// ErrToken reports a text that is not a token. It never quotes the text.
var ErrToken = errors.New("pii: not a token")

// ErrPlace reports an environment or a region name that does not fit into a token.
var ErrPlace = errors.New("pii: an environment is 1 to 8 of a-z 0-9; a region is 1 to 32 of a-z 0-9 - and not \"any\"")

// Token is the four parts of a random or deterministic token (format.md §4).
// Its text is the secret that opens a bound value: a Token prints as REDACTED,
// but fmt cannot be kept from one in an unexported field; keep its Text there.
type Token struct {
	Env    string                // environment, [a-z0-9]{1,8}
	Type   string                // name of the type
	Hint   string                // region that made it, [a-z0-9-]{1,32}, or AnyRegion
	Secret [TokenSecretSize]byte // random, or an HMAC
}

// Text returns env.type.hint.secret. It is canonical: ParseToken of it gives t
// when the first three parts fit the grammar (CheckPlace, NewCatalog), and no
// other text does. The whole text is what crypto takes as the binding secret.
func (t Token) Text() secret.Text {
	b := make([]byte, 0, MaxTokenLen)
	b = append(append(b, t.Env...), '.')
	b = append(append(b, t.Type...), '.')
	b = append(append(b, t.Hint...), '.')
	return secret.NewText(string(base64.RawURLEncoding.AppendEncode(b, t.Secret[:])))
}

// ParseToken is the inverse of Token.Text; any other text is ErrToken. That
// the type exists is for the caller to look up.
func ParseToken(text secret.Text) (Token, error) {
	s := text.Reveal()
	var t Token
	var bits string
	var ok [3]bool
	t.Env, s, ok[0] = strings.Cut(s, ".")
	t.Type, s, ok[1] = strings.Cut(s, ".")
	t.Hint, bits, ok[2] = strings.Cut(s, ".")
	if ok != [3]bool{true, true, true} || !validEnv(t.Env) || !validName(t.Type) || !validHint(t.Hint) {
		return Token{}, ErrToken
	}
	// 32 characters are exactly 24 bytes: no unused bits, and a line break,
	// which the decoder would skip, leaves too few.
	if len(bits) != tokenSecretText {
		return Token{}, ErrToken
	}
	n, err := base64.RawURLEncoding.Decode(t.Secret[:], []byte(bits))
	if err != nil || n != TokenSecretSize {
		return Token{}, ErrToken
	}
	return t, nil
}

// CheckPlace tells whether an environment and a region's name fit into a
// token, else ErrPlace; whoever reads them from a config asks once.
func CheckPlace(env, region string) error {
	if !validEnv(env) || !validHint(region) || region == AnyRegion {
		return ErrPlace
	}
	return nil
}

// String returns secret.Redacted.
func (Token) String() string { return secret.Redacted }

// Format writes secret.Redacted for every verb.
func (Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(secret.Redacted)) }

// MarshalText returns secret.Redacted; encoders of JSON ask it too.
func (Token) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }

func validEnv(s string) bool {
	return len(s) >= 1 && len(s) <= maxEnv && consistsOf(s, func(c byte) bool { return isLower(c) || isDigit(c) })
}

func validHint(s string) bool {
	return len(s) >= 1 && len(s) <= maxHint && consistsOf(s, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

func validName(s string) bool {
	return len(s) >= 1 && len(s) <= maxName && isLower(s[0]) &&
		consistsOf(s, func(c byte) bool { return isLower(c) || isDigit(c) || c == '_' })
}

func consistsOf[T string | []byte](s T, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
