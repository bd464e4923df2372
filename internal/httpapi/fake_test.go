package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/api"
	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/httpapi"
	"piivault/internal/httpapi/apitest"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

const (
	key    = "pvk_0123_letmein"
	canary = "canary-7f3a9c"
	token  = "dev.email.eu-west-1.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
)

// fakeVault answers every use case with something of each field, unless fail
// makes it do otherwise. It keeps what the last call was given.
type fakeVault struct {
	fail  func(ctx context.Context) error // nil: succeed
	ready map[string]error

	mu         sync.Mutex
	call       vault.Call
	tokenize   vault.TokenizeRequest
	values     []string
	detokenize vault.DetokenizeRequest
	erase      vault.EraseRequest
	newKey     vault.NewKeyRequest
	audit      vault.AuditRequest

	credentials vault.Credentials
	revealed    []secret.Plaintext
	reason      string
	everything  bool
}

var _ httpapi.Vault = (*vault.Vault)(nil)

func (f *fakeVault) enter(ctx context.Context, c vault.Call) error {
	f.mu.Lock()
	f.call = c
	f.mu.Unlock()
	if f.fail == nil {
		return nil
	}
	return f.fail(ctx)
}

func (f *fakeVault) Authenticate(_ context.Context, c vault.Credentials) (vault.Principal, error) {
	f.mu.Lock()
	f.credentials = c
	f.mu.Unlock()
	if c.Bearer.Reveal() != key && c.URI != uri {
		return vault.Principal{}, &vault.Error{Kind: vault.ErrUnauthenticated, Code: "unauthenticated", Message: "No."}
	}
	return vault.Principal{Tenant: "t_1", ID: "key_0123", Authentication: "api_key"}, nil
}

func (f *fakeVault) Tokenize(ctx context.Context, c vault.Call, req vault.TokenizeRequest) ([]vault.Tokenized, error) {
	f.tokenize, f.values = req, nil
	out := make([]vault.Tokenized, len(req.Items))
	for i, item := range req.Items {
		f.values = append(f.values, string(item.Value.Bytes()))
		out[i] = vault.Tokenized{Token: secret.NewText(token), Copies: vault.KeyCopies{Present: []string{"eu-west-1"}}}
		if item.Type == "unknown" {
			out[i] = vault.Tokenized{Err: &vault.ItemError{Index: i, Code: "unknown_type", Message: "No such type."}}
		}
	}
	return out, f.enter(ctx, c)
}

func (f *fakeVault) Detokenize(ctx context.Context, c vault.Call, req vault.DetokenizeRequest) (vault.DetokenizeResult, error) {
	f.detokenize = req
	if err := f.enter(ctx, c); err != nil {
		return vault.DetokenizeResult{}, err
	}
	items := make([]vault.Revealed, len(req.Items))
	f.revealed = nil
	for i := range items {
		value := secret.NewPlaintext([]byte("ann \"q\" \u00e9\n" + canary))
		f.revealed = append(f.revealed, value)
		items[i] = vault.Revealed{Type: "text", Value: value, Reveal: vault.Plain}
	}
	if len(items) > 1 {
		items[1] = vault.Revealed{Err: &vault.ItemError{Index: 1, Code: "not_found", Message: "Nothing."}}
	}
	return vault.DetokenizeResult{Items: items, Audit: audit.Receipt{Log: "eu-west-1/i/1", First: 7, Entries: len(items)}}, nil
}

func (f *fakeVault) Inspect(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error) {
	out := make([]vault.Inspected, len(tokens))
	for i := range out {
		out[i] = vault.Inspected{Type: "email", Created: 1772357400123, HomeRegion: "eu-west-1", RingEpoch: 1, DataKey: "dk", Copies: vault.KeyCopies{Present: []string{"eu-west-1"}}}
	}
	if len(out) > 1 {
		out[1] = vault.Inspected{Err: &vault.ItemError{Index: 1, Code: "not_found", Message: "Nothing."}}
	}
	return out, f.enter(ctx, c)
}

