package vault_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

const (
	regionA = "eu-west-1"
	regionB = "us-east-1"
)

// clock is the world's time; tests move it.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Add(1000)) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// world is two regions whose background work happens when a test says so.
type world struct {
	*sim.World
	t     testing.TB
	clock *clock
	a, b  *vault.Vault
	admin vault.Call
}

type option func(*sim.Config)

func newWorld(tb testing.TB, options ...option) *world {
	tb.Helper()
	w := &world{t: tb, clock: &clock{}}
	w.clock.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	cfg := sim.Config{Dir: tb.TempDir(), Regions: []string{regionA, regionB}, Now: w.clock.now, Types: testTypes(), Seed: 1}
	for _, o := range options {
		o(&cfg)
	}
	opened, err := sim.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := opened.Close(); err != nil {
			tb.Error(err)
		}
	})
	w.World, w.a = opened, opened.Regions[0].Vault
	if len(opened.Regions) > 1 {
		w.b = opened.Regions[1].Vault
	}
	credential, err := opened.Bootstrap(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	w.admin = w.call(credential)
	return w
}

// testTypes are the built-in types, a deterministic one and one that expires.
func testTypes() []pii.Type {
	return append(pii.BuiltIn(),
		pii.Type{Name: "customer_email", Kind: "email", Token: pii.Deterministic},
		pii.Type{Name: "note", Kind: "text", Token: pii.Random, Bound: true, TTL: time.Hour})
}

func (w *world) call(credential secret.Text) vault.Call {
	w.t.Helper()
	p, err := w.a.Authenticate(w.t.Context(), vault.Credentials{Bearer: credential})
	if err != nil {
		w.t.Fatal(err)
	}
	return vault.Call{Principal: p, RequestID: "test", Client: "127.0.0.1"}
}

// as is a caller with other roles.
func (w *world) as(roles ...authz.Role) vault.Call {
	w.t.Helper()
	made, err := w.a.CreateKey(w.t.Context(), w.admin, vault.NewKeyRequest{Name: "test", Roles: roles})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.call(made.Key)
}

// ctx is the test's, also while it cleans up.
func (w *world) ctx() context.Context { return context.WithoutCancel(w.t.Context()) }

func (w *world) settle() {
	w.t.Helper()
	if err := w.Settle(w.ctx()); err != nil {
		w.t.Fatal(err)
	}
}

// reindex waits for no background indexer: entries are to be found now.
func (w *world) reindex() {
	w.t.Helper()
	for _, r := range w.Regions {
		if err := r.Reindex(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) fault(f sim.Fault) {
	w.t.Helper()
	if err := w.Set(f); err != nil {
		w.t.Fatal(err)
	}
}

func value(typ, text string) vault.TokenizeItem {
	return vault.TokenizeItem{Type: typ, Value: secret.NewPlaintext([]byte(text))}
}

func (w *world) tokenize(v *vault.Vault, items ...vault.TokenizeItem) []vault.Tokenized {
	w.t.Helper()
	out, err := v.Tokenize(w.ctx(), w.admin, vault.TokenizeRequest{Items: items})
	if err != nil {
		w.t.Fatalf("tokenize: %v", err)
	}
	return out
}

// token keeps one value and returns its token.
func (w *world) token(v *vault.Vault, typ, text string) secret.Text {
	w.t.Helper()
	return w.tokenize(v, value(typ, text))[0].Token
}

func ask(tokens ...secret.Text) vault.DetokenizeRequest {
	req := vault.DetokenizeRequest{Purpose: "test"}
	for _, token := range tokens {
		req.Items = append(req.Items, vault.DetokenizeItem{Token: token})
	}
	return req
}

// reveal opens tokens, all or nothing, and returns the values.
func (w *world) reveal(v *vault.Vault, tokens ...secret.Text) []string {
	w.t.Helper()
	out, err := v.Detokenize(w.ctx(), w.admin, ask(tokens...))
	if err != nil {
		w.t.Fatalf("detokenize: %v", err)
	}
	values := make([]string, len(out.Items))
	for i, item := range out.Items {
		values[i] = string(item.Value.Bytes())
	}
	return values
}

func (w *world) wantReveal(v *vault.Vault, token secret.Text, want string) {
	w.t.Helper()
	if got := w.reveal(v, token)[0]; got != want {
		w.t.Errorf("revealed a value of %d bytes, want %q", len(got), want)
	}
}

// wantCode asserts a refusal's stable code.
func wantCode(tb testing.TB, err error, kind error, code string) {
	tb.Helper()
	var e *vault.Error
	if !errors.As(err, &e) {
		tb.Fatalf("got %v, want a refusal %s", err, code)
	}
	if e.Code != code || !errors.Is(err, kind) {
		tb.Errorf("got %s (%v), want %s (%v)", e.Code, e.Kind, code, kind)
	}
}

func (w *world) wantGone(v *vault.Vault, token secret.Text) {
	w.t.Helper()
	_, err := v.Detokenize(w.ctx(), w.admin, ask(token))
	wantCode(w.t, err, vault.ErrNotFound, "not_found")
}

// entries are all of the tenant's entries with an action, newest first.
func (w *world) entries(v *vault.Vault, action string) []vault.AuditEntry {
	w.t.Helper()
	w.reindex()
	var all []vault.AuditEntry
	for req := (vault.AuditRequest{Action: action, Limit: 1000}); ; {
		page, err := v.QueryAudit(w.ctx(), w.admin, req)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if page.NextCursor == "" {
			return all
		}
		req.Cursor = page.NextCursor
	}
}

func sameSet(got []string, want ...string) bool {
	got = slices.Clone(got)
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want)
}

// idempotencyKey is one of enough random-looking bits.
func idempotencyKey(c string) secret.Text { return secret.NewText(strings.Repeat(c, 32)) }
