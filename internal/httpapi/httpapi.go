// Package httpapi serves the contract of api/openapi.yaml: it checks a
// request's form and limits, authenticates it, hands it to the domain and
// turns the answer, or the refusal, into JSON. It decides nothing about data.
//
// What it guarantees: no body is parsed before its size is known to be within
// limits and its sender is authenticated; decoding is strict; no error text,
// log line or header repeats anything that a client sent; buffers that held a
// body are cleared before they are used again.
package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"piivault/api"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// Vault is the domain as this package calls it. *vault.Vault implements it;
// the interface is the seam where tests make the domain fail, hang or panic.
type Vault interface {
	Authenticate(ctx context.Context, c vault.Credentials) (vault.Principal, error)
	Tokenize(ctx context.Context, c vault.Call, req vault.TokenizeRequest) ([]vault.Tokenized, error)
	Detokenize(ctx context.Context, c vault.Call, req vault.DetokenizeRequest) (vault.DetokenizeResult, error)
	Inspect(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error)
	Explain(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error)
	Erase(ctx context.Context, c vault.Call, req vault.EraseRequest) (vault.EraseResult, error)
	Types(ctx context.Context, c vault.Call) ([]vault.TypeInfo, error)
	Regions(ctx context.Context, c vault.Call) (vault.RegionsResult, error)
	StartRepair(ctx context.Context, c vault.Call) error
	RepairStatus(ctx context.Context, c vault.Call) (vault.RepairStatus, error)
	Coverage(ctx context.Context, c vault.Call, cursor string) (vault.CoverageResult, error)
	CreateKey(ctx context.Context, c vault.Call, req vault.NewKeyRequest) (vault.NewKeyResult, error)
	ListKeys(ctx context.Context, c vault.Call) ([]vault.KeyInfo, error)
	ShowKey(ctx context.Context, c vault.Call, id string) (vault.KeyState, error)
	RevokeKey(ctx context.Context, c vault.Call, id string) (vault.RevokeResult, error)
	RotateKey(ctx context.Context, c vault.Call, id string, overlap time.Duration) (vault.RotateKeyResult, error)
	SuspendKey(ctx context.Context, c vault.Call, id string) (vault.RevokeResult, error)
	ReinstateKey(ctx context.Context, c vault.Call, id string) (vault.RevokeResult, error)
	Stop(ctx context.Context, c vault.Call, reason string, everything bool) (vault.StopResult, error)
	Resume(ctx context.Context, c vault.Call, reason string, everything bool) (vault.ResumeResult, error)
	Stops(ctx context.Context, c vault.Call) ([]vault.Stop, error)
	QueryAudit(ctx context.Context, c vault.Call, req vault.AuditRequest) (vault.AuditResult, error)
	Ready(ctx context.Context) map[string]error
}

// Limits bound what one request, and all together, may take. A zero field
// means its default; the contract's batch and body limits can only be lowered.
type Limits struct {
	TokenizeItems   int           // default and most: 500
	DetokenizeItems int           // of detokenize, inspect and erase; default and most: 100
	TokenizeBytes   int64         // body; default and most: 8 MiB
	BodyBytes       int64         // body of all others; default and most: 256 KiB
	InFlight        int           // requests at once; default 1,024
	InFlightBytes   int64         // their bodies together; default 64 MiB
	Timeout         time.Duration // of one request; default 30 s
}

// Config wires the handler. Every field but those with a default is required.
type Config struct {
	Vault  Vault
	Limits Limits
	Logger zerolog.Logger
	Now    func() time.Time
	Random io.Reader // for request ids

	// Can are the duties whose routes are served; those of others are answered
	// 404 not_served_here. Nil: all.
	Can []vault.Duty
	// Metrics serves /metrics. Nil: 404.
	Metrics http.Handler
	// Observe is told of every request: the context it came with, its route ("unmatched" for none of
	// the contract's), status and duration. Nil: nobody is. It must not block.
	Observe func(ctx context.Context, route string, status int, took time.Duration)
	// Draining makes /readyz answer 503 while it returns true: shutting down
	// begins with it. Nil: never.
	Draining func() bool
}

