package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"piivault/api"
)

// maxDepth is far above what the contract's requests nest.
const maxDepth = 16

// wiper is a request or an answer that holds values.
type wiper interface{ Wipe() }

// read decodes a request's body into in: media type first, then size, then
// JSON. What was decoded before an error is wiped.
func (s *server) read(r *http.Request, limit int64, in any) error {
	if !isJSON(r.Header) {
		return problemMediaType()
	}
	release, err := s.reserve(r, limit)
	if err != nil {
		return err
	}
	defer release()
	buf := s.buffers.get(int(min(max(r.ContentLength, 0), limit)) + 1)
	defer s.buffers.put(buf)
	if err := buf.fill(r.Body, limit); err != nil {
		return err
	}
	if err := decode(buf.Bytes(), in); err != nil {
		if w, ok := in.(wiper); ok {
			w.Wipe()
		}
		return err
	}
	return nil
}

// isJSON accepts application/json, in UTF-8 and as it is.
func isJSON(h http.Header) bool {
	if h.Get("Content-Encoding") != "" {
		return false
	}
	sent := h.Get("Content-Type")
	if sent == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(sent)
	charset, given := params["charset"]
	return err == nil && media == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// reserve takes the body's size out of what all bodies may take together; a
// body of unknown size takes the most it may have.
func (s *server) reserve(r *http.Request, limit int64) (release func(), err error) {
	size := r.ContentLength
	switch {
	case size > limit:
		return nil, problemBodySize()
	case size < 0:
		size = limit
	}
	if s.reading.Add(size) > s.Limits.InFlightBytes {
		s.reading.Add(-size)
		return nil, problemOverloaded()
	}
	return func() { s.reading.Add(-size) }, nil
}

// fill reads a body of at most limit bytes.
func (b *buffer) fill(body io.Reader, limit int64) error {
	body = io.LimitReader(body, limit+1)
	var err error
	for err == nil {
		if b.Available() < bytes.MinRead {
			b.enlarge()
		}
		room := b.AvailableBuffer()[:b.Available()]
		var n int
		n, err = body.Read(room)
		_, _ = b.Write(room[:n]) // a Buffer takes all
	}
	switch {
	case !errors.Is(err, io.EOF):
		return malformed("unreadable_body", "The body could not be read to its end.")
	case int64(b.Len()) > limit:
		return problemBodySize()
	}
	return nil
}

// decode is strict: see openapi.yaml. Its problems are of fixed text.
func decode(body []byte, in any) error {
	err := json.Unmarshal(body, in, json.RejectUnknownMembers(true))
	if err == nil {
		// The decoder takes null for a zero value, the contract does not know it.
		if hasNull(body) {
			return malformed("wrong_type", "A member is null.")
		}
		if pointer, found := emptyMember(in, body); found {
			p := malformed("empty_string", "An optional member is an empty string: leave it out.")
			p.pointer = pointer
			return p
		}
		return nil
	}
	p := syntax(body, err)
	p.pointer = knownPointer(in, pointerOf(err))
	return p
}

// syntax maps a decoder's error, whose own text may quote the body.
func syntax(body []byte, err error) *problem {
	found := scan(body)
	var semantic *json.SemanticError
	switch {
	case !utf8.Valid(body):
		return malformed("invalid_utf8", "The body is not valid UTF-8.")
	case found.depth > maxDepth:
		return malformed("too_deep", "The body nests too deep.")
	case errors.Is(err, api.ErrTooMany):
		return problemBatchSize()
	case errors.Is(err, json.ErrUnknownName):
		return malformed("unknown_field", "An object has a member that the contract does not name.")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformed("duplicate_key", "An object has the same member twice.")
	case errors.As(err, &semantic):
		return malformed("wrong_type", "A member has another type than the contract's.")
	case found.loneSurrogate:
		return malformed("lone_surrogate", "A string escapes half a surrogate pair.")
	default:
		return malformed("malformed_json", "The body is not one JSON document.")
	}
}

func pointerOf(err error) jsontext.Pointer {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		return semantic.JSONPointer
	case errors.As(err, &syntactic):
		return syntactic.JSONPointer
	}
	return ""
}
