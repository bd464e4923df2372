package crypto_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

// parts are the pieces of a message that a rewrap keeps or must not keep.
type parts struct {
	id, context []byte
	copies      map[string][]byte // the whole encrypted data key, by key ARN
	order       []string
}

// dissect reads a message without the package's own parser.
func dissect(tb testing.TB, m []byte) parts {
	tb.Helper()
	at := 3
	take := func(n int) []byte {
		at += n
		return m[at-n : at]
	}
	u16 := func() int {
		b := take(2)
		return int(b[0])<<8 | int(b[1])
	}
	p := parts{id: take(32), copies: make(map[string][]byte)}
	p.context = take(u16())
	for range u16() {
		start := at
		take(u16())
		info := string(take(u16()))
		take(u16())
		p.copies[info] = m[start:at]
		p.order = append(p.order, info)
	}
	return p
}

// G3: whatever was missing, a rewrap adds what can be reached, keeps every
// copy byte for byte, the data key and its context, and makes a new message:
// no header is ever tagged again under the same message id.
func TestRewrap(t *testing.T) {
	kmss := newKMSs(t, 4)
	c := ringConfig(kmss)
	set := func(up []bool) {
		for i, k := range kmss {
			k.SetFault(localkms.Down, 0)
			if up[i] {
				k.SetFault(localkms.Up, 0)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		subset := func(name string) []bool {
			return rapid.SliceOfN(rapid.Bool(), 4, 4).Filter(func(b []bool) bool { return slices.Contains(b, true) }).Draw(rt, name)
		}
		v, first, then := drawValue(rt), subset("up when sealed"), subset("up when rewrapped")
		set(first)
		sealed := mustSeal(t, localTo(t, c, regionName(0)), v)
		set(then)
		again, err := localTo(t, c, regionName(rapid.IntRange(0, 3).Draw(rt, "by"))).Rewrap(t.Context(), sealed.Message)
		readable, gain := false, false
		for i := range kmss {
			readable = readable || first[i] && then[i]
			gain = gain || !first[i] && then[i]
		}
		switch {
		case err == nil && readable && gain:
		case err != nil && (!readable || !gain):
			return
		default:
			rt.Fatalf("sealed %v, rewrapped %v: %v", first, then, err)
		}
		checkRewrapped(rt, sealed, again)
		set([]bool{true, true, true, true})
		for i := range kmss {
			if first[i] || then[i] {
				if region := mustOpen(t, localTo(t, c, regionName(i)), again.Message, v); region != regionName(i) {
					rt.Errorf("opened by %s", region)
				}
			}
		}
	})
}

func checkRewrapped(t *rapid.T, before, after crypto.Sealed) {
	was, is := dissect(new(testing.T), before.Message), dissect(new(testing.T), after.Message)
	if bytes.Equal(was.id, is.id) {
		t.Error("a header was tagged twice")
	}
	if !bytes.Equal(was.context, is.context) || before.DataKey != after.DataKey {
		t.Error("the data key's context changed")
	}
	for info, raw := range was.copies {
		if !bytes.Equal(is.copies[info], raw) {
			t.Errorf("the copy of %s changed", info)
		}
	}
	if len(is.copies) <= len(was.copies) || len(is.copies) != len(after.Present) || len(after.Missing) != 4-len(after.Present) {
		t.Errorf("%d copies became %d: present %v, missing %v", len(was.copies), len(is.copies), after.Present, after.Missing)
	}
}

func TestRewrapDrawsAFreshMessageIDEachTime(t *testing.T) {
	kmss := newKMSs(t, 2)
	s := crypto.NewSealer(newRing(t, kmss), nil, nil)
	kmss[1].SetFault(localkms.Down, 0)
	sealed := mustSeal(t, s, boundValue("x"))
	kmss[1].SetFault(localkms.Up, 0)
	s = crypto.NewSealer(newRing(t, kmss), nil, nil)
	seen := map[string]bool{string(dissect(t, sealed.Message).id): true}
	for range 50 {
		again, err := s.Rewrap(t.Context(), sealed.Message)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(dissect(t, again.Message).id)] = true
	}
	if len(seen) != 51 {
		t.Errorf("%d message ids for 51 messages", len(seen))
	}
}

