package bulk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/fakevault"
	"piivault/cmd/vault/internal/rows"
)

// world is a vault and a directory with an input.
type world struct {
	vault  *fakevault.Server
	client *client.Client
	dir    string
	input  string
	step   func() // called at every step of a run, from any goroutine

	mu    sync.Mutex // guards clock
	clock time.Time
}

func newWorld(t *testing.T, input string) *world {
	t.Helper()
	w := &world{vault: fakevault.New(), dir: t.TempDir(), step: func() {}, clock: time.Unix(1_800_000_000, 0)}
	server := httptest.NewServer(w.vault)
	t.Cleanup(server.Close)
	var err error
	if w.client, err = client.New(server.URL, fakevault.Key, client.Config{Retries: -1}); err != nil {
		t.Fatal(err)
	}
	w.input = filepath.Join(w.dir, "in.jsonl")
	write(t, w.input, input)
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// now ticks by more than the time between two notes in the journal.
func (w *world) now() time.Time {
	w.step()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(time.Second)
	return w.clock
}

// Update and its siblings make the world a Progress.
func (w *world) Update(bulk.Status)            { w.step() }
func (w *world) Waiting(string, time.Duration) {}
func (w *world) Close()                        {}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// config imports email and phone into dir/out, two rows a batch.
func (w *world) config() bulk.Config {
	fields := []string{"email", "phone"}
	patience := bulk.Patience{
		For: time.Minute, Jitter: func() float64 { return 0.5 }, Waiting: w.Waiting,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	return bulk.Config{
		Input: w.input, Output: w.path("out"), Refused: w.path("refused"), Format: rows.JSONL, Fields: fields,
		Plan: map[string]string{"command": "import", "--map": "email=email,phone=phone"},
		Pick: func(row *rows.Row) (items []bulk.Item, bad []bulk.FieldError) {
			for i, f := range fields {
				switch text, kind := row.Field(i); kind {
				case rows.Absent:
				case rows.Text:
					items = append(items, bulk.Item{Field: i, Value: text, Type: f})
				default:
					bad = append(bad, bulk.FieldError{Field: f, Code: "not_a_string"})
				}
			}
			return items, bad
		},
		Exchange: func(ctx context.Context, key string, items []bulk.Item) (tokens []string, err error) {
			w.step()
			err = patience.Do(ctx, func(ctx context.Context) error {
				tokens, err = w.tokenize(ctx, key, items)
				return err
			})
			w.step()
			return tokens, err
		},
		MaxItems: 4, MaxBytes: 1 << 20, Parallel: 3,
		Now: w.now, Random: rand.NewChaCha8([32]byte{7}), Progress: w, RefusedTo: io.Discard,
	}
}

func (w *world) tokenize(ctx context.Context, key string, items []bulk.Item) ([]string, error) {
	var req client.TokenizeRequest
	for _, it := range items {
		req.Items = append(req.Items, client.TokenizeItem{Type: it.Type, Value: it.Value})
	}
	answer, err := w.client.Tokenize(ctx, key, req)
	var tokens []string
	for _, it := range answer.Items {
		tokens = append(tokens, it.Token)
	}
	return tokens, err
}

// people writes n rows, every seventh of them one that is refused.
func people(n int) string {
	var b strings.Builder
	for i := range n {
		email := fmt.Sprintf("p%d@example.com", i)
		if i%7 == 3 {
			email = "!invalid_email " + email
		}
		fmt.Fprintf(&b, `{"n": %d, "email":%q,  "phone" : "+1 201 555 %04d"}`+"\n", i, email, i)
	}
	return b.String()
}

// checkOut: what is in the output is what is in the input, tokens apart; the
// vault made each of its tokens and no other.
func (w *world) checkOut(t *testing.T) {
	t.Helper()
	records := w.vault.Records()
	left := maps.Clone(records)
	back := new(bytes.Buffer)
	out := read(t, w.path("out"))
	for line := range strings.Lines(out) {
		var row struct{ Email, Phone string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{row.Email, row.Phone} {
			if _, ok := left[token]; !ok {
				t.Fatalf("%q is no token, or there twice", token)
			}
			delete(left, token)
			line = strings.ReplaceAll(line, token, records[token].Value)
		}
		back.WriteString(line)
	}
	if len(left) > 0 {
		t.Errorf("the vault made %d tokens that nobody holds", len(left))
	}
	var want strings.Builder
	for line := range strings.Lines(read(t, w.input)) {
		if !strings.Contains(line, `"!`) {
			want.WriteString(line)
		}
	}
	if back.String() != want.String() {
		t.Errorf("the output stands for\n%s\nwant\n%s", back.String(), want.String())
	}
}
