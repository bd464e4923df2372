package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// traces: with a collector, each request and what it waited for arrives there,
// and nothing that was sent, kept or answered does (G4).
func (r *rig) traces(t *testing.T, key string) {
	t.Helper()
	var sent bytes.Buffer
	var spans []*otlp.Span
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var got collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &got) != nil {
			t.Errorf("not OTLP: %v", err)
		}
		sent.Write(body)
		for _, resource := range got.ResourceSpans {
			spans = append(spans, resource.ScopeSpans[0].Spans...)
		}
	}))
	defer sink.Close()
	s := r.serve(t, "VAULT_INSTANCE=traced", "OTEL_EXPORTER_OTLP_ENDPOINT="+sink.URL, "VAULT_TRACING_SAMPLE=1")
	var made, opened tokens
	const body = `{"items":[{"type":"email","value":"canary-value@example.com","subject_id":"canary-subject"},{"type":"name","value":"Canary Name"}]}`
	if status := r.post(t, s.at["api"]+"/v1/tokenize", key, body, &made); status != http.StatusOK {
		t.Fatalf("tokenize: %d", status)
	}
	ask := fmt.Sprintf(`{"items":[{"token":%q}],"purpose":"canary-purpose","ticket":"canary-ticket"}`, made.Items[0].Token)
	if status := r.post(t, s.at["api"]+"/v1/detokenize", key, ask, &opened); status != http.StatusOK {
		t.Fatalf("detokenize: %d", status)
	}
	var text string
	r.get(t, s.at["api"]+"/v1/canary-path?q=canary-query", &text)
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
	steps := map[string][]string{} // by the request's name
	for _, request := range spans {
		for _, step := range spans {
			if bytes.Equal(step.ParentSpanId, request.SpanId) && bytes.Equal(step.TraceId, request.TraceId) {
				steps[request.Name] = append(steps[request.Name], step.Name)
			}
		}
		if len(request.ParentSpanId) == 0 {
			steps[request.Name] = append(steps[request.Name], "")
		}
	}
	for name, want := range map[string][]string{
		"/v1/tokenize": {"", "audit.append", "store.insert"}, "/v1/detokenize": {"", "audit.append", "kms.decrypt", "store.read"}, "unmatched": {""},
	} {
		for _, step := range want {
			if !slices.Contains(steps[name], step) {
				t.Errorf("%s has steps %q, and not %q", name, steps[name], step)
			}
		}
	}
	for _, secret := range []string{"canary", "Canary", made.Items[0].Token, strings.Split(made.Items[0].Token, ".")[3], key, strings.Split(key, "_")[2], "arn:aws"} {
		if bytes.Contains(sent.Bytes(), []byte(secret)) {
			t.Errorf("%q was sent to the collector", secret)
		}
	}
}
