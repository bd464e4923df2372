// Package awshttp is what every client of an AWS service here needs between
// the SDK and net/http.
package awshttp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// idleTimeout is below the 350 s after which AWS's load balancers and VPC
	// endpoints forget a connection without a word.
	idleTimeout = 90 * time.Second
	// dialTimeout bounds a dial that outlives the call it was begun for.
	dialTimeout = 3 * time.Second
)

// NewTransport keeps every connection it makes, up to conns, so that a burst
// does not pay for handshakes twice. HTTP/1.1 only, which is what the services
// speak: a call that hangs then costs its own connection and no other's call.
func NewTransport(conns int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		Protocols:             protocols,
		MaxConnsPerHost:       conns,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // ciphertext does not compress, and answers are small
	}
}

// NewClient follows no redirects: a body may hold a data key.
func NewClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// InMemory gives net/http a body that it knows to be in memory. From the SDK's
// own it sends the headers first and the body with a second system call, after
// which the SDK may close the body under net/http's last look at it: the
// request succeeds, and its connection is lost (smithy-go v1.28,
// safeWriteToReadCloser). It also lets net/http try another connection when
// one that was idle turns out closed before anything was sent.
type InMemory struct{ *http.Client }

// Do sends a request of the SDK, which makes one for each attempt. It wipes its
// copy of the body, which may hold a data key, when the first connection tried
// brings the answer 200: the service has read the body then. Otherwise net/http
// may still be sending it.
func (c InMemory) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 {
		return c.send(r)
	}
	body, again := make([]byte, r.ContentLength), false
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) {
		again = true
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	answer, err := c.send(r)
	if err == nil && answer.StatusCode == http.StatusOK && !again {
		clear(body)
	}
	return answer, err
}

func (c InMemory) send(r *http.Request) (*http.Response, error) {
	return c.Client.Do(r) //nolint:gosec // G704: the SDK made the request, for the configured endpoint
}
