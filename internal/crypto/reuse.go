package crypto

import (
	"context"
	"sync"
	"time"
)

// Policy says how many values may share a data key. The zero Policy is
// per_field: one. Reuse needs all three limits, and stays inside a tenant and
// a type.
type Policy struct {
	Reuse       bool
	MaxMessages int
	MaxBytes    int64         // of plaintext
	MaxAge      time.Duration // since the key was first used
}

func (p Policy) shares() bool {
	return p.Reuse && p.MaxMessages > 1 && p.MaxBytes > 0 && p.MaxAge > 0
}

// fits reports that a value of n more bytes may join what a key has sealed.
func (p Policy) fits(messages int, bytes, n int64) bool {
	return messages < p.MaxMessages && bytes+n <= p.MaxBytes
}

// kept is a data key with what it has sealed so far.
type kept struct {
	key      *dataKey
	policy   Policy
	born     time.Time
	decision uint64 // of its keyset, when it was made
	messages int
	bytes    int64
	expiry   *time.Timer
}

// reuse keeps at most one data key for each partition, never a degraded one:
// that is used once, so that nothing more depends on the copies it has.
type reuse struct {
	mu   sync.Mutex // guards keys and what they point to
	keys map[partition]*kept
}

// take counts a value of n bytes against the partition's key and returns a
// copy of it, nil where there is none that may seal it.
func (u *reuse) take(p partition, policy Policy, n int64, keys *Keyset, now time.Time) *dataKey {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.keys[p]
	if k == nil {
		return nil
	}
	age := now.Sub(k.born)
	if k.policy != policy || k.decision != keys.decisions.Load() || age < 0 || age >= policy.MaxAge || !policy.fits(k.messages, k.bytes, n) {
		u.dropLocked(p, k)
		return nil
	}
	k.messages++
	k.bytes += n
	return k.key.clone()
}

// put keeps a key for later, or wipes it where it is of no more use. A timer
// wipes it at its maximum age, used or not.
func (u *reuse) put(p partition, k *kept, now time.Time) {
	left := k.policy.MaxAge - now.Sub(k.born)
	if k.key.degraded() || left <= 0 || !k.policy.fits(k.messages, k.bytes, 1) {
		k.key.key.Wipe()
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.keys[p]; old != nil {
		u.dropLocked(p, old)
	}
	if u.keys == nil {
		u.keys = make(map[partition]*kept)
	}
	u.keys[p] = k
	k.expiry = time.AfterFunc(left, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.dropLocked(p, k)
	})
}

func (u *reuse) dropLocked(p partition, k *kept) {
	k.expiry.Stop()
	k.key.key.Wipe()
	if u.keys[p] == k {
		delete(u.keys, p)
	}
}

func (u *reuse) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for p, k := range u.keys {
		u.dropLocked(p, k)
	}
}

func (k *dataKey) clone() *dataKey {
	c := *k
	c.key = k.key.Clone()
	return &c
}

// slot is a data key that a batch needs, and the values that will share it.
type slot struct {
	partition partition
	id        string // of its data key, where one is to be made
	values    []int
	kept
}

// batch finds a data key for every value of one Seal.
type batch struct {
	sealer *Sealer
	values []Value
	keys   []*dataKey // by value
	slots  []*slot
	taken  []*dataKey // copies of keys that stay in reuse
	room   []slot     // for one a value
	own    []int      // each value's index
}

func newBatch(s *Sealer, values []Value) *batch {
	n := len(values)
	b := &batch{
		sealer: s, values: values, keys: make([]*dataKey, n),
		slots: make([]*slot, 0, n), room: make([]slot, n), own: make([]int, n),
	}
	for i := range b.own {
		b.own[i] = i
	}
	return b
}

// newSlot is a slot that value i is the first in.
func (b *batch) newSlot(i int, p partition) *slot {
	t := &b.room[i]
	*t = slot{partition: p, values: b.own[i : i+1 : i+1]}
	return t
}

// provide is the one place where data keys come from: kept ones first, then
// those made ahead, then new ones, all at once.
func (b *batch) provide(ctx context.Context) error {
	open := make(map[partition]*slot)
	for i := range b.values {
		b.plan(i, open)
	}
	fresh := b.slots
	if err := b.fetch(ctx, b.takePrepared()); err != nil {
		return err
	}
	// A degraded key is used once: the others of its slot get their own.
	var more []*slot
	for _, t := range fresh {
		if !t.key.degraded() {
			continue
		}
		for _, i := range t.values[1:] {
			more = append(more, b.newSlot(i, t.partition))
		}
		t.values = t.values[:1]
	}
	b.slots = append(b.slots, more...)
	if err := b.fetch(ctx, more); err != nil {
		return err
	}
	for _, t := range b.slots {
		for _, i := range t.values {
			b.keys[i] = t.key
		}
	}
	return nil
}

// plan finds value i a kept key, a slot that is open to its partition, or a new slot.
func (b *batch) plan(i int, open map[partition]*slot) {
	v := &b.values[i]
	p := partition{v.Place.Tenant, v.Place.Type}
	n := int64(v.Plaintext.Len())
	if !v.Policy.shares() {
		b.slots = append(b.slots, b.newSlot(i, p))
		return
	}
	t := open[p]
	if t == nil {
		if k := b.sealer.reuse.take(p, v.Policy, n, b.sealer.ring.For(p.tenant), b.sealer.now()); k != nil {
			b.keys[i] = k
			b.taken = append(b.taken, k)
			return
		}
	}
	if t == nil || t.policy != v.Policy || !v.Policy.fits(t.messages, t.bytes, n) {
		t = b.newSlot(i, p)
		t.policy = v.Policy
		open[p] = t
		b.slots = append(b.slots, t)
	} else {
		t.values = append(t.values, i)
	}
	t.messages++
	t.bytes += n
}

// takePrepared fills the slots for which a key was made ahead, and returns the
// others. Where it may be kept for more, its age counts from now, its first use.
func (b *batch) takePrepared() (lacking []*slot) {
	ahead := b.sealer.ahead
	if ahead == nil || b.sealer.ring.prompt() {
		return b.slots
	}
	for _, t := range b.slots {
		if k := ahead.take(t.partition); k != nil {
			t.key, t.decision, t.born = k.key, k.decision, b.sealer.now()
		} else {
			lacking = append(lacking, t)
		}
	}
	return lacking
}

func (b *batch) fetch(ctx context.Context, slots []*slot) error {
	ring := b.sealer.ring
	for _, t := range slots {
		var err error
		if t.id, err = newDataKeyID(b.sealer.random); err != nil {
			return err
		}
	}
	return ring.each(len(slots), func(i int) error {
		t := slots[i]
		keys := ring.For(t.partition.tenant)
		t.decision, t.born = keys.decisions.Load(), b.sealer.now()
		var err error
		t.key, err = keys.newDataKey(ctx, t.id, t.partition)
		return err
	})
}

// finish keeps the last key of each partition that may seal more, and wipes all others.
func (b *batch) finish() {
	for _, k := range b.taken {
		k.key.Wipe()
	}
	for _, t := range b.slots {
		switch {
		case t.key == nil:
		case t.policy.shares():
			alone := t.kept // not with the whole batch behind it
			b.sealer.reuse.put(t.partition, &alone, b.sealer.now())
		default:
			t.key.key.Wipe()
		}
	}
}
