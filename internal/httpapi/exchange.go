package httpapi

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
)

// exchange is one request's answer under way. It is the ResponseWriter that
// the router hands to handlers.
type exchange struct {
	http.ResponseWriter
	id     string
	start  time.Time
	status int // 0: nothing sent yet
}

// exchangeOf undoes the generated router's narrowing to the interface. All
// writers here are exchanges: another is a fault that may well panic.
func exchangeOf(w http.ResponseWriter) *exchange {
	x, _ := w.(*exchange)
	return x
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// begin gives the request its id and the answer its common headers.
func (s *server) begin(w http.ResponseWriter) *exchange {
	id, err := uuid.NewV7FromReader(s.Random)
	if err != nil {
		panic("httpapi: the source of randomness failed")
	}
	x := &exchange{ResponseWriter: w, id: id.String(), start: s.Now()}
	h := w.Header()
	h.Set("X-Request-Id", x.id)
	h["Cache-Control"], h["X-Content-Type-Options"] = s.noStore, s.noSniff
	return x
}

// end answers for a panic and tells the log and the observer. Neither hears a
// path or a query: only a route of the contract, or "unmatched".
func (s *server) end(x *exchange, r *http.Request) {
	reason := recover()
	switch {
	case reason == http.ErrAbortHandler: //nolint:errorlint // net/http compares it so too
	case reason != nil:
		s.panicked(x, reason)
	}
	route := r.URL.Path
	if _, known := s.allow[route]; !known {
		route = "unmatched"
	}
	took := s.Now().Sub(x.start)
	s.Logger.Debug().Str("method", methodOf(r)).Str("route", route).Int("status", x.status).
		Dur("took", took).Str("request_id", x.id).Msg("request")
	if s.Observe != nil {
		s.Observe(r.Context(), route, x.status, took)
	}
	if reason != nil && x.aborted(reason) {
		panic(http.ErrAbortHandler)
	}
}

// aborted reports that a panic came too late for a clean answer: the
// connection is the only way left to say so.
func (x *exchange) aborted(reason any) bool {
	return reason == http.ErrAbortHandler || x.status != http.StatusInternalServerError //nolint:errorlint // as net/http
}

// panicked logs where a panic came from: its type and functions, never its
// value or arguments, which may hold anything.
func (s *server) panicked(x *exchange, reason any) {
	s.Logger.Error().Str("request_id", x.id).Str("type", fmt.Sprintf("%T", reason)).Strs("stack", stack()).Msg("a handler panicked")
	if x.status == 0 {
		s.refuse(x, problemInternal())
	}
}

// stack names the functions between the panic and the server.
func stack() []string {
	pcs := make([]uintptr, 48)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	var names []string
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			names = append(names, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more {
			return names
		}
	}
}

// methodOf keeps made-up methods out of the log.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return "other"
	}
}
