// Package apitest holds live traffic against api/openapi.yaml: wrap a handler
// or a transport, and every exchange that the contract does not allow fails
// the test. It is for tests only.
//
// An answer must be documented in status, headers, media type and schema, with
// no member that the schema does not name; a problem's codes must be in the
// operation's table or the common one. A request that was answered with
// success must be one that the contract allows.
package apitest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"piivault/api"
)

// Contract checks exchanges and reports to a test. It is safe for concurrent use.
type Contract struct {
	t      testing.TB
	router routers.Router
	codes  Codes
}

// New loads the contract.
func New(tb testing.TB) *Contract {
	tb.Helper()
	doc := Load(tb)
	doc.Servers = nil // any address will do
	closed := false
	for _, schema := range doc.Components.Schemas {
		if schema.Value.Type.Is("object") {
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return &Contract{t: tb, router: router, codes: CodesOf(doc)}
}

// For is the same contract, reporting to another test: loading it takes a while.
func (c *Contract) For(t testing.TB) *Contract {
	other := *c
	other.t = t
	return &other
}

// Load parses and validates openapi.yaml, its examples too.
func Load(tb testing.TB) *openapi3.T {
	tb.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(api.Contract()))
	if err != nil {
		tb.Fatal(err)
	}
	if err := doc.Validate(tb.Context(), openapi3.EnableExamplesValidation()); err != nil {
		tb.Fatal(err)
	}
	return doc
}

// Handler checks everything that passes through h.
func (c *Contract) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent := r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		c.Check(sent, body, answer.Code, answer.Header(), answer.Body.Bytes())
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// Transport checks everything that passes through rt.
func (c *Contract) Transport(rt http.RoundTripper) http.RoundTripper { return transport{c, rt} }

type transport struct {
	contract *Contract
	next     http.RoundTripper
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	t.contract.Check(r, body, resp.StatusCode, resp.Header, answer)
	return resp, nil
}

// Check holds one exchange against the contract.
func (c *Contract) Check(r *http.Request, body []byte, status int, header http.Header, answer []byte) {
	c.t.Helper()
	request := r.Clone(r.Context())
	request.Body = io.NopCloser(bytes.NewReader(body))
	where := r.Method + " " + r.URL.Path
	if status >= http.StatusBadRequest && header.Get("Content-Type") == "application/problem+json" && r.Method != http.MethodHead {
		if code := c.checkCodes(where, r.Method, r.URL.Path, status, answer); code == "no_such_route" || code == "method_not_allowed" {
			return
		}
	}
	route, params, err := c.router.FindRoute(request)
	if err != nil {
		if status < http.StatusBadRequest && r.Method != http.MethodHead && r.Method != http.MethodOptions {
			c.t.Errorf("%s: answered %d though the contract has no such operation", where, status)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			c.t.Errorf("%s: answered %d to a request that the contract does not allow: %v", where, status, err)
		}
	}
	output := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(answer)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			ExcludeResponseBody:   !strings.HasSuffix(header.Get("Content-Type"), "json"),
		},
	}
	if err := openapi3filter.ValidateResponse(r.Context(), output); err != nil {
		c.t.Errorf("%s: the contract does not allow the answer %d: %v", where, status, err)
	}
}

// checkCodes decodes a problem strictly and looks its codes up.
func (c *Contract) checkCodes(where, method, path string, status int, answer []byte) (code string) {
	c.t.Helper()
	var p api.Problem
	d := json.NewDecoder(bytes.NewReader(answer))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || int(p.Status) != status || p.RequestID == "" || p.Title == "" || p.Detail == "" {
		c.t.Errorf("%s: the problem with status %d is not whole (%v)", where, status, err)
	}
	if !c.codes.Documented(method, path, status, p.Code) {
		c.t.Errorf("%s: status %d with code %q is not documented", where, status, p.Code)
	}
	for _, item := range p.Items {
		if !c.codes.Documented(method, path, 0, item.Code) {
			c.t.Errorf("%s: the item code %q is not documented", where, item.Code)
		}
	}
	return p.Code
}
