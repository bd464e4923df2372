// Package awshttp is what every client of an AWS service here needs between
// the SDK and net/http.
package awshttp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// InMemory gives net/http a body that it knows to be in memory. From the SDK's
// own it sends the headers first and the body with a second system call, after
// which the SDK may close the body under net/http's last look at it: the
// request succeeds, and its connection is lost (smithy-go v1.28,
// safeWriteToReadCloser). It also lets net/http try another connection when
// one that was idle turns out closed before anything was sent.
type InMemory struct{ *http.Client }

// Do sends a request of the SDK, which makes one for each attempt.
func (c InMemory) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.ContentLength > 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return c.Client.Do(r) //nolint:gosec // G704: the SDK made the request, for the configured endpoint
}
