package httpapi_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/httpapi"
	"piivault/internal/vault"
)

func sprint(v any) string { return fmt.Sprint(v) }

func configOf(h *harness) httpapi.Config {
	return httpapi.Config{Vault: h.vault, Logger: zerolog.New(h.log), Now: time.Now, Random: rand.Reader}
}

func TestEveryKindOfErrorHasItsStatus(t *testing.T) {
	items := []vault.ItemError{{Index: 2, Code: "not_found", Message: "Nothing.", Retryable: true}}
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		retry  string
	}{
		"invalid":         {&vault.Error{Kind: vault.ErrInvalid, Code: "invalid_purpose", Message: "M.", Items: items}, 422, "invalid_purpose", ""},
		"unauthenticated": {&vault.Error{Kind: vault.ErrUnauthenticated, Code: "unauthenticated", Message: "M."}, 401, "unauthenticated", ""},
		"forbidden":       {&vault.Error{Kind: vault.ErrForbidden, Code: "forbidden", Message: "M."}, 403, "forbidden", ""},
		"not found":       {&vault.Error{Kind: vault.ErrNotFound, Code: "not_found", Message: "M.", Items: items}, 404, "not_found", ""},
		"wrapped":         {fmt.Errorf("x: %w", &vault.Error{Kind: vault.ErrNotFound, Code: "not_found", Message: "M."}), 404, "not_found", ""},
		"joined":          {errors.Join(&vault.Error{Kind: vault.ErrUnavailable, Code: "unavailable", Message: "M."}, errFault), 503, "unavailable", "1"},
		"unavailable":     {&vault.Error{Kind: vault.ErrUnavailable, Code: "not_yet_visible", Message: "M.", RetryAfter: 1500 * time.Millisecond, Cause: errFault}, 503, "not_yet_visible", "2"},
		"corrupt":         {&vault.Error{Kind: vault.ErrCorrupt, Code: "integrity", Message: "M.", Cause: errFault}, 500, "integrity", ""},
		"no kind":         {&vault.Error{Code: canary, Message: canary}, 500, "internal", ""},
		"unknown":         {errors.New("x"), 500, "internal", ""},
		"canceled":        {fmt.Errorf("x: %w", context.Canceled), 503, "timeout", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.vault.fail = func(context.Context) error { return c.err }
			w := h.do(request("POST", "/v1/detokenize", operations[1].body))
			p := decodeProblem(t, w)
			if w.Code != c.status || p.Code != c.code || w.Header().Get("Retry-After") != c.retry {
				t.Errorf("answered %d %q, Retry-After %q", w.Code, p.Code, w.Header().Get("Retry-After"))
			}
			if strings.Contains(w.Body.String(), canary) || strings.Contains(w.Body.String(), "a fault") {
				t.Errorf("the answer shows the cause: %s", w.Body)
			}
			if p.Items != nil && (p.Items[0].Index != 2 || p.Items[0].Code != "not_found" || !p.Items[0].Retryable) {
				t.Errorf("the items are %+v", p.Items)
			}
		})
	}
}

// 409 belongs to tokenize.
func TestConflict(t *testing.T) {
	h := newHarness(t)
	h.vault.fail = func(context.Context) error {
		return &vault.Error{Kind: vault.ErrConflict, Code: "erasing", Message: "M."}
	}
	h.refused(t, request("POST", "/v1/tokenize", operations[0].body), http.StatusConflict, "erasing")
}

// The cause of a fault is in the log, with the request's id.
func TestFaultsAreLoggedOnce(t *testing.T) {
	h := newHarness(t)
	h.vault.fail = func(context.Context) error { return errFault }
	p := h.refused(t, request("GET", "/v1/types", ""), http.StatusInternalServerError, "internal")
	if log := h.log.String(); strings.Count(log, "a fault") != 1 || strings.Count(log, p.RequestID) != 2 {
		t.Errorf("the log is %s", log)
	}
}

