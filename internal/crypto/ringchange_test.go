package crypto_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
)

// pool is four regions with the keys that rings are made of: three each, and
// two families of replicas.
type pool struct {
	kmss    []*localkms.KMS
	single  [][]string // by region
	related [][]string // by family, then region
}

func newPool(t *testing.T) *pool {
	t.Helper()
	p := &pool{kmss: newKMSs(t, 4), related: make([][]string, 2)}
	must := func(arn string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return arn
	}
	for _, k := range p.kmss {
		p.single = append(p.single, []string{k.Keys()[0], must(k.CreateKey(false)), must(k.CreateKey(false))})
	}
	for f := range p.related {
		primary := must(p.kmss[0].CreateKey(true))
		p.related[f] = []string{primary}
		for _, k := range p.kmss[1:] {
			p.related[f] = append(p.related[f], must(k.Replicate(p.kmss[0], primary)))
		}
	}
	return p
}

// only leaves the KMSs of the given regions up.
func (p *pool) only(up ...int) {
	for i, k := range p.kmss {
		k.SetFault(localkms.Down, 0)
		if slices.Contains(up, i) {
			k.SetFault(localkms.Up, 0)
		}
	}
}

// change is a deployment whose ring changes while messages are in its table.
type change struct {
	*pool
	t       *testing.T
	mode    crypto.Mode
	members []int // regions, in the ring's order
	key     []int // each region's key of single
	family  int   // of related
	used    map[int][]string
	epoch   uint64
	values  []crypto.Value
	sealed  []crypto.Sealed
}

func (c *change) arn(region int) string {
	if c.mode == crypto.MultiRegion {
		return c.related[c.family][region]
	}
	return c.single[region][c.key[region]]
}

// ring is the present one; keys that a region used before are its former ones.
func (c *change) ring() crypto.RingConfig {
	config := crypto.RingConfig{Local: regionName(c.members[0]), Mode: c.mode, Epoch: c.epoch}
	for _, i := range c.members {
		r := crypto.Region{Name: regionName(i), KMS: c.kmss[i], KeyARN: c.arn(i)}
		for _, arn := range c.used[i] {
			if arn != r.KeyARN {
				r.Former = append(r.Former, arn)
			}
		}
		if !slices.Contains(c.used[i], r.KeyARN) {
			c.used[i] = append(c.used[i], r.KeyARN)
		}
		config.Regions = append(config.Regions, r)
	}
	return config
}

// alter makes one ring change.
func (c *change) alter(rt *rapid.T) {
	c.epoch++
	spare := slices.DeleteFunc([]int{0, 1, 2, 3}, func(i int) bool { return slices.Contains(c.members, i) })
	switch kind := rapid.SampledFrom([]string{"add", "remove", "replace", "mode", "order"}).Draw(rt, "change"); {
	case kind == "add" && len(spare) > 0:
		at := rapid.IntRange(0, len(c.members)).Draw(rt, "at")
		c.members = slices.Insert(c.members, at, rapid.SampledFrom(spare).Draw(rt, "added"))
	case kind == "remove" && len(c.members) > 2:
		at := rapid.IntRange(0, len(c.members)-1).Draw(rt, "removed")
		c.members = slices.Delete(c.members, at, at+1)
	case kind == "replace" && c.mode == crypto.MultiRegion:
		c.family = 1 - c.family
	case kind == "replace":
		c.key[rapid.SampledFrom(c.members).Draw(rt, "region")] = rapid.IntRange(0, 2).Draw(rt, "key")
	case kind == "mode" && c.mode == crypto.Copies:
		c.mode = crypto.MultiRegion
	case kind == "mode":
		c.mode = crypto.Copies
	default:
		slices.Reverse(c.members)
	}
	c.ring()
}

// openers are the members that open the message with their own KMS alone.
func (c *change) openers(i int) (who []int) {
	config := c.ring()
	for _, g := range c.members {
		c.only(g)
		value, _, err := open(c.t, localTo(c.t, config, regionName(g)), c.sealed[i].Message, c.values[i])
		if err == nil && bytes.Equal(value, c.values[i].Plaintext.Bytes()) {
			who = append(who, g)
		}
	}
	return who
}

func (c *change) drawUp(rt *rapid.T) []int {
	up := rapid.SliceOfNDistinct(rapid.SampledFrom(c.members), 1, len(c.members), rapid.ID[int]).Draw(rt, "up")
	c.only(up...)
	return up
}

func (c *change) seal(rt *rapid.T) {
	c.drawUp(rt)
	v := drawValue(rt)
	c.values = append(c.values, v)
	c.sealed = append(c.sealed, mustSeal(c.t, localTo(c.t, c.ring(), regionName(c.members[0])), v))
}

