package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"piivault/client"
)

const canary = "canary-7f3a9c"

// answers is a transport that plays back, and keeps what was sent.
type answers struct {
	list []answer
	sent []sent
}

type answer struct {
	status int
	header map[string]string
	body   string
	err    error
	hang   bool // until the request's context ends
}

type sent struct {
	method, path, body string
	header             http.Header
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		body = string(b)
	}
	a.sent = append(a.sent, sent{r.Method, r.URL.RequestURI(), body, r.Header.Clone()})
	next := a.list[min(len(a.sent), len(a.list))-1]
	if next.hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if next.err != nil {
		return nil, next.err
	}
	resp := &http.Response{StatusCode: next.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(next.body)), Request: r}
	resp.Header.Set("Content-Type", "application/json")
	for name, value := range next.header {
		resp.Header.Set(name, value)
	}
	return resp, nil
}

func newClient(t *testing.T, cfg client.Config, list ...answer) (*client.Client, *answers) {
	t.Helper()
	a := &answers{list: list}
	cfg.HTTP = &http.Client{Transport: a}
	c, err := client.New("http://vault.test:8201/", "pvk_1_x", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, a
}

var values = client.TokenizeRequest{Items: []client.TokenizeItem{{Type: "email", Value: canary, ExpiresAt: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}}}

// Every method sends what the contract says and decodes the answer.
func TestCalls(t *testing.T) {
	for name, c := range map[string]struct {
		call           func(*client.Client, context.Context) (any, error)
		request        string
		status         int
		answered, want string
	}{
		"tokenize": {
			func(c *client.Client, ctx context.Context) (any, error) {
				return c.Tokenize(ctx, strings.Repeat("k", 22), values)
			},
			`POST /v1/tokenize {"items":[{"expires_at":"2030-01-02T03:04:05Z","type":"email","value":"` + canary + `"}]}`,
			200, `{"items":[{"index":0,"status":"ok","token":"t","added_later":1}]}`, `Token:t `,
		},
		"detokenize": {
			func(c *client.Client, ctx context.Context) (any, error) {
				return c.Detokenize(ctx, client.DetokenizeRequest{Items: []client.DetokenizeItem{{Token: "t", Reveal: client.RevealMasked}}, Purpose: "p"})
			},
			`POST /v1/detokenize {"items":[{"reveal":"masked","token":"t"}],"purpose":"p"}`,
			200, `{"items":[{"index":0,"status":"ok","value":"v"}],"audit":{"log":"l","first_index":3,"entries":1}}`, `FirstIndex:3 `,
		},
		"inspect": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Inspect(ctx, "t") },
			`POST /v1/inspect {"items":[{"token":"t"}]}`, 200, `{"items":[{"index":0,"status":"ok","home_region":"eu"}]}`, `HomeRegion:eu `,
		},
		"erase": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Erase(ctx, "t", "u") },
			`POST /v1/erase {"items":[{"token":"t"},{"token":"u"}]}`, 200, `{"erased":2,"complete":true,"regions":[]}`, `Erased:2 `,
		},
		"erase subject": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.EraseSubject(ctx, "s") },
			`POST /v1/erase {"subject_id":"s"}`, 200, `{"erased":2,"complete":true,"regions":[]}`, `Complete:true `,
		},
		"types": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Types(ctx) },
			`GET /v1/types `, 200, `{"types":[{"name":"email"}]}`, `Name:email `,
		},
		"regions": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Regions(ctx) },
			`GET /v1/regions `, 200, `{"local":"eu","regions":[{"name":"eu","kms":"down"}],"degraded_records":4}`, `Kms:down `,
		},
		"start repair": {
			func(c *client.Client, ctx context.Context) (any, error) { return nil, c.StartRepair(ctx) },
			`POST /v1/repair `, 202, ``, `<nil>`,
		},
		"repair status": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.RepairStatus(ctx) },
			`GET /v1/repair `, 200, `{"state":"running","scanned":9}`, `Scanned:9 `,
		},
		"create key": {
			func(c *client.Client, ctx context.Context) (any, error) {
				return c.CreateKey(ctx, client.CreateKeyRequest{Name: "n", Roles: []string{"reader"}})
			},
			`POST /v1/keys {"name":"n","roles":["reader"]}`, 201, `{"id":"1","key":"pvk_1_y","not_reached":[]}`, `Key:pvk_1_y `,
		},
		"keys": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Keys(ctx) },
			`GET /v1/keys `, 200, `{"keys":[{"id":"1","name":"n","roles":[],"created":"2026-01-02T03:04:05Z"}]}`, `Name:n `,
		},
		"revoke key": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.RevokeKey(ctx, "1") },
			`POST /v1/keys/revoke {"id":"1"}`, 200, `{"not_reached":["us"]}`, `[us]`,
		},
		"query audit": {
			func(c *client.Client, ctx context.Context) (any, error) {
				return c.QueryAudit(ctx, client.AuditQueryRequest{Actor: "a", Limit: 5})
			},
			`POST /v1/audit/query {"actor":"a","limit":5}`, 200, `{"entries":[{"log":"l","index":1,"outcome":"denied"}]}`, `Outcome:denied `,
		},
		"ready": {
			func(c *client.Client, ctx context.Context) (any, error) { return c.Ready(ctx) },
			`GET /readyz `, 503, `{"ready":false,"dependencies":[{"name":"kms","ready":false}]}`, `Name:kms `,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cl, a := newClient(t, client.Config{}, answer{status: c.status, body: c.answered})
			got, err := c.call(cl, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s := a.sent[0]; s.method+" "+s.path+" "+s.body != c.request || s.header.Get("Authorization") != "Bearer pvk_1_x" {
				t.Errorf("sent %s %s %s", s.method, s.path, s.body)
			}
			if printed := fmt.Sprintf("%+v", got); !strings.Contains(printed, strings.TrimSuffix(c.want, " ")) {
				t.Errorf("got %s, want %s", printed, c.want)
			}
		})
	}
}

