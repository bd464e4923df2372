package vault

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of failure a caller can tell apart; httpapi maps each to a status.
var (
	ErrInvalid         = errors.New("invalid")         // 422, or 400 for a malformed request
	ErrUnauthenticated = errors.New("unauthenticated") // 401
	ErrForbidden       = errors.New("forbidden")       // 403
	ErrNotFound        = errors.New("not found")       // 404
	ErrConflict        = errors.New("conflict")        // 409
	ErrUnavailable     = errors.New("unavailable")     // 503
)

// Error is a refusal with a stable code. Message is fixed text: it never
// quotes what was sent.
type Error struct {
	Kind       error
	Code       string
	Message    string
	RetryAfter time.Duration // of ErrUnavailable; 0: a second
	Items      []ItemError   // of a batch refused as a whole, by index
	Cause      error         // for the log, never for the caller
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("vault: %s: %v", e.Code, e.Cause)
	}
	return "vault: " + e.Code
}

// Unwrap gives the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Cause} }

// ItemError is one item's refusal.
type ItemError struct {
	Index     int
	Code      string
	Message   string
	Retryable bool
}
