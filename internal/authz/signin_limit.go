package authz

import (
	"cmp"
	"net/netip"
	"sync"
	"time"
)

// FailureLimit bounds the failed sign-ins of one address: a token bucket.
type FailureLimit struct {
	Burst     int // at once; default 200
	PerMinute int // then; default 600
}

const (
	// maxAddresses bounds the buckets, some 100 bytes each. Beyond, addresses
	// that are not known share one.
	maxAddresses = 50_000
	// sweepEvery is how often full buckets are looked for, at most.
	sweepEvery = time.Second
)

// failures count what each address got wrong. An IPv6 address counts as its
// /64, which is what one subscriber has (RFC 6177 §2).
type failures struct {
	now   func() time.Time
	burst float64
	every time.Duration // until one more may fail

	mu      sync.Mutex // guards what follows
	buckets map[netip.Prefix]bucket
	swept   time.Time
}

// bucket is what was left at a time.
type bucket struct {
	left float64
	at   time.Time
}

func newFailures(limit FailureLimit, now func() time.Time) *failures {
	return &failures{
		now: now, burst: float64(cmp.Or(limit.Burst, 200)),
		every:   time.Minute / time.Duration(cmp.Or(limit.PerMinute, 600)),
		buckets: map[netip.Prefix]bucket{},
	}
}

// take counts a failure, or an attempt until giveBack; a *TooManyFailuresError
// where there were too many.
func (f *failures) take(address string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	key := f.key(address, now)
	b := f.level(key, now)
	if b.left < 1 {
		return &TooManyFailuresError{time.Duration((1 - b.left) * float64(f.every))}
	}
	b.left--
	f.buckets[key] = b
	return nil
}

// giveBack undoes a take: it was no failure.
func (f *failures) giveBack(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	key := f.key(address, now)
	b := f.level(key, now)
	b.left = min(b.left+1, f.burst)
	f.buckets[key] = b
}

// level fills a bucket up to now; a clock that went back fills nothing.
func (f *failures) level(key netip.Prefix, now time.Time) bucket {
	b, ok := f.buckets[key]
	if !ok {
		return bucket{f.burst, now}
	}
	if gone := now.Sub(b.at); gone > 0 {
		b.left = min(f.burst, b.left+float64(gone)/float64(f.every))
	}
	return bucket{b.left, now}
}

// key is the address's bucket; the zero Prefix is that of all addresses that
// cannot be read, or for which there is no room.
func (f *failures) key(address string, now time.Time) (key netip.Prefix) {
	if addr, err := netip.ParseAddr(address); err == nil {
		bits := 32
		if addr = addr.Unmap().WithZone(""); addr.Is6() {
			bits = 64
		}
		key, _ = addr.Prefix(bits) // never more bits than the address has
	}
	if _, known := f.buckets[key]; known || len(f.buckets) < maxAddresses {
		return key
	}
	if f.sweep(now); len(f.buckets) < maxAddresses {
		return key
	}
	return netip.Prefix{}
}

// sweep forgets the buckets that are full again.
func (f *failures) sweep(now time.Time) {
	if since := now.Sub(f.swept); since >= 0 && since < sweepEvery {
		return
	}
	f.swept = now
	for key := range f.buckets {
		if f.level(key, now).left >= f.burst {
			delete(f.buckets, key)
		}
	}
}