func (f *fakeVault) Explain(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error) {
	out, err := f.Inspect(ctx, c, tokens)
	out[0].MaxFields, out[0].Readers = 1, []vault.Reader{{Role: "reader", Reveal: vault.Plain, Policies: []string{"role.reader"}}}
	return out, err
}

func (f *fakeVault) Coverage(ctx context.Context, c vault.Call, cursor string) (vault.CoverageResult, error) {
	return vault.CoverageResult{NextCursor: cursor, CountedAt: time.UnixMilli(1772357400123).UTC(), Epoch: 1, Records: 5, Degraded: 2, TenantSecrets: 1, Regions: []vault.RegionCoverage{
		{Name: "eu-west-1", KMS: "up", IfLost: 2}, {Name: "us-east-1", KMS: "up", MissingCopies: 2, LagKnown: true},
	}}, f.enter(ctx, c)
}

func (f *fakeVault) Erase(ctx context.Context, c vault.Call, req vault.EraseRequest) (vault.EraseResult, error) {
	f.erase = req
	return vault.EraseResult{Job: "job-1", Erased: 1, Regions: []vault.RegionConfirmed{{Name: "eu-west-1", Confirmed: true}, {Name: "us-east-1"}}}, f.enter(ctx, c)
}

func (f *fakeVault) Types(ctx context.Context, c vault.Call) ([]vault.TypeInfo, error) {
	return []vault.TypeInfo{{Name: "email", TokenFormat: "random", Bound: true, MaskExample: "a***@example.com"}}, f.enter(ctx, c)
}

func (f *fakeVault) Regions(ctx context.Context, c vault.Call) (vault.RegionsResult, error) {
	return vault.RegionsResult{Local: "eu-west-1", Regions: []vault.RegionInfo{{Name: "eu-west-1", KMS: "up"}, {Name: "us-east-1", KMS: "denied", MissingCopies: 3}}, DegradedRecords: 3}, f.enter(ctx, c)
}

func (f *fakeVault) StartRepair(ctx context.Context, c vault.Call) error { return f.enter(ctx, c) }

func (f *fakeVault) RepairStatus(ctx context.Context, c vault.Call) (vault.RepairStatus, error) {
	return vault.RepairStatus{Running: true, Scanned: 4, Repaired: 3, Remaining: 1}, f.enter(ctx, c)
}

func (f *fakeVault) CreateKey(ctx context.Context, c vault.Call, req vault.NewKeyRequest) (vault.NewKeyResult, error) {
	f.newKey = req
	return vault.NewKeyResult{ID: "0123", Key: secret.NewText(key)}, f.enter(ctx, c)
}

func (f *fakeVault) ListKeys(ctx context.Context, c vault.Call) ([]vault.KeyInfo, error) {
	return []vault.KeyInfo{{ID: "0123", Name: "n", Roles: []vault.Role{"reader"}, Created: 1772357400123, Revoked: 1772357400124}}, f.enter(ctx, c)
}

func (f *fakeVault) ShowKey(ctx context.Context, c vault.Call, id string) (vault.KeyState, error) {
	return vault.KeyState{
		Key: vault.KeyInfo{ID: id, Name: "n", Roles: []vault.Role{"reader"}, Created: 1772357400123}, Region: "eu-west-1",
		Budgets: []vault.KeyBudgetState{{BudgetState: authz.BudgetState{Kind: authz.BudgetPlain, Limit: 1000, Share: 500, Left: 440, Ends: time.Minute}, Window: "hour"}},
	}, f.enter(ctx, c)
}

func (f *fakeVault) RevokeKey(ctx context.Context, c vault.Call, _ string) (vault.RevokeResult, error) {
	return vault.RevokeResult{NotReached: []string{"us-east-1"}}, f.enter(ctx, c)
}