func TestRewrapRefuses(t *testing.T) {
	c, kmss := remoteRing(t, 3)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	v := boundValue("x")
	whole := mustSeal(t, s, v)
	if _, err := s.Rewrap(t.Context(), whole.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("a complete message: %v", err)
	}
	kmss[1].set(fails(crypto.ErrThrottled))
	degraded := mustSeal(t, s, v)
	if _, err := s.Rewrap(t.Context(), degraded.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("the region is still away: %v", err)
	}
	kmss[1].set(nil)
	for i := range degraded.Message {
		bad := bytes.Clone(degraded.Message)
		bad[i] ^= 4
		if _, err := s.Rewrap(t.Context(), bad); err == nil {
			t.Fatalf("a message with another byte %d was repaired", i)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Rewrap(ctx, degraded.Message); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	kmss[0].set(fails(crypto.ErrDenied))
	if _, err := s.Rewrap(t.Context(), degraded.Message); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("denied here: %v", err)
	}
}

// Ring changes: a region added, one removed, a key replaced, the mode changed,
// each with the record readable before and after.
func TestRewrapAfterARingChange(t *testing.T) {
	kmss := newKMSs(t, 3)
	v := boundValue("x")
	base := ringConfig(kmss) // before there are more keys to choose from
	ring := func(n int) crypto.RingConfig {
		c := base
		c.Regions = slices.Clone(base.Regions[:n])
		return c
	}
	old := ring(2)
	message := mustSeal(t, crypto.NewSealer(mustRing(t, old), nil, nil), v).Message
	was := dissect(t, message)

	added := ring(3)
	removed := ring(1)
	replaced := ring(2)
	second, err := kmss[0].CreateKey(false)
	if err != nil {
		t.Fatal(err)
	}
	replaced.Regions[0].Former, replaced.Regions[0].KeyARN = []string{replaced.Regions[0].KeyARN}, second
	multi := ring(2)
	multi.Mode = crypto.MultiRegion
	primary, err := kmss[0].CreateKey(true)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := kmss[1].Replicate(kmss[0], primary)
	if err != nil {
		t.Fatal(err)
	}
	for i, arn := range []string{primary, replica} {
		multi.Regions[i].Former, multi.Regions[i].KeyARN = []string{multi.Regions[i].KeyARN}, arn
	}
	back := ring(2)
	back.Regions[0].Former, back.Regions[1].Former = []string{primary}, []string{replica}

	a, b, third := was.order[0], was.order[1], base.Regions[2].KeyARN
	for _, test := range []struct {
		name          string
		ring          crypto.RingConfig
		present       []string
		before, after []string
	}{
		{"added", added, []string{"region-0", "region-1", "region-2"}, was.order, []string{a, b, third}},
		{"removed", removed, []string{"region-0"}, was.order, []string{a}},
		{"replaced", replaced, []string{"region-0", "region-1"}, was.order, []string{second, b}},
		{"to multi_region", multi, []string{"region-0", "region-1"}, was.order, []string{primary}},
		{"and back", back, []string{"region-0", "region-1"}, []string{primary}, was.order},
	} {
		if test.name == "and back" {
			message = mustSeal(t, crypto.NewSealer(mustRing(t, multi), nil, nil), v).Message
		}
		equal(t, test.name+": before", dissect(t, message).order, test.before)
		for i := range test.ring.Regions {
			mustOpen(t, localTo(t, test.ring, regionName(i)), message, v)
		}
		s := localTo(t, test.ring, "region-0")
		again, err := s.Rewrap(t.Context(), message)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		is := dissect(t, again.Message)
		equal(t, test.name+": copies", is.order, test.after)
		equal(t, test.name+": present", again.Present, test.present)
		equal(t, test.name+": missing", again.Missing, nil)
		for info, raw := range dissect(t, message).copies {
			if kept := is.copies[info]; kept != nil && !bytes.Equal(kept, raw) {
				t.Errorf("%s: the copy of %s changed", test.name, info)
			}
		}
		for i := range test.ring.Regions {
			mustOpen(t, localTo(t, test.ring, regionName(i)), again.Message, v)
		}
		if _, err := s.Rewrap(t.Context(), again.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
			t.Errorf("%s: a second time: %v", test.name, err)
		}
	}
}

// A region whose key was replaced while it was away keeps its former copy
// until it can be given a new one; until then no other copy goes either.
func TestRewrapKeepsWhatIsStillNeeded(t *testing.T) {
	kmss := newKMSs(t, 3)
	v := boundValue("x")
	c := ringConfig(kmss)
	s := localTo(t, c, "region-0")
	message := mustSeal(t, s, v).Message
	was := dissect(t, message)
	for i := range 2 {
		arn, err := kmss[i].CreateKey(false)
		if err != nil {
			t.Fatal(err)
		}
		c.Regions[i].Former, c.Regions[i].KeyARN = []string{c.Regions[i].KeyARN}, arn
	}
	c.Regions = c.Regions[:2]
	kmss[1].SetFault(localkms.Down, 0)
	again, err := localTo(t, c, "region-0").Rewrap(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "missing", again.Missing, []string{"region-1"})
	is := dissect(t, again.Message)
	equal(t, "copies", is.order, []string{c.Regions[0].KeyARN, was.order[1], was.order[0], was.order[2]})
	for _, arn := range was.order {
		if !bytes.Equal(is.copies[arn], was.copies[arn]) {
			t.Error("a copy changed")
		}
	}
	if _, err := localTo(t, c, "region-0").Rewrap(t.Context(), again.Message); !errors.Is(err, crypto.ErrNothingToAdd) {
		t.Errorf("the region is still away: %v", err)
	}
	kmss[1].SetFault(localkms.Up, 0)
	kmss[0].SetFault(localkms.Down, 0)
	mustOpen(t, localTo(t, c, "region-1"), again.Message, v)
	again, err = localTo(t, c, "region-1").Rewrap(t.Context(), again.Message)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "copies", dissect(t, again.Message).order, []string{c.Regions[0].KeyARN, c.Regions[1].KeyARN})
}