func TestIdempotencyKeyIsSent(t *testing.T) {
	c, a := newClient(t, client.Config{}, answer{status: 200, body: `{"items":[]}`})
	key := client.NewIdempotencyKey()
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(key) || key == client.NewIdempotencyKey() {
		t.Errorf("the key is %q", key)
	}
	for _, k := range []string{key, ""} {
		if _, err := c.Tokenize(t.Context(), k, values); err != nil {
			t.Fatal(err)
		}
	}
	if a.sent[0].header.Get("Idempotency-Key") != key || a.sent[1].header["Idempotency-Key"] != nil {
		t.Errorf("sent %q and %q", a.sent[0].header["Idempotency-Key"], a.sent[1].header["Idempotency-Key"])
	}
}

const refusal = `{"type":"about:blank","title":"T","status":422,"code":"unknown_type","detail":"D ` + canary + `","pointer":"/items/0","request_id":"r",` +
	`"items":[{"index":3,"code":"unknown_type","message":"M ` + canary + `","retryable":true}]}`

func problemHeader(more ...string) map[string]string {
	h := map[string]string{"Content-Type": "application/problem+json; charset=utf-8", "X-Request-Id": "r"}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

func TestRefusalsAreTyped(t *testing.T) {
	c, _ := newClient(t, client.Config{}, answer{status: 422, header: problemHeader(), body: refusal})
	_, err := c.Tokenize(t.Context(), "", values)
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T", err)
	}
	if e.Status != 422 || e.Code != "unknown_type" || e.Pointer != "/items/0" || e.RequestID != "r" || e.Temporary() ||
		len(e.Items) != 1 || e.Items[0].Index != 3 || !e.Items[0].Retryable || !strings.HasPrefix(e.Detail, "D") {
		t.Errorf("%+v", e)
	}
	if err.Error() != "vault: HTTP 422 unknown_type (request r)" {
		t.Error(err)
	}
}

