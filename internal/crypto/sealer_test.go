package crypto_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

func drawPlace(t *rapid.T) crypto.Place {
	text := func(name string) string { return rapid.StringN(0, 50, 200).Draw(t, name) }
	return crypto.Place{
		Tenant: text("tenant"), Record: text("record"), Type: text("type"), Subject: text("subject"),
		Generation: rapid.Uint32().Draw(t, "generation"),
		Created:    rapid.Int64().Draw(t, "created"), Expires: rapid.Int64().Draw(t, "expires"),
	}
}

func drawValue(t *rapid.T) crypto.Value {
	v := crypto.Value{Place: drawPlace(t), Plaintext: secret.NewPlaintext(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"))}
	if rapid.Bool().Draw(t, "bound") {
		v.Token = secret.NewText(rapid.StringN(1, -1, 400).Draw(t, "token"))
	}
	return v
}

// G1, G8: a value opens in its place and in no other, under its token and no other.
func TestOpensInItsPlaceOnly(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil)
	rapid.Check(t, func(rt *rapid.T) {
		v, elsewhere := drawValue(rt), drawPlace(rt)
		message := mustSeal(t, s, v).Message
		mustOpen(t, s, message, v)
		for name, change := range map[string]func(*crypto.Value){
			"tenant":     func(o *crypto.Value) { o.Place.Tenant = elsewhere.Tenant },
			"record":     func(o *crypto.Value) { o.Place.Record = elsewhere.Record },
			"type":       func(o *crypto.Value) { o.Place.Type = elsewhere.Type },
			"generation": func(o *crypto.Value) { o.Place.Generation = elsewhere.Generation },
			"subject":    func(o *crypto.Value) { o.Place.Subject = elsewhere.Subject },
			"created":    func(o *crypto.Value) { o.Place.Created = elsewhere.Created },
			"expires":    func(o *crypto.Value) { o.Place.Expires = elsewhere.Expires },
			"shift": func(o *crypto.Value) {
				o.Place.Tenant, o.Place.Record = o.Place.Tenant+"x", strings.TrimPrefix(o.Place.Record, "x")
			},
			"token":    func(o *crypto.Value) { o.Token = secret.NewText(v.Token.Reveal() + "x") },
			"no token": func(o *crypto.Value) { o.Token = secret.Text{} },
		} {
			other := v
			change(&other)
			if other.Place == v.Place && (v.Token.IsZero() || other.Token.Equal(v.Token)) {
				continue
			}
			if value, _, err := open(t, s, message, other); !errors.Is(err, crypto.ErrAuthentication) || value != nil {
				rt.Errorf("another %s: %v", name, err)
			}
		}
	})
}

// G8: every bit counts, wherever it stands and whoever opens it.
func TestEveryFlippedBit(t *testing.T) {
	c := ringConfig(newKMSs(t, 2))
	for _, v := range []crypto.Value{boundValue("jane@example.com"), {Place: boundValue("").Place, Plaintext: secret.NewPlaintext([]byte("x"))}} {
		for _, local := range []string{"region-0", "region-1"} {
			s := localTo(t, c, local)
			message := mustSeal(t, s, v).Message
			for i := range len(message) * 8 {
				message[i/8] ^= 1 << (i % 8)
				if _, _, err := open(t, s, message, v); err == nil {
					t.Fatalf("bit %d of byte %d does not count", i%8, i/8)
				}
				message[i/8] ^= 1 << (i % 8)
			}
			mustOpen(t, s, message, v)
		}
	}
}

// G4: nothing of a value, of its length below a multiple of 32, or of a token
// is in the message.
func TestMessageShowsNothing(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil)
	v := boundValue("canary-7f3a9c-canary")
	message := mustSeal(t, s, v).Message
	for _, hidden := range []string{"canary", v.Token.Reveal()[:12], v.Place.Record, v.Place.Subject} {
		if bytes.Contains(message, []byte(hidden)) {
			t.Errorf("the message shows %q", hidden)
		}
	}
	sizes := make(map[int]bool)
	for n := 1; n <= 64; n++ {
		sizes[len(mustSeal(t, s, boundValue(strings.Repeat("x", n))).Message)] = true
	}
	if len(sizes) != 2 {
		t.Errorf("values of 1 to 64 bytes have %d sizes: %v", len(sizes), slices.Sorted(maps.Keys(sizes)))
	}
}

