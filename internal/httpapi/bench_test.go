package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/httpapi"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// instantVault costs next to nothing, so that what is measured is this package.
type instantVault struct {
	httpapi.Vault
	tokenized []vault.Tokenized
}

func (v instantVault) Authenticate(context.Context, vault.Credentials) (vault.Principal, error) {
	return vault.Principal{}, nil
}

func (v instantVault) Tokenize(_ context.Context, _ vault.Call, req vault.TokenizeRequest) ([]vault.Tokenized, error) {
	return v.tokenized[:len(req.Items)], nil
}

func (v instantVault) Detokenize(_ context.Context, _ vault.Call, req vault.DetokenizeRequest) (vault.DetokenizeResult, error) {
	items := make([]vault.Revealed, len(req.Items))
	for i := range items {
		items[i] = vault.Revealed{Type: "email", Value: secret.NewPlaintext([]byte("ann@example.com")), Reveal: vault.Plain}
	}
	return vault.DetokenizeResult{Items: items, Audit: audit.Receipt{Log: "eu-west-1/i/1", First: 7, Entries: len(items)}}, nil
}

// discard is the least that a ResponseWriter can be.
type discard struct{ h http.Header }

func (d discard) Header() http.Header       { return d.h }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func BenchmarkHandler(b *testing.B) {
	v := instantVault{tokenized: make([]vault.Tokenized, 100)}
	for i := range v.tokenized {
		v.tokenized[i] = vault.Tokenized{Token: secret.NewText(token), Copies: vault.KeyCopies{Present: []string{"eu-west-1", "us-east-1"}}}
	}
	handler, err := httpapi.New(httpapi.Config{Vault: v, Logger: zerolog.Nop(), Now: time.Now, Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	value, tok := `{"type":"email","value":"ann@example.com","subject_id":"C-000001"}`, `{"token":"`+token+`"}`
	for name, c := range map[string]struct{ path, item, tail string }{
		"tokenize":   {"/v1/tokenize", value, ""},
		"detokenize": {"/v1/detokenize", tok, `,"purpose":"order-shipping"`},
	} {
		for _, n := range []int{1, 100} {
			body := []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(c.item+",", n), ",") + `]` + c.tail + `}`)
			b.Run(name+"/"+map[int]string{1: "single", 100: "batch"}[n], func(b *testing.B) {
				r := request("POST", c.path, string(body))
				w := discard{http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.h)
					r.Body = io.NopCloser(bytes.NewReader(body))
					handler.ServeHTTP(w, r)
				}
			})
		}
	}
}