// No error's text holds what was sent or received.
func TestErrorTextsHoldNoValues(t *testing.T) {
	for name, a := range map[string]answer{
		"problem":        {status: 422, header: problemHeader(), body: refusal},
		"broken problem": {status: 422, header: problemHeader(), body: `{"status":"` + canary},
		"a proxy's page": {status: 502, header: map[string]string{"Content-Type": "text/html"}, body: canary},
		"not JSON":       {status: 200, body: canary},
		"wrong type":     {status: 200, body: `{"items":"` + canary + `"}`},
		"wrong time":     {status: 200, body: `{"keys":[{"created":"` + canary + `"}],"items":[{"index":"` + canary + `"}]}`},
		"redirect":       {status: 307, header: map[string]string{"Location": "http://elsewhere.test/" + canary}},
		"no connection":  {err: errors.New("connection refused")},
	} {
		t.Run(name, func(t *testing.T) {
			c, sent := newClient(t, client.Config{Retries: -1}, a)
			_, tokenizeErr := c.Tokenize(t.Context(), canary, values)
			_, keysErr := c.Keys(t.Context())
			for _, err := range []error{tokenizeErr, keysErr} {
				if err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, err.Error()), canary) {
					t.Errorf("the error says %v", err)
				}
			}
			if tokenizeErr == nil {
				t.Error("no error")
			}
			if len(sent.sent) != 2 {
				t.Errorf("%d requests were sent", len(sent.sent))
			}
		})
	}
}

func TestUndecodableAnswers(t *testing.T) {
	c, _ := newClient(t, client.Config{}, answer{status: 200, body: "{"})
	if _, err := c.Types(t.Context()); !errors.Is(err, client.ErrAnswer) {
		t.Error(err)
	}
	c, _ = newClient(t, client.Config{}, answer{status: 502, body: "<html>"})
	_, err := c.Types(t.Context())
	var e *client.Error
	if !errors.As(err, &e) || e.Status != 502 || e.Code != "" || err.Error() != "vault: HTTP 502" {
		t.Error(err)
	}
}

// 429 and 503 are tried again, after as long as the vault says.
func TestPatience(t *testing.T) {
	busy := func(retryAfter string) answer {
		return answer{status: 503, header: problemHeader("Retry-After", retryAfter), body: `{"status":503,"code":"overloaded"}`}
	}
	fine := answer{status: 200, body: `{"types":[]}`}
	for name, c := range map[string]struct {
		cfg     client.Config
		answers []answer
		waited  time.Duration
		sent    int
		code    string
	}{
		"seconds":        {client.Config{}, []answer{busy("3"), busy("1"), fine}, 4 * time.Second, 3, ""},
		"over budget":    {client.Config{}, []answer{{status: 429, header: map[string]string{"Retry-After": "2"}}, fine}, 2 * time.Second, 2, ""},
		"none said":      {client.Config{}, []answer{busy(""), busy("nonsense"), fine}, 750 * time.Millisecond, 3, ""},
		"a date":         {client.Config{}, []answer{busy("Sat, 01 Jan 2000 00:00:05 GMT"), fine}, 5 * time.Second, 2, ""},
		"gives up":       {client.Config{Retries: 2}, []answer{busy("1")}, 2 * time.Second, 3, "overloaded"},
		"never":          {client.Config{Retries: -1}, []answer{busy("1")}, 0, 1, "overloaded"},
		"too long":       {client.Config{MaxWait: time.Second}, []answer{busy("2")}, 0, 1, "overloaded"},
		"not for others": {client.Config{}, []answer{{status: 409, header: problemHeader("Retry-After", "1"), body: `{"code":"erasing"}`}}, 0, 1, "erasing"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl, a := newClient(t, c.cfg, c.answers...)
				start := time.Now()
				_, err := cl.Types(t.Context())
				var e *client.Error
				if (c.code == "") != (err == nil) || (c.code != "" && (!errors.As(err, &e) || e.Code != c.code)) {
					t.Error(err)
				}
				if waited := time.Since(start); waited != c.waited || len(a.sent) != c.sent {
					t.Errorf("waited %v and sent %d, want %v and %d", waited, len(a.sent), c.waited, c.sent)
				}
			})
		})
	}
}

