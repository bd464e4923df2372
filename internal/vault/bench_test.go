package vault_test

import (
	"runtime"
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
	var tokens []secret.Text
	for range 20 {
		req := vault.TokenizeRequest{}
		for range 500 {
			req.Items = append(req.Items, value("email", "ann@example.com"))
		}
		out, err := w.a.Tokenize(b.Context(), w.admin, req)
		if err != nil {
			b.Fatal(err)
		}
		for _, item := range out {
			tokens = append(tokens, item.Token)
		}
	}
	runtime.GC()
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