// G5: a bound value does not open without its token, even under the data key;
// what is inside the message stays sealed.
func TestBoundValueNeedsItsToken(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 1)), nil, nil)
	v := boundValue("jane@example.com")
	message := mustSeal(t, s, v).Message
	stolen := v
	for _, token := range []string{"", "x", v.Token.Reveal() + " ", strings.ToUpper(v.Token.Reveal())} {
		stolen.Token = secret.NewText(token)
		if _, _, err := open(t, s, message, stolen); !errors.Is(err, crypto.ErrAuthentication) {
			t.Errorf("%q: %v", token, err)
		}
	}
}

// An unbound value opens with or without a token: a type may have become bound since.
func TestUnboundValueNeedsNoToken(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 1)), nil, nil)
	v := boundValue("x")
	v.Token = secret.Text{}
	message := mustSeal(t, s, v).Message
	mustOpen(t, s, message, v)
	v.Token = secret.NewText("any")
	mustOpen(t, s, message, v)
}

func TestSealBatch(t *testing.T) {
	c, _ := remoteRing(t, 2)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	values := make([]crypto.Value, 100)
	for i := range values {
		values[i] = boundValue(strings.Repeat("x", i))
	}
	sealed, err := s.Seal(t.Context(), values)
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for i := range sealed {
		mustOpen(t, s, sealed[i].Message, values[i])
		m, err := crypto.Parse(sealed[i].Message)
		if err != nil || m.DataKey() != sealed[i].DataKey {
			t.Fatalf("data key %q: %v", sealed[i].DataKey, err)
		}
		keys[sealed[i].DataKey] = true
	}
	if len(keys) != len(values) {
		t.Errorf("%d data keys for %d values", len(keys), len(values))
	}
	if sealed, err := s.Seal(t.Context(), nil); err != nil || len(sealed) != 0 {
		t.Errorf("nothing: %v", err)
	}
}

func TestSealRefusesWhatDoesNotFit(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 8)), nil, nil)
	largest := boundValue(strings.Repeat("x", 64<<10))
	mustOpen(t, s, mustSeal(t, s, largest).Message, largest)
	long := boundValue("x")
	long.Place.Record = strings.Repeat("x", 1<<16)
	for _, v := range []crypto.Value{boundValue(strings.Repeat("x", crypto.MaxMessage)), long} {
		if _, err := s.Seal(t.Context(), []crypto.Value{boundValue("x"), v}); !errors.Is(err, crypto.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	}
}

func policy() crypto.Policy {
	return crypto.Policy{Reuse: true, MaxMessages: 4, MaxBytes: 1000, MaxAge: time.Minute}
}

func shared(tenant, typ string, size int) crypto.Value {
	v := boundValue(strings.Repeat("x", size))
	v.Place.Tenant, v.Place.Type, v.Policy = tenant, typ, policy()
	return v
}

// dataKeys seals one value after the other and names their data keys a, b, ... in order.
func dataKeys(t *testing.T, s *crypto.Sealer, values ...crypto.Value) string {
	t.Helper()
	var ids []string
	for _, v := range values {
		sealed := mustSeal(t, s, v)
		mustOpen(t, s, sealed.Message, v)
		ids = append(ids, sealed.DataKey)
	}
	return letters(ids)
}

func letters(ids []string) string {
	var seen []string
	var b strings.Builder
	for _, id := range ids {
		if !slices.Contains(seen, id) {
			seen = append(seen, id)
		}
		b.WriteByte('a' + byte(slices.Index(seen, id)))
	}
	return b.String()
}

func TestReuseLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kmss := newKMSs(t, 2)
		open := func() *crypto.Sealer { return crypto.NewSealer(newRing(t, kmss), nil, nil) }
		one := shared("t", "email", 10)
		perField := one
		perField.Policy = crypto.Policy{}
		half := one
		half.Policy.MaxBytes = 0
		other := one
		other.Policy.MaxMessages = 3
		for _, test := range []struct {
			name   string
			values []crypto.Value
			want   string
		}{
			{"messages", slices.Repeat([]crypto.Value{one}, 9), "aaaabbbbc"},
			{"bytes", []crypto.Value{shared("t", "email", 600), shared("t", "email", 400), one, shared("t", "email", 991), one}, "aabcd"},
			{"larger than the limit", []crypto.Value{shared("t", "email", 1001), shared("t", "email", 1001)}, "ab"},
			{"tenants and types", []crypto.Value{one, shared("u", "email", 1), shared("t", "phone", 1), one, shared("u", "email", 1)}, "abcab"},
			{"per field", []crypto.Value{one, perField, perField, one}, "abca"},
			{"not all limits", []crypto.Value{half, half}, "ab"},
			{"another policy", []crypto.Value{one, other, other, one}, "abbc"},
		} {
			s := open()
			if got := dataKeys(t, s, test.values...); got != test.want {
				t.Errorf("%s: got %s, want %s", test.name, got, test.want)
			}
			s.Close()
		}
		s := open()
		ids := []string{mustSeal(t, s, one).DataKey}
		for _, wait := range []time.Duration{time.Minute - 1, 1, 0} {
			time.Sleep(wait)
			ids = append(ids, mustSeal(t, s, one).DataKey)
		}
		if got := letters(ids); got != "aabb" {
			t.Errorf("age: got %s", got)
		}
		s.Close()
		ids = append(ids, mustSeal(t, s, one).DataKey)
		if got := letters(ids); got != "aabbc" {
			t.Errorf("after Close: got %s", got)
		}
		s.Close()
	})
}

// A batch shares as single values do, and goes on with the key that is left over.
func TestReuseInABatch(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 2)), nil, nil)
	defer s.Close()
	one, phone := shared("t", "email", 10), shared("t", "phone", 10)
	var ids []string
	for range 2 {
		values := []crypto.Value{one, phone, one, one, phone, one, one}
		sealed, err := s.Seal(t.Context(), values)
		if err != nil {
			t.Fatal(err)
		}
		for i := range sealed {
			mustOpen(t, s, sealed[i].Message, values[i])
			ids = append(ids, sealed[i].DataKey)
		}
	}
	if got := letters(ids); got != "abaabac"+"cbccbdd" {
		t.Errorf("got %s", got)
	}
}

// Nothing is shared unless all of a policy says so.
func TestReuseNeedsAllLimits(t *testing.T) {
	s := crypto.NewSealer(newRing(t, newKMSs(t, 1)), nil, nil)
	defer s.Close()
	for name, change := range map[string]func(*crypto.Policy){
		"reuse":        func(p *crypto.Policy) { p.Reuse = false },
		"max_messages": func(p *crypto.Policy) { p.MaxMessages = 0 },
		"max_bytes":    func(p *crypto.Policy) { p.MaxBytes = 0 },
		"max_age":      func(p *crypto.Policy) { p.MaxAge = 0 },
	} {
		v := shared("t", "email", 10)
		change(&v.Policy)
		sealed, err := s.Seal(t.Context(), []crypto.Value{v, v})
		if err != nil {
			t.Fatal(err)
		}
		if sealed[0].DataKey == sealed[1].DataKey {
			t.Errorf("shared without %s", name)
		}
	}
}

// A degraded key is used once; a kept key is dropped when a denial begins or ends.
func TestReuseAndTheRing(t *testing.T) {
	c, kmss := remoteRing(t, 2)
	s := crypto.NewSealer(mustRing(t, c), nil, nil)
	defer s.Close()
	one := shared("t", "email", 10)
	kmss[1].set(fails(crypto.ErrThrottled))
	if got := dataKeys(t, s, one, one, one); got != "abc" {
		t.Errorf("degraded: got %s", got)
	}
	sealed, err := s.Seal(t.Context(), []crypto.Value{one, one, one})
	if err != nil {
		t.Fatal(err)
	}
	if got := letters([]string{sealed[0].DataKey, sealed[1].DataKey, sealed[2].DataKey}); got != "abc" {
		t.Errorf("degraded in a batch: got %s", got)
	}
	kmss[1].set(nil)

	perField := one
	perField.Policy = crypto.Policy{}
	ids := []string{mustSeal(t, s, one).DataKey, mustSeal(t, s, one).DataKey}
	kmss[1].set(fails(crypto.ErrDenied))
	mustSeal(t, s, perField) // finds out
	ids = append(ids, mustSeal(t, s, one).DataKey, mustSeal(t, s, one).DataKey)
	kmss[1].set(nil)
	ids = append(ids, mustSeal(t, s, one).DataKey, mustSeal(t, s, one).DataKey, mustSeal(t, s, one).DataKey)
	// The key that finds out that the denial is over was begun before that.
	if got := letters(ids); got != "aabcdee" {
		t.Errorf("around a denial: got %s", got)
	}
}
