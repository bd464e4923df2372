package bulk

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"piivault/client"
)

const (
	firstWait = 200 * time.Millisecond
	maxWait   = 10 * time.Second
)

// Patience says how long one exchange is tried again while the vault is
// unreachable (network errors, 502, 503, 504) or asks to wait (429).
type Patience struct {
	For    time.Duration // the sum of all waits at most
	Sleep  func(context.Context, time.Duration) error
	Jitter func() float64 // in [0,1)
	// Waiting is told why before each wait.
	Waiting func(why string, wait time.Duration)
}

// Do calls until it succeeds, fails for good, or patience ends. Once ctx is
// done there is no second call, but a first one is made and not cut off: its
// own time limit ends it, and its answer counts.
func (p Patience) Do(ctx context.Context, call func(context.Context) error) error {
	backoff, waited := firstWait, time.Duration(0)
	for {
		err := call(context.WithoutCancel(ctx))
		if err == nil || !retryable(err) {
			return err
		}
		wait := time.Duration(float64(backoff) * (0.5 + p.Jitter()))
		wait = max(wait, asked(err))
		if waited+wait > p.For {
			return err
		}
		p.Waiting(Describe(err), wait)
		if err := p.Sleep(ctx, wait); err != nil {
			return err
		}
		waited += wait
		backoff = min(2*backoff, maxWait)
	}
}

func retryable(err error) bool {
	var refusal *client.Error
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refusal):
		return refusal.Temporary() || refusal.Status == http.StatusBadGateway || refusal.Status == http.StatusGatewayTimeout
	case errors.Is(err, client.ErrAnswer), errors.As(err, &cert):
		return false
	}
	return true // nothing but the network is left
}

// asked is the Retry-After of a refusal.
func asked(err error) time.Duration {
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		return refusal.RetryAfter
	}
	return 0
}

// Describe says in a line why a call failed: of a refusal only the status and
// what looks like a code or a request id, so that no server can print what it
// likes through us.
func Describe(err error) string {
	var refusal *client.Error
	if !errors.As(err, &refusal) {
		return err.Error()
	}
	text := fmt.Sprintf("the vault answered %d %s", refusal.Status, SafeCode(refusal.Code))
	if len(refusal.Items) > 0 {
		text += fmt.Sprintf(" (item %d: %s)", refusal.Items[0].Index, SafeCode(refusal.Items[0].Code))
	}
	if isWord(refusal.RequestID, requestIDs) {
		text += " (request " + refusal.RequestID + ")"
	}
	return text
}

const (
	codes      = "abcdefghijklmnopqrstuvwxyz0123456789_"
	requestIDs = codes + "ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
)

// SafeCode returns code if it looks like one.
func SafeCode(code string) string {
	if !isWord(code, codes) {
		return "unknown"
	}
	return code
}

func isWord(text, alphabet string) bool {
	return text != "" && len(text) <= 64 && strings.Trim(text, alphabet) == ""
}
