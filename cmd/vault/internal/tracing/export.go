package tracing

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// run exports until Close, and then what is left.
func (t *Tracer) run(ctx context.Context) {
	defer close(t.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var batch []*Span
	flush := func() {
		if len(batch) > 0 {
			t.export(ctx, batch)
			batch = nil
		}
	}
	for {
		select {
		case s := <-t.spans:
			if batch = append(batch, s); len(batch) == batched {
				flush()
			}
		case <-tick.C:
			flush()
		case <-t.stop:
			for len(t.spans) > 0 {
				batch = append(batch, <-t.spans)
			}
			flush()
			return
		}
	}
}

// export sends spans once. The log hears of what was lost, and nothing that a
// collector said.
func (t *Tracer) export(ctx context.Context, spans []*Span) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	status := t.post(ctx, spans)
	if status/100 != 2 {
		t.dropped.Add(int64(len(spans)))
	}
	if lost := t.dropped.Swap(0); lost > 0 {
		t.cfg.Logger.Warn().Int64("spans", lost).Int("status", status).Msg("the trace collector did not take spans")
	}
}

// post returns the collector's status, 0 for no answer.
func (t *Tracer) post(ctx context.Context, spans []*Span) int {
	body, err := proto.Marshal(t.message(spans))
	if err != nil {
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	res, err := t.client.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // for the connection's sake
	_ = res.Body.Close()
	return res.StatusCode
}

// message is OTLP's form of spans, with the names of OpenTelemetry's semantic
// conventions where they have one.
func (t *Tracer) message(spans []*Span) *collector.ExportTraceServiceRequest {
	out := make([]*otlp.Span, len(spans))
	for i, s := range spans {
		out[i] = s.message()
	}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*otlp.ResourceSpans{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			text("service.name", "pii-vault"), text("service.instance.id", t.cfg.Instance), text("service.version", t.cfg.Version),
			text("cloud.region", t.cfg.Region),
		}},
		ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "piivault"}, Spans: out}},
	}}}
}

func (s *Span) message() *otlp.Span {
	m := &otlp.Span{
		TraceId: s.trace[:], SpanId: s.id[:], Name: s.name, Kind: otlp.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: uint64(s.begun.UnixNano()), EndTimeUnixNano: uint64(s.ended.UnixNano()),
	}
	if s.parent != [8]byte{} {
		m.ParentSpanId = s.parent[:]
	}
	if s.server {
		m.Kind = otlp.Span_SPAN_KIND_SERVER
		m.Attributes = append(m.Attributes, text("http.route", s.route), number("http.response.status_code", s.status))
	} else {
		m.Attributes = append(m.Attributes, text("vault.of", s.region))
	}
	if s.items > 0 {
		m.Attributes = append(m.Attributes, number("vault.items", s.items))
	}
	if s.outcome != "" {
		m.Attributes = append(m.Attributes, text("error.type", s.outcome))
		m.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR}
	}
	return m
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, n int) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(n)}}}
}