func TestTenantSecret(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	r := mustRing(t, c)
	s := crypto.NewSealer(r, nil, nil)
	key := testKey(t, 5)
	kmss[1].set(fails(crypto.ErrThrottled))
	sealed, err := s.SealTenantSecret(t.Context(), "tn_1", key)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(testKey(t, 5)) {
		t.Fatal("sealing wiped the secret")
	}
	kmss[1].set(nil)
	repaired, err := s.Rewrap(t.Context(), sealed.Message)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, tenant string
		message      []byte
		local        error
		region       string
		want         error
	}{
		{"sealed", "tn_1", sealed.Message, nil, "region-0", nil},
		{"repaired", "tn_1", repaired.Message, nil, "region-0", nil},
		{"denied here", "tn_1", repaired.Message, crypto.ErrDenied, "region-1", nil},
		{"disabled here, one copy", "tn_1", sealed.Message, crypto.ErrDisabled, "", crypto.ErrDisabled},
		{"unreachable here", "tn_1", repaired.Message, crypto.ErrUnreachable, "region-1", nil},
		{"another tenant's", "tn_2", sealed.Message, nil, "", crypto.ErrAuthentication},
		{"a value", "tn_1", mustSeal(t, s, boundValue("x")).Message, nil, "region-0", crypto.ErrAuthentication},
		{"nothing", "tn_1", nil, nil, "", crypto.ErrMalformed},
	} {
		kmss[0].set(nil)
		if test.local != nil {
			kmss[0].set(fails(test.local))
		}
		s := crypto.NewSealer(mustRing(t, c), nil, nil)
		opened, dataKey, region, err := s.OpenTenantSecret(t.Context(), test.tenant, test.message)
		if !errors.Is(err, test.want) || region != test.region {
			t.Errorf("%s: by %q: %v", test.name, region, err)
		}
		if (err == nil) != opened.Equal(key) || err == nil && dataKey != sealed.DataKey {
			t.Errorf("%s: another secret, or data key %q", test.name, dataKey)
		}
	}
	kmss[0].set(fails(crypto.ErrDenied))
	if _, err := s.Rewrap(t.Context(), sealed.Message); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("denied here, and no other copy: %v", err)
	}
	kmss[0].set(nil)

	// A tenant's secret does not pass for a value, whatever place is asked for.
	v := crypto.Value{Place: crypto.Place{Tenant: "tn_1", Type: "email"}}
	if _, _, err := open(t, s, sealed.Message, v); !errors.Is(err, crypto.ErrAuthentication) {
		t.Errorf("as a value: %v", err)
	}
	if _, err := crypto.NewTenantKeys("tn_1", secret.Key{}); err == nil {
		t.Error("keys were derived from nothing")
	}
}