func (f *fakeVault) RotateKey(ctx context.Context, c vault.Call, _ string, overlap time.Duration) (vault.RotateKeyResult, error) {
	return vault.RotateKeyResult{
		ID: "8be1d74f0c2a", Key: secret.NewText("pvk_8be1d74f0c2a_secret"), OldExpires: overlap.Milliseconds(), NotReached: []string{"us-east-1"},
	}, f.enter(ctx, c)
}

func (f *fakeVault) SuspendKey(ctx context.Context, c vault.Call, _ string) (vault.RevokeResult, error) {
	return vault.RevokeResult{NotReached: []string{"us-east-1"}}, f.enter(ctx, c)
}

func (f *fakeVault) ReinstateKey(ctx context.Context, c vault.Call, _ string) (vault.RevokeResult, error) {
	return vault.RevokeResult{}, f.enter(ctx, c)
}

func (f *fakeVault) Stop(ctx context.Context, c vault.Call, reason string, everything bool) (vault.StopResult, error) {
	f.reason, f.everything = reason, everything
	return vault.StopResult{ID: "s1", NotReached: []string{"us-east-1"}}, f.enter(ctx, c)
}

func (f *fakeVault) Resume(ctx context.Context, c vault.Call, reason string, everything bool) (vault.ResumeResult, error) {
	f.reason, f.everything = reason, everything
	return vault.ResumeResult{Lifted: []string{"s1"}, Stopped: true}, f.enter(ctx, c)
}

func (f *fakeVault) Stops(ctx context.Context, c vault.Call) ([]vault.Stop, error) {
	return []vault.Stop{
		{ID: "s1", Tenant: "t_1", Reason: "why", By: "key_0123", At: 1772357400123},
		{ID: "s2", Reason: "another tenant's", By: "operator", At: 1772357400124},
	}, f.enter(ctx, c)
}

func (f *fakeVault) QueryAudit(ctx context.Context, c vault.Call, req vault.AuditRequest) (vault.AuditResult, error) {
	f.audit = req
	about := audit.Ref{Log: "l", Index: 0}
	entry := audit.Entry{
		Time: 1772357400123, RequestID: "r", Tenant: "t_1", Actor: "key_0123", Authentication: "api_key", Action: "detokenize",
		Record: "rec", Type: "email", Policies: []string{"reader"}, Region: "eu-west-1", Outcome: audit.CopyUsed, About: &about,
	}
	return vault.AuditResult{Entries: []vault.AuditEntry{{Ref: audit.Ref{Log: "l", Index: 1}, Entry: entry}}, NextCursor: "more"}, f.enter(ctx, c)
}

func (f *fakeVault) Ready(context.Context) map[string]error { return f.ready }

// harness is a handler over a fakeVault whose traffic is held against the
// contract and whose log is kept.
type harness struct {
	http.Handler
	vault *fakeVault
	log   *logBuffer
}

// logBuffer is safe for the concurrent requests of a test.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newHarness(tb testing.TB, adjust ...func(*httpapi.Config)) *harness {
	tb.Helper()
	h := &harness{vault: &fakeVault{}, log: &logBuffer{}}
	cfg := httpapi.Config{Vault: h.vault, Logger: zerolog.New(h.log), Now: time.Now, Random: rand.Reader}
	for _, f := range adjust {
		f(&cfg)
	}
	handler, err := httpapi.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	h.Handler = apitest.New(tb).Handler(handler)
	return h
}

func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (h *harness) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// refused expects a problem with a status and a code, and returns it.
func (h *harness) refused(t *testing.T, r *http.Request, status int, code string) api.Problem {
	t.Helper()
	w := h.do(r)
	p := decodeProblem(t, w)
	if w.Code != status || p.Code != code {
		t.Errorf("answered %d %q, want %d %q", w.Code, p.Code, status, code)
	}
	return p
}

var errFault = errors.New("a fault")