var errConfig = errors.New("httpapi: a required field of Config is not set, or a limit is above the contract's")

// server holds what all requests share.
type server struct {
	Config
	router   chi.Router
	allow    map[string]string // path → its methods, as in Allow; never changed after New
	inFlight atomic.Int64
	reading  atomic.Int64 // bytes
	buffers  buffers

	// Header values of every answer: shared, and full, so that Add copies them.
	noStore, noSniff []string
}

// New returns the handler of every route of the contract.
//
// The http.Server around it should set ReadHeaderTimeout, ReadTimeout (a slow
// sender holds a place of InFlight) and MaxHeaderBytes.
func New(cfg Config) (http.Handler, error) {
	if cfg.Can == nil {
		cfg.Can = vault.Duties()
	}
	if cfg.Vault == nil || cfg.Now == nil || cfg.Random == nil || !cfg.Limits.setDefaults() {
		return nil, errConfig
	}
	s := &server{
		Config: cfg, router: chi.NewRouter(), allow: map[string]string{},
		noStore: []string{"no-store"}, noSniff: []string{"nosniff"},
	}
	api.HandlerWithOptions(s, api.ChiServerOptions{BaseRouter: s.router, ErrorHandlerFunc: s.badParameter})
	if err := s.addMethods(); err != nil {
		return nil, err
	}
	s.router.NotFound(s.notFound)
	s.router.MethodNotAllowed(s.methodNotAllowed)
	return s, nil
}

func (l *Limits) setDefaults() bool {
	return limit(&l.TokenizeItems, 500, 500) && limit(&l.DetokenizeItems, 100, 100) &&
		limit(&l.TokenizeBytes, 8<<20, 8<<20) && limit(&l.BodyBytes, 256<<10, 256<<10) &&
		limit(&l.InFlight, 1024, 1<<20) && limit(&l.InFlightBytes, 64<<20, 1<<40) &&
		limit(&l.Timeout, 30*time.Second, time.Hour)
}

func limit[T int | int64 | time.Duration](v *T, fallback, most T) bool {
	if *v == 0 {
		*v = fallback
	}
	return *v > 0 && *v <= most
}

// addMethods gives every GET route HEAD, and every route OPTIONS.
func (s *server) addMethods() error {
	gets := map[string]http.Handler{}
	err := chi.Walk(s.router, func(method, route string, h http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodGet {
			gets[route] = h
			method = "GET, HEAD"
		}
		s.allow[route] = strings.TrimPrefix(s.allow[route]+", "+method, ", ")
		return nil
	})
	for route, h := range gets {
		s.router.Method(http.MethodHead, route, h)
	}
	for route := range s.allow {
		s.allow[route] += ", OPTIONS"
		s.router.Options(route, s.options)
	}
	return err
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w)
	defer s.end(x, r)
	if duty, some := dutyOf(r.URL.Path); some && !slices.Contains(s.Can, duty) {
		s.refuse(x, problemNotHere())
		return
	}
	s.router.ServeHTTP(x, r)
}

func (s *server) options(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", s.allow[r.URL.Path])
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) notFound(w http.ResponseWriter, _ *http.Request) {
	s.refuse(exchangeOf(w), problemNoRoute())
}

func (s *server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", s.allow[r.URL.Path])
	s.refuse(exchangeOf(w), problemMethod())
}

// badParameter answers for a header or query parameter that is sent twice. The
// generated router's error may quote it.
func (s *server) badParameter(w http.ResponseWriter, _ *http.Request, err error) {
	if bad := (*api.InvalidParamFormatError)(nil); errors.As(err, &bad) && bad.ParamName == "cursor" {
		s.refuse(exchangeOf(w), problemCursor())
		return
	}
	s.refuse(exchangeOf(w), problemIdempotencyKey())
}
