package vault

import (
	"errors"
	"fmt"
	"time"

	"piivault/internal/crypto"
)

// The kinds of failure a caller can tell apart; httpapi maps each to a status.
var (
	ErrInvalid         = errors.New("invalid")         // 422
	ErrUnauthenticated = errors.New("unauthenticated") // 401
	ErrForbidden       = errors.New("forbidden")       // 403
	ErrNotFound        = errors.New("not found")       // 404
	ErrConflict        = errors.New("conflict")        // 409
	ErrOverBudget      = errors.New("over budget")     // 429
	ErrUnavailable     = errors.New("unavailable")     // 503
	ErrCorrupt         = errors.New("corrupt")         // 500
)

// Error is a refusal with a stable code. Message is fixed text: it never
// quotes what was sent.
type Error struct {
	Kind       error
	Code       string
	Message    string
	RetryAfter time.Duration // of ErrUnavailable and ErrOverBudget; 0: a second
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
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// ItemError is one item's refusal.
type ItemError struct {
	Index     int
	Code      string
	Message   string
	Retryable bool
}

func invalid(code, message string) *Error {
	return &Error{Kind: ErrInvalid, Code: code, Message: message}
}

func forbidden() *Error {
	return &Error{Kind: ErrForbidden, Code: "forbidden", Message: "The credential does not carry the right to do this."}
}

func unavailable(code string, cause error) *Error {
	return &Error{Kind: ErrUnavailable, Code: code, Message: "The vault cannot do this now. Nothing was released; retry.", Cause: cause}
}

func auditUnavailable(cause error) *Error { return unavailable("audit_unavailable", cause) }

// itemsRefused is a batch refused because of some of its items: with their
// code where they all have the same.
func itemsRefused(kind error, items []ItemError) *Error {
	e := &Error{Kind: kind, Code: items[0].Code, Message: "Some items were refused, so nothing was stored or released. Each is listed with its index.", Items: items}
	for _, item := range items {
		if item.Code != e.Code {
			e.Code = "invalid_request"
		}
	}
	return e
}

// itemsOverBudget refuses a batch for a budget that is spent. It lists no
// items: which of them exist is what a spent budget no longer tells.
func itemsOverBudget(retryAfter time.Duration) *Error {
	if retryAfter == 0 {
		retryAfter = 24 * time.Hour // the limit is 0: it may be another tomorrow
	}
	return &Error{Kind: ErrOverBudget, Code: "over_budget", Message: overBudgetMessage, RetryAfter: retryAfter}
}

// kmsCode names why no KMS opened or wrapped a data key.
func kmsCode(err error) string {
	switch {
	case errors.Is(err, crypto.ErrTooFewCopies):
		return "too_few_copies"
	case errors.Is(err, crypto.ErrDenied), errors.Is(err, crypto.ErrDisabled):
		return "kms_denied"
	default:
		return "kms_unavailable"
	}
}
