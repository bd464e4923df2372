// Package pii knows the kinds of personal data: how each is normalized,
// validated and masked, and the grammar of the tokens that stand for them.
package pii

import (
	"time"
)

// TokenFormat is how a type's tokens are made.
type TokenFormat string

// The token formats.
const (
	Random        TokenFormat = "random"
	Deterministic TokenFormat = "deterministic"
)

// DataKeyPolicy says how many fields may share a data key. The zero value is per_field.
type DataKeyPolicy struct {
	Reuse       bool
	MaxMessages int
	MaxBytes    int64
	MaxAge      time.Duration
}

// Type is a configured kind of PII.
type Type struct {
	Name           string // [a-z][a-z0-9_]{0,31}
	Kind           string // a built-in kind: email, phone, name, …
	Token          TokenFormat
	Bound          bool // sealed under the token too; random tokens only
	DataKey        DataKeyPolicy
	TTL            time.Duration // default time to live; 0: none
	MaxBytes       int           // of the normalized value, in UTF-8
	AcceptGuessing bool          // required for deterministic tokens of a low-entropy kind
}

// ValueError refuses a value. Code is stable (docs: openapi.yaml); neither it
// nor the message quotes the value.
type ValueError struct{ Code, Message string }

func (e *ValueError) Error() string { return "pii: " + e.Code }
