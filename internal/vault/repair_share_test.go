package vault_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// counted counts the calls that a repair makes of a KMS.
type counted struct {
	crypto.KMS
	calls *atomic.Int64
}

// Decrypt implements crypto.KMS.
func (c counted) Decrypt(ctx context.Context, arn string, ciphertext []byte, ec map[string]string) (secret.Key, error) {
	c.calls.Add(1)
	return c.KMS.Decrypt(ctx, arn, ciphertext, ec)
}

// Encrypt implements crypto.KMS.
func (c counted) Encrypt(ctx context.Context, arn string, key secret.Key, ec map[string]string) ([]byte, error) {
	c.calls.Add(1)
	return c.KMS.Encrypt(ctx, arn, key, ec)
}

// counting is an instance of the ring in use whose KMS calls are counted.
func (rw *ringWorld) counting(region string, calls *atomic.Int64) *vault.Vault {
	rw.t.Helper()
	cfg := *rw.cfgs[region]
	ring := crypto.RingConfig{Local: region, Mode: crypto.Copies, Epoch: 1, Now: cfg.Now}
	for _, m := range ab() {
		ring.Regions = append(ring.Regions, crypto.Region{Name: m.region, KMS: counted{rw.kms[m.key], calls}, KeyARN: rw.kms[m.key].Keys()[0]})
	}
	var err error
	if cfg.Ring, err = crypto.NewRing(ring); err != nil {
		rw.t.Fatal(err)
	}
	cfg.Sealer = crypto.NewSealer(cfg.Ring, cfg.Now, nil)
	v, err := vault.New(cfg)
	if err == nil {
		err = v.Start(rw.t.Context())
	}
	if err != nil {
		rw.t.Fatal(err)
	}
	return v
}

// degraded are n records without b's copy, in both regions' tables.
func (rw *ringWorld) degraded(n int) []secret.Text {
	rw.t.Helper()
	rw.keyDown("b")
	rw.a.ProbePass(rw.ctx())
	tokens := rw.some(rw.a, n)
	rw.keyDown()
	rw.settle()
	return tokens
}

// G3: two regions that repair the same records at once cost one Decrypt and
// one Encrypt a record: neither takes up what is the other's.
func TestRegionsShareARepair(t *testing.T) {
	const n = 60
	rw := newRingWorld(t)
	tokens := rw.degraded(n)
	var calls atomic.Int64
	a, b := rw.counting(regionA, &calls), rw.counting(regionB, &calls)
	a.BeatPass(t.Context())
	b.BeatPass(t.Context())
	rw.settle()
	a.RepairPass(t.Context())
	b.RepairPass(t.Context()) // of a's work it has seen nothing
	inA, inB := rw.status(a).Repaired, rw.status(b).Repaired
	if inA+inB != n || inA < n/6 || inB < n/6 {
		t.Errorf("repaired %d in one region and %d in the other, of %d", inA, inB, n)
	}
	if got := calls.Load(); got != 2*n {
		t.Errorf("%d KMS calls for %d records", got, n)
	}
	rw.settle()
	rw.keyDown("a")
	rw.wantAll(b, tokens)
}

// G3: what is another region's share is not left for ever where that region
// does not repair: at once where it does not beat, is denied, or somebody asks,
// else after ten seconds in which nothing became less.
func TestNobodyElseRepairs(t *testing.T) {
	const n = 30
	for _, way := range []string{"beats and does nothing", "is silent", "is asked for"} {
		t.Run(way, func(t *testing.T) {
			rw := newRingWorld(t)
			rw.degraded(n)
			var calls atomic.Int64
			a, b := rw.counting(regionA, &calls), rw.counting(regionB, &calls)
			b.BeatPass(t.Context())
			rw.settle()
			passes := 1
			switch way {
			case "is silent":
				rw.clock.advance(time.Minute)
			case "is asked for":
				if err := a.StartRepair(t.Context(), rw.admin); err != nil {
					t.Fatal(err)
				}
			default:
				passes = 4
			}
			for pass := range passes {
				if pass > 0 {
					if s := rw.status(a); pass < 3 && s.Remaining == 0 {
						t.Errorf("all is repaired in pass %d", pass)
					}
					rw.clock.advance(4 * time.Second)
					b.BeatPass(t.Context())
					rw.settle()
				}
				a.RepairPass(t.Context())
			}
			if s := rw.status(a); s.Remaining != 0 {
				t.Errorf("%d remain", s.Remaining)
			}
		})
	}
}

// A record that an older ring wrapped and that lacks a copy remains once.
func TestWhatRemainsIsCountedOnce(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 3)
	rw.degraded(2)
	rw.keyDown("a", "b", "c")
	v := rw.with(regionA, 2, abc())
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Outdated != 5 || s.Remaining != 5 || s.Failed != 5 {
		t.Errorf("status %+v", s)
	}
	rw.keyDown("c") // of two, what B lacks can be made; C's copies cannot
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Outdated != 0 || s.Remaining != 5 {
		t.Errorf("in part: %+v", s)
	}
	rw.keyDown()
	v.ProbePass(t.Context())
	v.RepairPass(t.Context())
	if s := rw.status(v); s.Outdated != 0 || s.Remaining != 0 {
		t.Errorf("in the end: %+v", s)
	}
}

// G3: a gap is closed unasked within seconds where the other region never
// noticed that anything was down, and so was not woken.
func TestShortOutageIsRepairedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 30
		rw := newRingWorld(t)
		rw.degraded(n)
		var calls atomic.Int64
		a, b := rw.counting(regionA, &calls), rw.counting(regionB, &calls)
		b.BeatPass(t.Context())
		rw.settle()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		for range 12 {
			synctest.Wait()
			rw.clock.advance(time.Second)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if s := rw.status(a); s.Remaining != 0 {
			t.Errorf("%d of %d remain", s.Remaining, n)
		}
		cancel()
		running.Wait()
	})
}
