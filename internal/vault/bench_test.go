package vault_test

import (
	"testing"

	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// parallelism is callers per processor in the concurrent benchmarks.
const parallelism = 32

func solo(c *sim.Config) { c.Solo = true }

// BenchmarkTokenize keeps one value a call, from many callers at once.
func BenchmarkTokenize(b *testing.B) {
	w := newWorld(b, solo)
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.a.Tokenize(b.Context(), w.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{value("email", "ann@example.com")}}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkDetokenize reveals one value a call, from many callers at once.
func BenchmarkDetokenize(b *testing.B) {
	w := newWorld(b, solo)
	tokens := w.tokens(b, 10_000)
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := w.a.Detokenize(b.Context(), w.admin, ask(tokens[i*7919%len(tokens)])); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkTokenizeBatch keeps 100 values a call.
func BenchmarkTokenizeBatch(b *testing.B) {
	w := newWorld(b, solo)
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.a.Tokenize(b.Context(), w.admin, batchOf(100)); err != nil {
				b.Error(err)
			}
		}
	})
}

func batchOf(n int) vault.TokenizeRequest {
	req := vault.TokenizeRequest{}
	for range n {
		req.Items = append(req.Items, value("email", "ann@example.com"))
	}
	return req
}

// BenchmarkDetokenizeBatch reveals 100 values a call.
func BenchmarkDetokenizeBatch(b *testing.B) {
	w := newWorld(b, solo)
	tokens := w.tokens(b, 10_000)
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			at := i * 7919 % (len(tokens) - 100)
			if _, err := w.a.Detokenize(b.Context(), w.admin, ask(tokens[at:at+100]...)); err != nil {
				b.Error(err)
			}
		}
	})
}

// tokens makes n records.
func (w *world) tokens(b *testing.B, n int) []secret.Text {
	b.Helper()
	var tokens []secret.Text
	for len(tokens) < n {
		out, err := w.a.Tokenize(b.Context(), w.admin, batchOf(500))
		if err != nil {
			b.Fatal(err)
		}
		for _, item := range out {
			tokens = append(tokens, item.Token)
		}
	}
	return tokens
}
