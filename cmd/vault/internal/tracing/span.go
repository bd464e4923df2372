package tracing

import (
	"context"
	"encoding/hex"
	"strings"
	"time"
)

// Span is a timed step of a request. Its fields are all that leaves the
// process about it: it is closed, so that no value, token, key or text of a
// client's can be attached to it by mistake. A nil Span is one that is not
// recorded; its methods do nothing.
type Span struct {
	tracer     *Tracer
	trace      [16]byte
	id, parent [8]byte
	server     bool // the request's own
	name       string
	begun      time.Time
	ended      time.Time

	route   string // of the contract, of the request's own
	status  int    // HTTP status, 0: none
	items   int    // of the batch, 0: not said
	region  string // whose store or KMS was called
	outcome string // a word of ours, "" for ok
}

type contextKey struct{}

// Of gives the span that ctx is in, nil for none.
func Of(ctx context.Context) *Span {
	s, _ := ctx.Value(contextKey{}).(*Span)
	return s
}

// Start begins a step of the span that ctx is in, nil for none. name and
// region are constants and names of the configuration.
func Start(ctx context.Context, name, region string) *Span {
	parent := Of(ctx)
	if parent == nil {
		return nil
	}
	s := &Span{tracer: parent.tracer, trace: parent.trace, parent: parent.id, name: name, region: region, begun: parent.tracer.cfg.Now()}
	s.tracer.draw(s.id[:])
	return s
}

// SetItems says how many items the batch has.
func (s *Span) SetItems(n int) {
	if s != nil {
		s.items = n
	}
}

// SetAnswer says how the request was answered, by the name of its route.
func (s *Span) SetAnswer(route string, status int) {
	if s != nil {
		s.name, s.route, s.status = route, route, status
	}
}

// End ends the span with a word for its outcome, "" where it went well, and
// hands it to the exporter without waiting.
func (s *Span) End(outcome string) {
	if s == nil {
		return
	}
	s.outcome, s.ended = outcome, s.tracer.cfg.Now()
	s.tracer.hand(s)
}

// fromHeader reads a W3C traceparent (Trace Context, Recommendation, §3.2):
// version 00, or a later one's beginning. ok is false where there is none.
func fromHeader(header string) (trace [16]byte, parent [8]byte, sampled, ok bool) {
	parts := strings.Split(header, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || (parts[0] == "00" && len(parts) != 4) ||
		strings.ToLower(header) != header || len(parts[1]) != 32 || len(parts[2]) != 16 || len(parts[3]) != 2 {
		return trace, parent, false, false
	}
	var version, flags [1]byte
	for i, to := range [][]byte{version[:], trace[:], parent[:], flags[:]} {
		if _, err := hex.Decode(to, []byte(parts[i])); err != nil {
			return trace, parent, false, false
		}
	}
	return trace, parent, flags[0]&1 == 1, trace != [16]byte{} && parent != [8]byte{}
}
