package embedded_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"piivault/internal/store"
	"piivault/internal/store/embedded"
)

// population is more than the block cache holds several times over.
const population = 100_000

func benchID(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func benchRecord(n int, message []byte) *store.Record {
	return &store.Record{
		Key: store.Key{Tenant: "k3v9x2m7q4w8z1y6", ID: benchID(n)}, Type: "email", Message: message, Created: 1_700_000_000_000,
		Subject: benchID(n / 10), RingEpoch: 1, Home: "eu-west-1",
	}
}

func populated(b *testing.B) *embedded.Store {
	b.Helper()
	e := engine(b, options(b.TempDir(), nil))
	s := embedded.New(e)
	message := make([]byte, 700)
	random := rand.NewChaCha8([32]byte{1})
	for from := 0; from < population; from += 500 {
		news := make([]store.New, 500)
		for i := range news {
			_, _ = random.Read(message)
			news[i].Record = benchRecord(from+i, message)
		}
		if _, err := s.Insert(b.Context(), news); err != nil {
			b.Fatal(err)
		}
		// The outbox is read and emptied, as a replicator does.
		if err := e.Ack(b.Context(), uint64(from+500)); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// cpu is the process's CPU time in ns: the figure that a busy machine leaves alone.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRead: live records at random, as a detokenize reads them.
func BenchmarkRead(b *testing.B) {
	s := populated(b)
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			refs := make([]store.Ref, 20_000)
			for i := range refs {
				refs[i] = store.Ref{Tenant: "k3v9x2m7q4w8z1y6", ID: benchID(rand.IntN(population))}
			}
			b.ReportAllocs()
			at, start := 0, cpu(b)
			for b.Loop() {
				at = (at + size) % (len(refs) - size)
				states, err := s.Read(b.Context(), refs[at:at+size])
				if err != nil || states[0].Record == nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkInsert: one record and its fsync.
func BenchmarkInsert(b *testing.B) {
	s := embedded.New(engine(b, options(b.TempDir(), nil)))
	message := make([]byte, 700)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		got, err := s.Insert(b.Context(), []store.New{{Record: benchRecord(n, message)}})
		if err != nil || got[0] != store.Inserted {
			b.Fatal(got, err)
		}
	}
}
