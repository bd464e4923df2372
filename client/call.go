package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxAnswer is more than any answer of the contract: 100 values of 64 KiB,
// each byte escaped.
const maxAnswer = 64 << 20

// ErrAnswer reports an answer that is not what the contract says.
var ErrAnswer = errors.New("client: the answer is not what the contract says")

// Error is a refusal by the vault. Code is stable: see openapi.yaml. It is
// empty when the answer was no problem document, a proxy's for instance.
type Error struct {
	Status     int
	Code       string
	Detail     string
	Pointer    string // JSON Pointer into the request, where one is known
	RequestID  string
	Items      []ProblemItem
	RetryAfter time.Duration // 0: the answer did not say
}

func (e *Error) Error() string {
	text := fmt.Sprintf("vault: HTTP %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Temporary reports that the same request may succeed later.
func (e *Error) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
}

// NewIdempotencyKey returns 256 random bits as an Idempotency-Key.
func NewIdempotencyKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func call[T any](ctx context.Context, c *Client, send func(context.Context) (*http.Response, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		answer, err := once[T](ctx, c.timeout, send)
		var refusal *Error
		if !errors.As(err, &refusal) || !refusal.Temporary() || attempt >= c.retries {
			return answer, err
		}
		wait := refusal.RetryAfter
		if wait == 0 {
			wait = min(250*time.Millisecond<<attempt, c.maxWait)
		}
		if wait > c.maxWait {
			return answer, err
		}
		if c.sleep(ctx, wait) != nil {
			return answer, err // the refusal says more than that the caller's time is up
		}
	}
}

func once[T any](ctx context.Context, timeout time.Duration, send func(context.Context) (*http.Response, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := send(ctx)
	if err != nil {
		return answer, transportError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp.Body)
	if err != nil {
		return answer, err
	}
	defer clear(body)
	switch {
	case resp.StatusCode >= 300:
		return answer, problem(resp, body)
	case len(body) == 0 && resp.StatusCode == http.StatusAccepted:
		return answer, nil
	}
	return decode[T](bytes.NewReader(body))
}

// transportError keeps the cause and drops the URL; bodies are never in it.
func transportError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("client: send: %w", err)
}

func readAll(answer io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(answer, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("client: read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, ErrAnswer
	}
	return body, nil
}

// decode drops the decoder's error: its text may quote the answer.
func decode[T any](r io.Reader) (answer T, err error) {
	if json.NewDecoder(r).Decode(&answer) != nil {
		var none T
		return none, ErrAnswer
	}
	return answer, nil
}

func problem(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id"), RetryAfter: retryAfter(resp.Header)}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" {
		return e
	}
	if p, err := decode[Problem](bytes.NewReader(body)); err == nil {
		e.Code, e.Detail, e.Pointer, e.Items = p.Code, p.Detail, p.Pointer, p.Items
	}
	return e
}

// retryAfter reads either form of RFC 9110 §10.2.3; 0 where there is none.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
