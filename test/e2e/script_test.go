package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"piivault/client"
	"piivault/internal/httpapi"
	"piivault/internal/pii"
	"piivault/internal/sim"
	"piivault/internal/wal"
)

// What a child is to do.
const (
	dirEnv   = "E2E_DIR"
	keyEnv   = "E2E_KEY" // "": make tenant and key first
	killEnv  = "E2E_KILL"
	afterEnv = "E2E_KILL_AFTER"
)

// batchKey is the Idempotency-Key of the script's batch.
const batchKey = "a-Fixed-Idempotency-Key-Of-The-Script"

// ack is an answer that the script's client got: from then on it counts.
type ack struct {
	Step   string
	Secret string              // a credential
	Kept   []kept              // these are acknowledged
	Gone   []string            // these tokens are erased
	Region string              // that answered with Read
	Read   []kept              // these values left the vault
	Audit  client.AuditReceipt // of Read
}

// worldTypes are the built-in types and a deterministic one.
func worldTypes() []pii.Type {
	return append(pii.BuiltIn(), pii.Type{Name: "customer_email", Kind: "email", Token: pii.Deterministic})
}

// worldConfig is two regions in dir, on a file system of the test's (nil: the real one).
func worldConfig(dir string, fs vfs.FS) sim.Config {
	return sim.Config{
		Dir: dir, Regions: []string{regionA, regionB}, Types: worldTypes(), Seed: 1, Logger: zerolog.Nop(),
		Engine: func(_ string, o *wal.Options) { o.FS = fs },
	}
}

// serving is a world whose regions are served over HTTP.
type serving struct {
	*sim.World
	servers map[string]*httptest.Server
}

// serve starts a server for each region; around may wrap their handlers.
func serve(w *sim.World, around func(http.Handler) http.Handler) (*serving, error) {
	s := &serving{World: w, servers: map[string]*httptest.Server{}}
	for _, r := range w.Regions {
		handler, err := httpapi.New(httpapi.Config{Vault: r.Vault, Logger: zerolog.Nop(), Now: time.Now, Random: rand.Reader})
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.servers[r.Name] = httptest.NewServer(around(handler))
	}
	return s, nil
}

func (s *serving) close() error {
	for _, server := range s.servers {
		server.Close()
	}
	return s.Close()
}

func (s *serving) client(region, key string) (*client.Client, error) {
	return client.New(s.servers[region].URL, key, client.Config{Retries: -1, HTTP: s.servers[region].Client()})
}

// batchItems are the script's batch: several types, one of them deterministic.
func batchItems() []client.TokenizeItem {
	items := []client.TokenizeItem{
		item("phone", "+353850265481"), item("iban", "IE29AIBK93115212345678"),
		item("text", "several words\nof a note"), item("customer_email", "ann@example.com"),
	}
	for i := range items {
		items[i].SubjectID = "S-1"
	}
	return items
}

// script is a client's fixed sequence of requests. It reports each answer
// before it sends the next request.
type script struct {
	a, b   *client.Client
	settle func(context.Context) error
	said   func(ack)
}

func (s *script) run(ctx context.Context) error {
	single, err := s.keep(ctx, "single", item("email", "single@example.com"))
	if err != nil {
		return err
	}
	batch, err := s.a.Tokenize(ctx, batchKey, client.TokenizeRequest{Items: batchItems()})
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	all := keptOf(batchItems(), batch)
	s.said(ack{Step: "batch", Kept: all})
	if err := s.read(ctx, s.a, regionA, single); err != nil {
		return err
	}
	if err := s.read(ctx, s.a, regionA, all...); err != nil {
		return err
	}
	if _, err := s.a.Erase(ctx, single.Token); err != nil {
		return fmt.Errorf("erase: %w", err)
	}
	s.said(ack{Step: "erase", Gone: []string{single.Token}})
	if _, err := s.a.Detokenize(ctx, reveal(single.Token)); codeOf(err) != "not_found" {
		return fmt.Errorf("an erased token: %w", err)
	}
	if _, err := s.keep(ctx, "late", item("name", "Ann Late Example")); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return fmt.Errorf("replicate: %w", err)
	}
	s.said(ack{Step: "settled"})
	return s.read(ctx, s.b, regionB, all...)
}

func (s *script) keep(ctx context.Context, step string, it client.TokenizeItem) (kept, error) {
	it.SubjectID = "S-1"
	answer, err := s.a.Tokenize(ctx, "", client.TokenizeRequest{Items: []client.TokenizeItem{it}})
	if err != nil {
		return kept{}, fmt.Errorf("%s: %w", step, err)
	}
	k := kept{it.Value, answer.Items[0].Token}
	s.said(ack{Step: step, Kept: []kept{k}})
	return k, nil
}

func (s *script) read(ctx context.Context, c *client.Client, region string, list ...kept) error {
	answer, err := c.Detokenize(ctx, reveal(tokensOf(list)...))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	a := ack{Step: "read", Region: region, Audit: answer.Audit}
	for i, k := range list {
		a.Read = append(a.Read, kept{answer.Items[i].Value, k.Token})
	}
	s.said(a)
	return nil
}

// scriptChild runs the script on a file system that kills this process.
func scriptChild() int {
	n, err := strconv.ParseInt(os.Getenv(killEnv), 10, 64)
	if err == nil {
		err = runScript(context.Background(), os.Getenv(dirEnv), &stepFS{vfs.Default, killAt(n, os.Getenv(afterEnv) != "")}, os.Getenv(keyEnv), say)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// say writes a line to the parent at once.
func say(a ack) {
	line, err := json.Marshal(a)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err) // the parent is gone
	}
}

// runScript opens the world, makes it where there is no key yet, runs the
// script through its HTTP servers and closes it.
func runScript(ctx context.Context, dir string, fs vfs.FS, key string, said func(ack)) (err error) {
	w, err := sim.Open(ctx, worldConfig(dir, fs))
	if err != nil {
		return err
	}
	s, err := serve(w, func(h http.Handler) http.Handler { return h })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if key == "" {
		credential, err := w.Bootstrap(ctx)
		if err != nil {
			return err
		}
		key = credential.Reveal()
		said(ack{Step: "key", Secret: key})
		return nil
	}
	a, err := s.client(regionA, key)
	if err != nil {
		return err
	}
	b, err := s.client(regionB, key)
	if err != nil {
		return err
	}
	return (&script{a: a, b: b, settle: w.Settle, said: said}).run(ctx)
}

// makeWorld makes the world that the script runs in, with a credential.
func makeWorld(t *testing.T, dir string, fs vfs.FS) (key string) {
	t.Helper()
	if err := runScript(t.Context(), dir, fs, "", func(a ack) { key = a.Secret }); err != nil {
		t.Fatal(err)
	}
	return key
}