// A body is sent again whole.
func TestRetriesSendTheSame(t *testing.T) {
	c, a := newClient(t, client.Config{Sleep: func(context.Context, time.Duration) error { return nil }},
		answer{status: 503}, answer{status: 200, body: `{"items":[]}`})
	if _, err := c.Tokenize(t.Context(), strings.Repeat("k", 22), values); err != nil {
		t.Fatal(err)
	}
	if a.sent[0].body != a.sent[1].body || a.sent[1].body == "" || a.sent[1].header.Get("Idempotency-Key") != strings.Repeat("k", 22) {
		t.Errorf("sent %q, then %q", a.sent[0].body, a.sent[1].body)
	}
}

func TestTimeAndCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newClient(t, client.Config{Timeout: 3 * time.Second}, answer{hang: true})
		start := time.Now()
		if _, err := c.Types(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		c, a := newClient(t, client.Config{}, answer{status: 503, header: map[string]string{"Retry-After": "20"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		var e *client.Error
		if _, err := c.Types(ctx); !errors.As(err, &e) || e.Status != 503 || time.Since(start) != time.Second || len(a.sent) != 1 {
			t.Errorf("%v after %v and %d requests", err, time.Since(start), len(a.sent))
		}
	})
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:8201": true, "https://vault.example/": true,
		"": false, "127.0.0.1:8201": false, "ftp://x": false, "http://": false, "http://x/v1": false, "http://x?q=1": false, "http://x\n": false,
	} {
		if _, err := client.New(address, "k", client.Config{}); (err == nil) != ok || (err != nil && !errors.Is(err, client.ErrAddress)) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// The client's own transport follows no redirect: it would carry the body along.
func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed = followed || r.URL.Path == "/elsewhere"
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c, err := client.New(server.URL, "k", client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var e *client.Error
	if _, err := c.Tokenize(t.Context(), "", values); !errors.As(err, &e) || e.Status != http.StatusTemporaryRedirect || followed {
		t.Errorf("%v, followed: %v", err, followed)
	}
}

// Answers of one count add up; those of two key rings do not.
func TestCoverageAddsUp(t *testing.T) {
	page := func(epoch int, kms, next string) answer {
		return answer{status: 200, body: fmt.Sprintf(`{"counted_at":"2026-03-01T09:30:00Z","ring_epoch":%d,"records":2,"unreadable":1,"degraded_records":1,"outdated_records":1,`+
			`"tenant_secrets":1,"regions":[{"name":"a","kms":%q,"missing_copies":1,"unreadable_if_lost":1,"secrets_unreadable_if_lost":1}],"next_cursor":%q}`, epoch, kms, next)}
	}
	c, a := newClient(t, client.Config{}, page(1, "up", "3.x~4."), page(1, "down", "5."), page(1, "up", ""))
	sum, err := c.Coverage(t.Context())
	if err != nil || sum.Records != 6 || sum.Unreadable != 3 || sum.DegradedRecords != 3 || sum.OutdatedRecords != 3 || sum.TenantSecrets != 3 || sum.NextCursor != "" {
		t.Errorf("%+v, %v", sum, err)
	}
	if r := sum.Regions[0]; r.Kms != client.KmsStateDown || r.MissingCopies != 3 || r.UnreadableIfLost != 3 || r.SecretsUnreadableIfLost != 3 {
		t.Errorf("%+v", r)
	}
	if len(a.sent) != 3 || !strings.HasSuffix(a.sent[1].path, "?cursor=3.x~4.") || !strings.HasSuffix(a.sent[2].path, "?cursor=5.") {
		t.Errorf("sent %+v", a.sent)
	}
	c, _ = newClient(t, client.Config{}, page(1, "up", "5."), page(2, "up", ""))
	if _, err := c.Coverage(t.Context()); err == nil {
		t.Error("two key rings were added up")
	}
}
