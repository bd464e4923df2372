package embedded_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/audit/embedded"
	"piivault/internal/wal"
)

// typical is a detokenize of record n.
func typical(n int) audit.Entry {
	id := fmt.Sprintf("%043d", n)
	return audit.Entry{
		Time: time.Now().UnixMilli(), RequestID: "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", Tenant: "t_3q2x9v", Actor: "key_8fJ2kQ",
		Authentication: "api_key", Action: "detokenize", Record: id, Type: "email",
		Subject: id, Purpose: "support", Ticket: "CASE-1042", Reveal: "plain", Decision: "allow",
		Policies: []string{"reader"}, PolicySet: strings.Repeat("p", 43), Region: "eu-west-1",
		DataKey: strings.Repeat("d", 22), Copies: []string{"eu-west-1", "us-east-1"}, Client: "192.0.2.17:51234",
		Outcome: audit.Authorized,
	}
}

func openOnDisk(b *testing.B) *embedded.Log {
	b.Helper()
	e, err := wal.Open(wal.Options{Dir: b.TempDir(), Region: "eu-west-1", Tables: []wal.Table{embedded.Table()}, Outbox: true, Logger: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	l, err := embedded.Open(context.Background(), embedded.Config{
		Engine: e, Region: "eu-west-1", Instance: "a", Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		l.Close()
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppend: durable appends of one entry by goroutines at once, index
// rows included.
func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			l := openOnDisk(b)
			var n atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range goroutines {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if _, err := l.Append([]audit.Entry{typical(int(i))}).Wait(context.Background()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkIndex: what one entry costs behind the release.
func BenchmarkIndex(b *testing.B) {
	l := openOnDisk(b)
	const n = 20_000
	for k := range n / 100 {
		entries := make([]audit.Entry, 100)
		for i := range entries {
			entries[i] = typical(k*100 + i)
		}
		if _, err := l.Append(entries).Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Reindex(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
}

// BenchmarkQuery: a page of 100 by actor.
func BenchmarkQuery(b *testing.B) {
	l := openOnDisk(b)
	for range 200 {
		entries := make([]audit.Entry, 50)
		for i := range entries {
			entries[i] = typical(i)
		}
		if _, err := l.Append(entries).Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Reindex(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		found, _, err := l.Query(context.Background(), audit.Query{Tenant: "t_3q2x9v", Actor: "key_8fJ2kQ", Limit: 100})
		if err != nil || len(found) != 100 {
			b.Fatal(len(found), err)
		}
	}
}
