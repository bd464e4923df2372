// Package secret holds the three kinds of bytes that must never be printed: a
// value, a key, and a text such as a token or a credential. Every printed form
// of them (fmt with any verb and at any depth, JSON, text, logs) is the word
// REDACTED, so that a leak takes effort; each is wiped by its owner when done.
//
// Go moves and copies memory as it likes (stack growth, strings, garbage
// collection), so wiping shortens the life of a secret and does not promise
// its end: docs/threat-model.md says what follows.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// Redacted is what every secret prints as.
const Redacted = "REDACTED"

// KeySize is the length of a Key in bytes.
const KeySize = 32

// ErrKeySize reports key material that is not KeySize bytes long.
var ErrKeySize = errors.New("secret: a key must be 32 bytes")

// Plaintext is a value that a client entrusted to the vault. The zero
// Plaintext is empty. Like its siblings it keeps its bytes behind a function:
// fmt prints the unexported fields of an enclosing struct without asking their
// methods, follows pointers when a verb does not fit, and prints no more of a
// function than its address.
type Plaintext struct{ at func() *[]byte }

// NewPlaintext takes ownership of b: Wipe clears it.
func NewPlaintext(b []byte) Plaintext { return Plaintext{func() *[]byte { return &b }} }

// Bytes returns the value itself, not a copy; it is valid until Wipe.
func (p Plaintext) Bytes() []byte {
	if p.at == nil {
		return nil
	}
	return *p.at()
}

// Len is the value's length in bytes.
func (p Plaintext) Len() int { return len(p.Bytes()) }

// Equal compares in time that depends on the lengths only.
func (p Plaintext) Equal(q Plaintext) bool {
	return subtle.ConstantTimeCompare(p.Bytes(), q.Bytes()) == 1
}

// Wipe overwrites the value with zeros and empties it.
func (p Plaintext) Wipe() {
	if p.at != nil {
		b := p.at()
		clear(*b)
		*b = nil
	}
}

// Key is 32 bytes of key material: a data key, a tenant secret, or a key
// derived from one. The zero Key holds nothing and IsZero.
type Key struct{ at func() *[KeySize]byte }

func keyOf(b [KeySize]byte) Key { return Key{func() *[KeySize]byte { return &b }} }

// NewKey copies b, which must be KeySize bytes long, and leaves b to its owner.
func NewKey(b []byte) (Key, error) {
	if len(b) != KeySize {
		return Key{}, ErrKeySize
	}
	return keyOf([KeySize]byte(b)), nil
}

// GenerateKey reads a Key from a cryptographic source of randomness.
func GenerateKey(random io.Reader) (Key, error) {
	k := keyOf([KeySize]byte{})
	if _, err := io.ReadFull(random, k.Bytes()); err != nil {
		return Key{}, fmt.Errorf("secret: generate a key: %w", err)
	}
	return k, nil
}

// Bytes returns the key material itself, not a copy; nil for the zero Key.
func (k Key) Bytes() []byte {
	if k.at == nil {
		return nil
	}
	return k.at()[:]
}

// IsZero reports a Key that was never given material.
func (k Key) IsZero() bool { return k.at == nil }

// Clone returns a copy that is wiped on its own.
func (k Key) Clone() Key {
	if k.at == nil {
		return Key{}
	}
	return keyOf(*k.at())
}

// Equal compares in constant time.
func (k Key) Equal(l Key) bool {
	return subtle.ConstantTimeCompare(k.Bytes(), l.Bytes()) == 1
}

// Wipe overwrites the material with zeros.
func (k Key) Wipe() {
	clear(k.Bytes())
}

// Text is a secret that travels as a string: a token, a credential, an
// idempotency key. Strings cannot be wiped, so its life is the request's.
type Text struct{ at func() string }

// NewText hides s.
func NewText(s string) Text { return Text{func() string { return s }} }

// Reveal returns the text; the one way to see it.
func (t Text) Reveal() string {
	if t.at == nil {
		return ""
	}
	return t.at()
}

// IsZero reports a Text that is absent or empty.
func (t Text) IsZero() bool { return t.Reveal() == "" }

// Equal compares in time that depends on the lengths only.
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(u.Reveal())) == 1
}
