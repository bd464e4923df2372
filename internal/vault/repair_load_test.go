package vault_test

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/vault"
)

// ringRecords: go test ./internal/vault -run RingChangeUnderLoad -v -args -ring-records 100000
var ringRecords = flag.Int("ring-records", 600, "records of the ring that changes under load")

// writers keep tokenizing until stopped, and count what is written and refused.
type writers struct {
	stop             chan struct{}
	wg               sync.WaitGroup
	written, refused atomic.Int64
}

func (rw *ringWorld) write(vaults ...*vault.Vault) *writers {
	w := &writers{stop: make(chan struct{})}
	for _, v := range vaults {
		w.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-w.stop:
					return
				default:
				}
				item := value("email", fmt.Sprintf("w%d@example.com", n))
				if _, err := v.Tokenize(rw.ctx(), rw.admin, vault.TokenizeRequest{Items: []vault.TokenizeItem{item}}); err != nil {
					w.refused.Add(1)
				}
				w.written.Add(1)
			}
		})
	}
	return w
}

func (w *writers) end() {
	close(w.stop)
	w.wg.Wait()
}

// G2, G3: a region is added to a ring of many records while clients write
// through instances of the old ring and the new: nothing is refused, and in the
// end nothing hangs on any one region. Then the first region leaves.
func TestRingChangeUnderLoad(t *testing.T) {
	rw := newRingWorld(t)
	const batch = 200
	for range (*ringRecords + batch - 1) / batch {
		items := make([]vault.TokenizeItem, batch)
		for i := range items {
			items[i] = value("email", fmt.Sprintf("p%d@example.com", i))
		}
		rw.tokenize(rw.a, items...)
	}
	change := func(name string, next *vault.Vault, old ...*vault.Vault) {
		t.Helper()
		w := rw.write(append(old, next)...)
		begun := time.Now()
		next.RepairPass(t.Context())
		took := time.Since(begun)
		w.end()
		s := rw.status(next)
		t.Logf("%s: %d records repaired in %v, %.0f a second, beside %d written by clients, %d refused",
			name, s.Repaired, took.Round(time.Millisecond), float64(s.Repaired)/took.Seconds(), w.written.Load(), w.refused.Load())
		if w.refused.Load() != 0 || s.Failed != 0 || s.Repaired < *ringRecords {
			t.Errorf("%s: %d refused, %+v", name, w.refused.Load(), s)
		}
		next.RepairPass(t.Context()) // what the old ring's instances wrote since
		c := rw.coverage(next)
		if c.Records < *ringRecords || c.Degraded != 0 || c.Outdated != 0 || c.Unreadable != 0 {
			t.Errorf("%s: %+v", name, c)
		}
		for _, r := range c.Regions {
			if r.IfLost != 0 || r.SecretsIfLost != 0 || r.MissingCopies != 0 {
				t.Errorf("%s: coverage of %s: %+v", name, r.Name, r)
			}
		}
	}
	added := rw.with(regionA, 2, abc())
	change("a region added", added, rw.a)
	rw.settle()
	change("the first removed", rw.with(regionB, 3, abc()[1:]), rw.with(regionB, 2, abc()))
}