func TestPanicsAnswer500AndLogNoValue(t *testing.T) {
	h := newHarness(t)
	h.vault.fail = func(context.Context) error { panic(fmt.Errorf("value %s", canary)) }
	h.refused(t, request("POST", "/v1/tokenize", `{"items":[{"type":"text","value":"`+canary+`"}]}`), http.StatusInternalServerError, "internal")
	log := h.log.String()
	if strings.Contains(log, canary) {
		t.Errorf("the panic's value was logged: %s", log)
	}
	if !strings.Contains(log, "*fmt.wrapError") && !strings.Contains(log, "*errors.errorString") && !strings.Contains(log, "*fmt.fmtError") {
		t.Errorf("the panic's type is not in the log: %s", log)
	}
	if !strings.Contains(log, "fakeVault") {
		t.Errorf("the log does not say where the panic came from: %s", log)
	}
	if h.vault.tokenize.Items[0].Value.Len() != 0 {
		t.Error("a panic left a value behind")
	}
	h.vault.fail = nil
	if w := h.do(request("POST", "/v1/tokenize", operations[0].body)); w.Code != http.StatusOK {
		t.Errorf("after a panic tokenize answers %d", w.Code)
	}
}

// A panic after the answer began can only end the connection.
func TestLatePanicsAbortTheConnection(t *testing.T) {
	h := newHarness(t)
	cfg := configOf(h)
	cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic(canary)
	})
	handler, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so too
			t.Error("the panic was not turned into http.ErrAbortHandler")
		}
	}()
	handler.ServeHTTP(httptest.NewRecorder(), request("GET", "/metrics", ""))
}

func TestRequestsOverInFlightAreTurnedAway(t *testing.T) {
	h := newHarness(t, func(c *httpapi.Config) { c.Limits.InFlight, c.Limits.Timeout = 2, 10*time.Second })
	entered, leave := make(chan struct{}, 3), make(chan struct{})
	h.vault.fail = func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-leave:
		case <-ctx.Done(): // where a third was let in
		}
		return nil
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { h.do(request("GET", "/v1/types", "")) })
	}
	<-entered
	<-entered
	w := h.do(request("GET", "/v1/types", ""))
	if p := decodeProblem(t, w); w.Code != http.StatusServiceUnavailable || p.Code != "overloaded" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("answered %d %q", w.Code, p.Code)
	}
	if w := h.do(request("GET", "/livez", "")); w.Code != http.StatusOK {
		t.Errorf("livez answered %d under load", w.Code)
	}
	close(leave)
	wg.Wait()
	h.vault.fail = nil
	if w := h.do(request("GET", "/v1/types", "")); w.Code != http.StatusOK {
		t.Errorf("after the load types answers %d", w.Code)
	}
}

// Bodies are bounded together, and one of unknown size counts as the largest.
func TestBodiesOverInFlightBytesAreTurnedAway(t *testing.T) {
	h := newHarness(t, func(c *httpapi.Config) { c.Limits.InFlightBytes = 1000 })
	if w := h.do(request("POST", "/v1/inspect", operations[2].body)); w.Code != http.StatusOK {
		t.Errorf("a small body was answered %d", w.Code)
	}
	h.refused(t, request("POST", "/v1/inspect", `{"items":[`+strings.Repeat(" ", 1000)+`]}`), http.StatusServiceUnavailable, "overloaded")
	r := request("POST", "/v1/inspect", operations[2].body)
	r.ContentLength = -1
	h.refused(t, r, http.StatusServiceUnavailable, "overloaded")
	if w := h.do(request("POST", "/v1/inspect", operations[2].body)); w.Code != http.StatusOK {
		t.Errorf("the refused bodies still count: answered %d", w.Code)
	}
}

func TestRequestsEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(c *httpapi.Config) { c.Limits.Timeout = 3 * time.Second })
		h.vault.fail = func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("read: %w", ctx.Err())
		}
		start := time.Now()
		h.refused(t, request("POST", "/v1/detokenize", operations[1].body), http.StatusServiceUnavailable, "timeout")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestObserverHearsRoutesOnly(t *testing.T) {
	var heard []string
	h := newHarness(t, func(c *httpapi.Config) {
		c.Observe = func(_ context.Context, route string, status int, _ time.Duration) {
			heard = append(heard, fmt.Sprint(route, " ", status))
		}
	})
	h.do(request("GET", "/v1/types?q="+canary, ""))
	h.do(request("GET", "/"+canary, ""))
	if got := fmt.Sprint(heard); got != "[/v1/types 200 unmatched 404]" {
		t.Error(got)
	}
}
