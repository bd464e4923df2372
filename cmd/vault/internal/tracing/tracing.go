// Package tracing sends an instance's spans to an OpenTelemetry collector by
// OTLP over HTTP (OpenTelemetry Protocol 1, binary protobuf). It knows one
// span a request and one a call of a dependency below it; what a span can say
// is closed (Span), unlike the attributes of OpenTelemetry's SDK.
//
// Nothing waits for a collector: what it does not take is dropped and counted.
package tracing

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	queued       = 4096 // spans that may wait for the exporter
	batched      = 512  // spans a call
	flushEvery   = 5 * time.Second
	callTimeout  = 10 * time.Second
	closeTimeout = 5 * time.Second
)

// Config of a Tracer. Every field is required.
type Config struct {
	Endpoint string  // of the collector: http://localhost:4318; /v1/traces is appended
	Sample   float64 // share of the traces that are recorded, 0 to 1
	Region   string  // this instance's, its name, and the program's version
	Instance string
	Version  string
	Now      func() time.Time
	Random   io.Reader // for ids; safe for concurrent use
	Logger   zerolog.Logger
}

// Tracer records and exports spans. It is safe for concurrent use. A nil one
// does nothing.
type Tracer struct {
	cfg     Config
	url     string
	client  *http.Client
	spans   chan *Span
	dropped atomic.Int64
	stop    chan struct{}
	closed  sync.Once
	cancel  context.CancelFunc // ends a call of the exporter
	done    chan struct{}      // the exporter has ended
}

// New starts the exporter, which Close ends, and not the end of ctx.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || cfg.Sample < 0 || cfg.Sample > 1 {
		return nil, errors.New("tracing: the URL of a collector and a share from 0 to 1 are needed")
	}
	t := &Tracer{
		cfg: cfg, url: strings.TrimSuffix(cfg.Endpoint, "/") + "/v1/traces",
		client: &http.Client{
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		spans: make(chan *Span, queued), stop: make(chan struct{}), done: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	go t.run(ctx)
	return t, nil
}

// Close exports what is waiting, for a few seconds at most, and ends.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	t.closed.Do(func() { close(t.stop) })
	timer := time.AfterFunc(closeTimeout, t.cancel)
	<-t.done
	timer.Stop()
	t.cancel()
	t.client.CloseIdleConnections()
}

// Handler gives next a span for each sampled request. A caller's trace
// (traceparent) is continued; whether it is recorded is decided by its id, as
// every service with the same share decides, unless the caller does not record it.
func (t *Tracer) Handler(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := t.request(r.Header.Get("Traceparent"))
		if s == nil {
			next.ServeHTTP(w, r)
			return
		}
		defer func() { s.End(outcomeOf(s.status)) }()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, s)))
	})
}

// request begins a request's span, nil where it is not sampled.
func (t *Tracer) request(header string) *Span {
	s := &Span{tracer: t, server: true, name: "request"}
	trace, parent, sampled, ok := fromHeader(header)
	switch {
	case ok && !sampled:
		return nil
	case ok:
		s.trace, s.parent = trace, parent
	default:
		t.draw(s.trace[:])
	}
	// The share of ids as OpenTelemetry's TraceIdRatioBased takes it.
	if binary.BigEndian.Uint64(s.trace[8:])>>1 >= uint64(t.cfg.Sample*math.MaxInt64) && t.cfg.Sample < 1 {
		return nil
	}
	t.draw(s.id[:])
	s.begun = t.cfg.Now()
	return s
}

func outcomeOf(status int) string {
	if status >= http.StatusInternalServerError {
		return "refused"
	}
	return ""
}

// draw makes an id. Ids need not be secret: without randomness there are none,
// and a collector refuses the span.
func (t *Tracer) draw(id []byte) { _, _ = io.ReadFull(t.cfg.Random, id) }

// hand queues a span, or drops it.
func (t *Tracer) hand(s *Span) {
	select {
	case t.spans <- s:
	default:
		t.dropped.Add(1)
	}
}
