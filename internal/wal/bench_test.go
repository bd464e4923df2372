package wal_test

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"piivault/internal/wal"
)

// cpu is the process's CPU time in ns: the figure that a busy machine leaves alone.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkCommit: durable single-op commits, each an insert with an existence
// check, a derived row and an outbox row, as a record has.
func BenchmarkCommit(b *testing.B) {
	for _, workers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			e := open(b, options(b.TempDir()))
			value := make([]byte, 500)
			_, _ = rand.Read(value)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu(b)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						key := make([]byte, 32)
						_, _ = rand.Read(key)
						if err := e.Submit(func(tx *wal.Tx) error {
							if _, ok, err := tx.Get(table, key); ok || err != nil {
								return err
							}
							tx.Put(table, key, value)
							return nil
						}).Wait(b.Context()); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}
