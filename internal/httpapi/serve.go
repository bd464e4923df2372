package httpapi

import (
	"context"
	"net"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"piivault/internal/vault"
)

// withStatus is an answer of another status than 200.
type withStatus interface{ status() int }

// bodiless is an answer that its status says all about.
type bodiless interface{ bodiless() }

// sizer is an answer that knows about how long it is.
type sizer interface{ SizeHint() int }

// post serves an operation with a body of type In.
func post[In, Out any](s *server, w http.ResponseWriter, r *http.Request, limit int64, do func(context.Context, vault.Call, *In) (Out, error)) {
	get(s, w, r, func(ctx context.Context, c vault.Call) (answer Out, err error) {
		in := new(In)
		if err := s.read(r, limit, in); err != nil {
			return answer, err
		}
		if values, ok := any(in).(wiper); ok {
			defer values.Wipe()
		}
		return do(ctx, c, in)
	})
}

// get serves an operation without a body: it admits, authenticates, limits the
// time, does, and answers.
func get[Out any](s *server, w http.ResponseWriter, r *http.Request, do func(context.Context, vault.Call) (Out, error)) {
	x := exchangeOf(w)
	defer s.inFlight.Add(-1)
	if s.inFlight.Add(1) > int64(s.Limits.InFlight) {
		s.refuse(x, problemOverloaded())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Timeout)
	defer cancel()
	principal, err := s.authenticate(ctx, r)
	if err != nil {
		s.refuse(x, problemOf(err))
		return
	}
	answer, err := do(ctx, vault.Call{Principal: principal, RequestID: x.id, Client: clientOf(r)})
	if err != nil {
		s.refuse(x, problemOf(err))
		return
	}
	if values, ok := any(answer).(wiper); ok {
		defer values.Wipe()
	}
	if _, ok := any(answer).(bodiless); ok {
		x.WriteHeader(statusOf(answer))
		return
	}
	s.respond(x, statusOf(answer), "application/json", answer)
}

func statusOf(answer any) int {
	if a, ok := answer.(withStatus); ok {
		return a.status()
	}
	return http.StatusOK
}

// clientOf is the peer's address; headers that claim another are not trusted.
func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// respond encodes the whole answer before it sends any of it, and clears what
// it encoded into. Below it, net/http copies it into the connection's buffers.
func (s *server) respond(x *exchange, status int, media string, answer any) {
	size := 0
	if a, ok := answer.(sizer); ok {
		size = a.SizeHint()
	}
	buf := s.buffers.get(size)
	defer s.buffers.put(buf)
	if err := json.MarshalWrite(&buf.Buffer, answer); err != nil {
		// What an encoder says may quote the answer.
		s.Logger.Error().Str("request_id", x.id).Msg("an answer could not be encoded")
		s.refuse(x, problemInternal())
		return
	}
	h := x.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	x.WriteHeader(status)
	_, _ = x.Write(buf.Bytes()) // the client is gone: there is nobody to tell
}
