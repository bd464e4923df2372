package httpapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"piivault/api"
	"piivault/internal/vault"
)

// problem is a refusal: fixed text, and the numbers of the items it is about.
type problem struct {
	status     int
	code       string
	detail     string
	pointer    string
	items      []vault.ItemError
	retryAfter time.Duration // of 429 and 503; 0: a second
	cause      error         // for the log
}

func problemNoRoute() *problem {
	return &problem{status: http.StatusNotFound, code: "no_such_route", detail: "There is no such path."}
}

func problemNotHere() *problem {
	return &problem{status: http.StatusNotFound, code: "not_served_here", detail: "This instance does not do this: another one does."}
}

func problemMethod() *problem {
	return &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", detail: "The path does not know this method: see Allow."}
}

func problemIdempotencyKey() *problem {
	return &problem{
		status: http.StatusBadRequest, code: "invalid_idempotency_key",
		detail: "Idempotency-Key must be sent once, as 22 to 200 characters of A-Z a-z 0-9 - . _ ~ that carry at least 128 random bits.",
	}
}

func problemCursor() *problem {
	return &problem{status: http.StatusUnprocessableEntity, code: "invalid_cursor", detail: "cursor must be sent once."}
}

func problemUnauthenticated() *problem {
	return &problem{status: http.StatusUnauthorized, code: "unauthenticated", detail: "A valid credential is needed."}
}

func problemMediaType() *problem {
	return &problem{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", detail: "The body must be application/json in UTF-8, not compressed."}
}

func problemBodySize() *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, code: "body_too_large", detail: "The body is larger than this operation takes."}
}

func problemBatchSize() *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, code: "batch_too_large", detail: "The batch has more items than this operation takes."}
}

func problemEmptyBatch() *problem {
	return &problem{status: http.StatusUnprocessableEntity, code: "empty_batch", detail: "items must hold at least one item."}
}

func problemOverloaded() *problem {
	return &problem{status: http.StatusServiceUnavailable, code: "overloaded", detail: "Too many requests at once. Nothing was done; retry."}
}

func problemInternal() *problem {
	return &problem{status: http.StatusInternalServerError, code: "internal", detail: "The request could not be completed."}
}

func malformed(code, detail string) *problem {
	return &problem{status: http.StatusBadRequest, code: code, detail: detail}
}

func unprocessable(code, detail string, items ...vault.ItemError) *problem {
	return &problem{status: http.StatusUnprocessableEntity, code: code, detail: detail, items: items}
}

// Error makes a problem an error, for handlers to return.
func (p *problem) Error() string { return "httpapi: " + p.code }

// problemOf is the one switch from error to HTTP.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var e *vault.Error
	if !errors.As(err, &e) {
		return unknown(err)
	}
	p = &problem{code: e.Code, detail: e.Message, items: e.Items, retryAfter: e.RetryAfter, cause: err}
	switch {
	case errors.Is(e.Kind, vault.ErrInvalid):
		p.status = http.StatusUnprocessableEntity
	case errors.Is(e.Kind, vault.ErrUnauthenticated):
		p.status = http.StatusUnauthorized
	case errors.Is(e.Kind, vault.ErrForbidden):
		p.status = http.StatusForbidden
	case errors.Is(e.Kind, vault.ErrNotFound):
		p.status = http.StatusNotFound
	case errors.Is(e.Kind, vault.ErrConflict):
		p.status = http.StatusConflict
	case errors.Is(e.Kind, vault.ErrOverBudget):
		p.status = http.StatusTooManyRequests
	case errors.Is(e.Kind, vault.ErrUnavailable):
		p.status = http.StatusServiceUnavailable
	case errors.Is(e.Kind, vault.ErrCorrupt):
		p.status = http.StatusInternalServerError
	default:
		return unknown(err)
	}
	return p
}

// unknown is an error that the domain did not classify. One of a deadline is
// the request's own; all others are faults with a fixed text.
func unknown(err error) *problem {
	p := problemInternal()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		p = &problem{status: http.StatusServiceUnavailable, code: "timeout", detail: "Not done in time; retry."}
	}
	p.cause = err
	return p
}

// refuse writes a problem, and tells the log of those that are the server's own.
func (s *server) refuse(x *exchange, p *problem) {
	h := x.Header()
	switch p.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="vault"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.retryAfter.Seconds())))))
	}
	switch {
	case p.cause == nil:
	case p.status == http.StatusInternalServerError:
		s.Logger.Error().Err(p.cause).Str("code", p.code).Str("request_id", x.id).Msg("a request failed")
	case p.status == http.StatusServiceUnavailable:
		s.Logger.Warn().Err(p.cause).Str("code", p.code).Str("request_id", x.id).Msg("a request could not be served now")
	}
	s.respond(x, p.status, "application/problem+json", &api.Problem{
		Type: "about:blank", Title: http.StatusText(p.status), Status: int32(p.status),
		Code: p.code, Detail: p.detail, Pointer: p.pointer, Items: problemItems(p.items), RequestID: x.id,
	})
}

func problemItems(items []vault.ItemError) []api.ProblemItem {
	if len(items) == 0 {
		return nil
	}
	out := make([]api.ProblemItem, len(items))
	for i, e := range items {
		out[i] = api.ProblemItem{Index: number32(e.Index), Code: e.Code, Message: e.Message, Retryable: e.Retryable}
	}
	return out
}