// rewrap repairs one message with some of the KMSs and checks what it may do.
func (c *change) rewrap(rt *rapid.T, i int, up []int) {
	before, could, config := c.sealed[i], c.openers(i), c.ring()
	c.only(up...)
	by := rapid.SampledFrom(c.members).Draw(rt, "by")
	after, err := localTo(c.t, config, regionName(by)).Rewrap(c.t.Context(), before.Message)
	if err != nil {
		if !errors.Is(err, crypto.ErrNothingToAdd) && slices.ContainsFunc(could, func(g int) bool { return slices.Contains(up, g) }) {
			rt.Fatalf("openable by %v, up %v: %v", could, up, err)
		}
		return
	}
	c.sealed[i] = after
	can := c.openers(i)
	for _, g := range could {
		if !slices.Contains(can, g) {
			rt.Fatalf("opened in %v, then in %v", could, can)
		}
	}
	was, is := dissect(c.t, before.Message), dissect(c.t, after.Message)
	if bytes.Equal(was.id, is.id) || !bytes.Equal(was.context, is.context) || after.DataKey != before.DataKey || after.RingEpoch != c.epoch {
		rt.Fatal("a message id twice, another data key or another epoch")
	}
	c.checkCopies(rt, was, is, after)
}

// checkCopies: nothing changed, nothing dropped before all was there, and then everything else.
func (c *change) checkCopies(rt *rapid.T, was, is parts, after crypto.Sealed) {
	added := 0
	for arn, raw := range is.copies {
		if old, had := was.copies[arn]; !had {
			added++
		} else if !bytes.Equal(old, raw) {
			rt.Fatalf("the copy of %s changed", arn)
		}
	}
	want := len(c.members)
	if c.mode == crypto.MultiRegion {
		want = 1
	}
	switch {
	case len(after.Missing) == 0 && len(is.copies) != want:
		rt.Fatalf("complete with %d copies, want %d", len(is.copies), want)
	case len(after.Missing) > 0 && len(is.copies) < min(len(was.copies)+added, crypto.MaxCopies):
		rt.Fatalf("%d copies and %d more became %d while %v has none", len(was.copies), added, len(is.copies), after.Missing)
	case len(is.copies) > crypto.MaxCopies:
		rt.Fatalf("%d copies", len(is.copies))
	}
	for _, g := range c.members {
		if slices.Contains(after.Present, regionName(g)) == slices.Contains(after.Missing, regionName(g)) {
			rt.Fatalf("present %v, missing %v", after.Present, after.Missing)
		}
	}
}

// A message has room for eight copies: what a region of the ring needs comes
// before what nobody does.
func TestRewrapWithinTheRoomOfAMessage(t *testing.T) {
	kmss := newKMSs(t, crypto.MaxCopies)
	c := ringConfig(kmss)
	v := boundValue("x")
	message := mustSeal(t, localTo(t, c, regionName(0)), v).Message
	for i, k := range kmss {
		arn, err := k.CreateKey(false)
		if err != nil {
			t.Fatal(err)
		}
		c.Regions[i].Former, c.Regions[i].KeyARN = []string{c.Regions[i].KeyARN}, arn
	}
	kmss[7].SetFault(localkms.Down, 0)
	again, err := localTo(t, c, regionName(0)).Rewrap(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{c.Regions[7].Former[0]}
	for i := range 7 {
		want = slices.Insert(want, i, c.Regions[i].KeyARN)
	}
	equal(t, "copies", dissect(t, again.Message).order, want)
	kmss[7].SetFault(localkms.Up, 0)
	if region := mustOpen(t, localTo(t, c, regionName(7)), again.Message, v); region != regionName(7) {
		t.Errorf("opened by %s", region)
	}
}

// Rings of 2 to 4 regions: regions added and removed, keys replaced, copies to
// multi_region and back, in any order, while any KMSs are out of reach: a
// rewrap never leaves a region of the ring unable to open what it could, and
// when all are back one rewrap makes every message complete that anybody could
// open.
func TestRingChanges(t *testing.T) {
	p := newPool(t)
	rapid.Check(t, func(rt *rapid.T) {
		c := &change{pool: p, t: t, key: make([]int, 4), used: map[int][]string{}, epoch: 1}
		c.mode = rapid.SampledFrom([]crypto.Mode{crypto.Copies, crypto.MultiRegion}).Draw(rt, "mode")
		c.members = []int{0, 1, 2, 3}[:rapid.IntRange(2, 4).Draw(rt, "regions")]
		c.members = slices.Clone(c.members)
		c.seal(rt)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"alter", "seal", "rewrap", "rewrap"}).Draw(rt, "step") {
			case "alter":
				c.alter(rt)
			case "seal":
				c.seal(rt)
			case "rewrap":
				c.rewrap(rt, rapid.IntRange(0, len(c.sealed)-1).Draw(rt, "message"), c.drawUp(rt))
			}
		}
		for i := range c.sealed {
			if len(c.openers(i)) == 0 {
				continue // a region left with the only copy
			}
			c.rewrap(rt, i, c.members)
			if who := c.openers(i); len(who) != len(c.members) {
				rt.Fatalf("all are back, and %v of %v can open", who, c.members)
			}
			c.only(c.members...)
			if _, err := localTo(t, c.ring(), regionName(c.members[0])).Rewrap(t.Context(), c.sealed[i].Message); !errors.Is(err, crypto.ErrNothingToAdd) {
				rt.Fatalf("a second time: %v", err)
			}
		}
	})
}
