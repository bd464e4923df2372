package secret

import (
	"fmt"
	"io"
)

const quoted = `"` + Redacted + `"`

func redact(w io.Writer) { _, _ = io.WriteString(w, Redacted) }

// String returns Redacted.
func (Plaintext) String() string { return Redacted }

// Format writes Redacted for every verb.
func (Plaintext) Format(s fmt.State, _ rune) { redact(s) }

// MarshalJSON returns Redacted as a JSON string.
func (Plaintext) MarshalJSON() ([]byte, error) { return []byte(quoted), nil }

// MarshalText returns Redacted.
func (Plaintext) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// String returns Redacted.
func (Key) String() string { return Redacted }

// Format writes Redacted for every verb.
func (Key) Format(s fmt.State, _ rune) { redact(s) }

// MarshalJSON returns Redacted as a JSON string.
func (Key) MarshalJSON() ([]byte, error) { return []byte(quoted), nil }

// MarshalText returns Redacted.
func (Key) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// String returns Redacted.
func (Text) String() string { return Redacted }

// Format writes Redacted for every verb.
func (Text) Format(s fmt.State, _ rune) { redact(s) }

// MarshalJSON returns Redacted as a JSON string.
func (Text) MarshalJSON() ([]byte, error) { return []byte(quoted), nil }

// MarshalText returns Redacted.
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