// A tenant's secret is repaired where a value would not be: beside a local key that is denied.
func TestRepairOfATenantSecretBesideADenial(t *testing.T) {
	c, kmss := remoteRing(t, 3)
	s := localTo(t, c, "region-0")
	kmss[2].set(fails(crypto.ErrThrottled))
	sealed, err := s.SealTenantSecret(t.Context(), "tn_1", testKey(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	value := mustSeal(t, s, boundValue("x"))
	kmss[2].set(nil)
	kmss[0].set(fails(crypto.ErrDenied))
	if _, err := s.Rewrap(t.Context(), value.Message); !errors.Is(err, crypto.ErrDenied) {
		t.Errorf("a value: %v", err)
	}
	repaired, err := s.Rewrap(t.Context(), sealed.Message)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "present", repaired.Present, []string{"region-0", "region-1", "region-2"})
}

// Every input of a tenant's HMACs counts, and no two uses or lists of fields meet.
func TestTenantKeysTellEverythingApart(t *testing.T) {
	k := newTenantKeys(t)
	other, err := crypto.NewTenantKeys("tn_2", testKey(t, 7))
	if err != nil {
		t.Fatal(err)
	}
	text := secret.NewText
	value := func(s string) secret.Plaintext { return secret.NewPlaintext([]byte(s)) }
	in := crypto.IdempotentInput{Key: text("k"), Index: 1, Type: "t", Value: value("v"), Subject: "s", Expires: "e"}
	seen := make(map[string]string)
	add := func(name string, sum []byte) {
		if before, ok := seen[string(sum)]; ok {
			t.Errorf("%s is %s", name, before)
		}
		seen[string(sum)] = name
	}
	for name, keys := range map[string]*crypto.TenantKeys{"tn_1": k, "tn_2": other} {
		add(name+" record", []byte(keys.RecordID(text("a"))))
		add(name+" record b", []byte(keys.RecordID(text("b"))))
		add(name+" subject", []byte(keys.SubjectID("a")))
		for _, pair := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"abc", ""}} {
			sum := keys.DeterministicToken(pair[0], value(pair[1]))
			add(name+" deterministic "+pair[0]+"|"+pair[1], sum[:])
		}
		for i, change := range []func(*crypto.IdempotentInput){
			func(*crypto.IdempotentInput) {},
			func(in *crypto.IdempotentInput) { in.Key = text("kk") },
			func(in *crypto.IdempotentInput) { in.Index = 2 },
			func(in *crypto.IdempotentInput) { in.Type, in.Value = "tv", value("") },
			func(in *crypto.IdempotentInput) { in.Value = value("w") },
			func(in *crypto.IdempotentInput) { in.Subject, in.Expires = "se", "" },
			func(in *crypto.IdempotentInput) { in.Expires = "f" },
		} {
			changed := in
			change(&changed)
			sum := keys.IdempotentToken(changed)
			add(name+" idempotent "+string(rune('0'+i)), sum[:])
		}
	}
	if again := k.RecordID(text("a")); seen[again] != "tn_1 record" || len(again) != 43 {
		t.Errorf("the record id is now %s", again)
	}
}

func TestTenantKeysAreSafeForConcurrentUse(t *testing.T) {
	k := newTenantKeys(t)
	want := k.RecordID(secret.NewText("token"))
	done := make(chan bool)
	for range 8 {
		go func() {
			same := true
			for range 200 {
				same = same && k.RecordID(secret.NewText("token")) == want
				k.SubjectID("x")
			}
			done <- same
		}()
	}
	for range 8 {
		if !<-done {
			t.Error("another record id")
		}
	}
}
