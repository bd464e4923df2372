package tracing_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"piivault/cmd/vault/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a collector.
type sink struct {
	*httptest.Server
	mu    sync.Mutex // guards spans
	spans []*otlp.Span
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var got collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &got) != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("not OTLP: %s %v", r.URL.Path, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range got.ResourceSpans {
			for _, scope := range r.ScopeSpans {
				s.spans = append(s.spans, scope.Spans...)
			}
		}
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(s.Close)
	return s
}

func newTracer(t *testing.T, endpoint string, sample float64, log io.Writer) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.New(t.Context(), tracing.Config{
		Endpoint: endpoint, Sample: sample, Region: "eu-west-1", Instance: "one", Version: "test",
		Now: time.Now, Random: rand.Reader, Logger: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	return tracer
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

// serve lets a request pass that takes one step.
func serve(t *testing.T, tracer *tracing.Tracer, traceparent string) {
	t.Helper()
	h := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		step := tracing.Start(r.Context(), "store.read", "us-east-1")
		step.SetItems(3)
		step.End("failed")
		tracing.Of(r.Context()).SetAnswer("/v1/types", http.StatusServiceUnavailable)
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/types", http.NoBody)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestSpans(t *testing.T) {
	s := newSink(t)
	tracer := newTracer(t, s.URL, 1, io.Discard)
	serve(t, tracer, "00-"+traceID+"-"+spanID+"-01")
	tracer.Close()
	if len(s.spans) != 2 {
		t.Fatalf("%d spans", len(s.spans))
	}
	step, request := s.spans[0], s.spans[1]
	if string(step.ParentSpanId) != string(request.SpanId) || string(step.TraceId) != string(request.TraceId) || len(request.SpanId) != 8 {
		t.Error("the step is not the request's")
	}
	if got := attributes(request); got != "http.route=/v1/types http.response.status_code=503 error.type=refused " || request.Name != "/v1/types" ||
		request.Kind != otlp.Span_SPAN_KIND_SERVER || request.Status.Code != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("request: %s %v", got, request)
	}
	if got := attributes(step); got != "vault.of=us-east-1 vault.items=3 error.type=failed " || step.Name != "store.read" || step.EndTimeUnixNano < step.StartTimeUnixNano {
		t.Errorf("step: %s %v", got, step)
	}
}

func attributes(s *otlp.Span) string {
	var b strings.Builder
	for _, a := range s.Attributes {
		b.WriteString(a.Key + "=" + a.Value.GetStringValue())
		if n := a.Value.GetIntValue(); n != 0 {
			b.WriteString(map[int64]string{503: "503", 3: "3"}[n])
		}
		b.WriteString(" ")
	}
	return b.String()
}

// A caller that does not record its trace has none here; a header that is none
// begins a trace of our own.
func TestTraceparent(t *testing.T) {
	for header, want := range map[string]struct {
		spans     int
		continued bool
	}{
		"":                                     {2, false},
		"00-" + traceID + "-" + spanID + "-00": {0, false},
		"00-" + traceID + "-" + spanID + "-03": {2, true},
		"01-" + traceID + "-" + spanID + "-01-later":            {2, true},
		"00-" + traceID + "-" + spanID + "-01-later":            {2, false},
		"ff-" + traceID + "-" + spanID + "-01":                  {2, false},
		"00-" + strings.ToUpper(traceID) + "-" + spanID + "-01": {2, false},
		"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01":  {2, false},
		"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01": {2, false},
		"00-" + traceID[:31] + "x-" + spanID + "-01":            {2, false},
	} {
		s := newSink(t)
		tracer := newTracer(t, s.URL, 1, io.Discard)
		serve(t, tracer, header)
		tracer.Close()
		if len(s.spans) != want.spans {
			t.Errorf("%q: %d spans, want %d", header, len(s.spans), want.spans)
			continue
		}
		if want.spans > 0 && (len(s.spans[1].ParentSpanId) > 0) != want.continued {
			t.Errorf("%q: continued: %v", header, !want.continued)
		}
	}
}

func TestSample(t *testing.T) {
	const requests = 4000
	for share, within := range map[float64][2]int{0: {0, 0}, 0.25: {800, 1200}, 1: {requests, requests}} {
		s := newSink(t)
		tracer := newTracer(t, s.URL, share, io.Discard)
		n := 0
		h := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if tracing.Of(r.Context()) != nil {
				n++
			}
		}))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/types", http.NoBody)
		for range requests {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		if n < within[0] || n > within[1] {
			t.Errorf("%d of %d requests with a share of %v", n, requests, share)
		}
	}
}

// A collector that refuses or hangs costs spans, which the log counts, and no request any time.
func TestACollectorThatIsOut(t *testing.T) {
	var text strings.Builder
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "s3cret", http.StatusTooManyRequests) }))
	defer refusing.Close()
	tracer := newTracer(t, refusing.URL, 1, &text)
	serve(t, tracer, "")
	tracer.Close()
	if log := text.String(); !strings.Contains(log, `"spans":2,"status":429`) || strings.Contains(log, "s3cret") {
		t.Errorf("log: %s", log)
	}
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	tracer = newTracer(t, hanging.URL, 1, io.Discard)
	begun := time.Now()
	for range 10_000 {
		serve(t, tracer, "")
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("10,000 requests took %v", took)
	}
}

// Without a tracer there is nothing in the way.
func TestNone(t *testing.T) {
	var none *tracing.Tracer
	next := http.NewServeMux()
	if none.Handler(next) != http.Handler(next) {
		t.Error("a handler was wrapped")
	}
	none.Close()
	span := tracing.Start(t.Context(), "store.read", "eu-west-1")
	span.SetItems(1)
	span.SetAnswer("/v1/types", 200)
	span.End("failed")
	for _, endpoint := range []string{"", "localhost:4318", "http://user:s3cret@h"} {
		if _, err := tracing.New(t.Context(), tracing.Config{Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add("00-" + traceID + "-" + spanID + "-01")
	f.Add("00--")
	f.Fuzz(func(t *testing.T, header string) {
		trace, parent, _, ok := tracing.FromHeader(header)
		if ok && (trace == [16]byte{} || parent == [8]byte{} || len(header) < 55) {
			t.Errorf("%q was taken", header)
		}
	})
}
