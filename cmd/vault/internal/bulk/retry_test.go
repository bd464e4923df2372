package bulk_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

// try runs p over a call that fails with err so many times.
func try(ctx context.Context, limit time.Duration, err error, times int) (waits []time.Duration, calls int, result error) {
	p := bulk.Patience{
		For: limit, Jitter: func() float64 { return 0.5 }, Waiting: func(string, time.Duration) {},
		Sleep: func(ctx context.Context, d time.Duration) error { waits = append(waits, d); return ctx.Err() },
	}
	result = p.Do(ctx, func(context.Context) error {
		if calls++; calls <= times {
			return err
		}
		return nil
	})
	return waits, calls, result
}

func TestPatience(t *testing.T) {
	status := func(code int, after time.Duration) error { return &client.Error{Status: code, RetryAfter: after} }
	tests := []struct {
		name  string
		err   error
		waits string
		calls int
		fails bool
	}{
		{"no fault", nil, "[]", 1, false},
		{"network", errors.New("connection refused"), "[200ms 400ms 800ms]", 4, false},
		{"unavailable", status(503, 0), "[200ms 400ms 800ms]", 4, false},
		{"bad gateway", status(502, 0), "[200ms 400ms 800ms]", 4, false},
		{"told to wait", status(429, 2*time.Second), "[2s 2s 2s]", 4, false},
		{"told to wait too long", status(429, time.Hour), "[]", 1, true},
		{"refused", status(422, 0), "[]", 1, true},
		{"broken answer", client.ErrAnswer, "[]", 1, true},
		{"certificate", fmt.Errorf("send: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), "[]", 1, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			waits, calls, err := try(t.Context(), time.Minute, test.err, 3)
			if fmt.Sprint(waits) != test.waits || calls != test.calls || (err != nil) != test.fails {
				t.Errorf("waits %v, %d calls, error %v", waits, calls, err)
			}
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	waits, _, err := try(t.Context(), time.Minute, errors.New("connection refused"), 1000)
	var sum time.Duration
	for _, w := range waits {
		sum += w
	}
	if err == nil || sum > time.Minute || sum < 45*time.Second {
		t.Errorf("waited %v in all, error %v", sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, calls, err := try(ctx, time.Minute, nil, 0); calls != 1 || err != nil {
		t.Errorf("%d calls after the end, error %v", calls, err)
	}
	if _, calls, err := try(ctx, time.Minute, errors.New("connection refused"), 1); calls != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d calls after the end, error %v", calls, err)
	}
}

// The call under way when the run is to stop is not cut off.
func TestPatienceFinishesTheCallUnderWay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := bulk.Patience{Jitter: func() float64 { return 0 }}
	err := p.Do(ctx, func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	})
	if err != nil {
		t.Error(err)
	}
}

// G4: whatever a server writes, errors show only what looks like a code.
func TestDescribeShowsCodesOnly(t *testing.T) {
	err := &client.Error{
		Status: http.StatusUnprocessableEntity, Code: "ann@example.com", Detail: "ann@example.com", RequestID: "ann@example.com",
		Items: []client.ProblemItem{{Index: 3, Code: strings.Repeat("a", 65), Message: "ann@example.com"}},
	}
	if got, want := bulk.Describe(err), "the vault answered 422 unknown (item 3: unknown)"; got != want {
		t.Errorf("%q", got)
	}
	if got := bulk.SafeCode("not_found"); got != "not_found" {
		t.Errorf("%q", got)
	}
}
