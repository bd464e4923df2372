package interop

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/crypto/kms"
	"piivault/internal/secret"
)

const (
	tenantID = "tenant-of-theirs"
	tokenOf  = "test.email.any.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// theirs is a message that the Python SDK writes, and what is to come of it.
type theirs struct {
	name string
	ask  question
	at   place  // where it is opened
	tok  string // with which token
	want error  // nil: it opens
}

// ordinary is the message that every case differs from: as the vault's own.
func (d *deployment) ordinary() theirs {
	at := place{
		Tenant: tenantID, Record: strings.Repeat("r", 43), Type: "email", Generation: 7, Subject: strings.Repeat("s", 43),
		Created: 1_700_000_000_000, Expires: 1_900_000_000_000,
	}
	made := at
	return theirs{
		name: "as ours", at: at, tok: tokenOf,
		ask: question{
			Op: "seal", Keyring: d.all(), ARNs: d.allKeys(), Suite: suite, Frame: 4096, Token: tokenOf, Place: &made, Value: []byte("ann@example.com"),
			Context: map[string]string{"pv-key": "AAECAwQFBgcICQoLDA0ODw", "pv-tenant": tenantID, "pv-type": "email"},
		},
	}
}

// all is the keyring that makes every copy of a message of the ring.
func (d *deployment) all() string {
	if d.mode == crypto.MultiRegion {
		return "mrk"
	}
	return "multi"
}

func (d *deployment) allKeys() []string {
	if d.mode == crypto.MultiRegion {
		return d.keys[:1]
	}
	return d.keys
}

func (d *deployment) variant(name string, want error, change func(c *theirs)) theirs {
	c := d.ordinary()
	c.name, c.want = name, want
	change(&c)
	return c
}

// good are messages within the format.
func (d *deployment) good() []theirs {
	cases := []theirs{
		d.ordinary(),
		d.variant("not bound", nil, func(c *theirs) { c.ask.Token, c.tok = "", "" }),
		d.variant("not bound, opened with a token", nil, func(c *theirs) { c.ask.Token = "" }),
		d.variant("64 KiB", nil, func(c *theirs) { c.ask.Value = bytes.Repeat([]byte("64 "), 64<<10/3) }),
		d.variant("a value of no byte", nil, func(c *theirs) { c.ask.Value = []byte{} }),
		d.variant("the other region's copy alone", nil, func(c *theirs) { c.ask.Keyring, c.ask.ARNs = "mrk", d.keys[1:] }),
		d.variant("this region's copy alone", nil, func(c *theirs) { c.ask.Keyring, c.ask.ARNs = "mrk", d.keys[:1] }),
	}
	if d.mode == crypto.Copies {
		cases = append(cases, d.variant("copies in another order", nil, func(c *theirs) { c.ask.ARNs = []string{d.keys[1], d.keys[0]} }))
	}
	// Multiples of 128, which is all that the SDK makes; of 0 is not framed.
	for _, frame := range []int{0, 128, 256, 128 << 10} {
		cases = append(cases, d.variant(fmt.Sprint("frames of ", frame), nil, func(c *theirs) { c.ask.Frame = frame }))
	}
	return cases
}

// bad are messages that the SDK writes and opens, and the vault refuses.
func (d *deployment) bad(stranger string) []theirs {
	cases := []theirs{
		d.variant("more context", crypto.ErrAuthentication, func(c *theirs) { c.ask.Context["purpose"] = "x" }),
		d.variant("no pv-key", crypto.ErrAuthentication, func(c *theirs) { delete(c.ask.Context, "pv-key") }),
		d.variant("no context", crypto.ErrAuthentication, func(c *theirs) { c.ask.Context = map[string]string{} }),
		d.variant("another tenant's context", crypto.ErrAuthentication, func(c *theirs) { c.ask.Context["pv-tenant"] = "other" }),
		d.variant("another type's context", crypto.ErrAuthentication, func(c *theirs) { c.ask.Context["pv-type"] = "note" }),
		d.variant("another token", crypto.ErrAuthentication, func(c *theirs) { c.tok = strings.Replace(c.tok, "AA", "AB", 1) }),
		d.variant("no token", crypto.ErrAuthentication, func(c *theirs) { c.tok = "" }),
		d.variant("a stranger's key", crypto.ErrNoCopy, func(c *theirs) { c.ask.Keyring, c.ask.ARNs = "strict", []string{stranger} }),
		d.variant("nine copies", crypto.ErrMalformed, func(c *theirs) {
			c.ask.Keyring, c.ask.ARNs = "multi", slices.Repeat([]string{d.keys[0]}, crypto.MaxCopies+1)
		}),
	}
	for _, other := range []int{0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378, 0x0578} { // without commitment, but the last: signed
		cases = append(cases, d.variant(fmt.Sprintf("suite %#04x", other), crypto.ErrMalformed, func(c *theirs) { c.ask.Suite = other }))
	}
	for name, move := range map[string]func(*place){
		"tenant": func(p *place) { p.Tenant = "other" }, "record": func(p *place) { p.Record = "other" }, "type": func(p *place) { p.Type = "note" },
		"generation": func(p *place) { p.Generation++ }, "subject": func(p *place) { p.Subject = "" },
		"creation": func(p *place) { p.Created++ }, "expiry": func(p *place) { p.Expires = 0 },
	} {
		for _, token := range []string{tokenOf, ""} {
			cases = append(cases, d.variant("written for another "+name, crypto.ErrAuthentication, func(c *theirs) {
				c.ask.Token = token
				move(c.ask.Place)
			}))
		}
	}
	return cases
}

// opensTheirs: what the Python SDK wrote, around an inner structure made in
// Python, opens in each region, or is refused for what it is.
func (d *deployment) opensTheirs(t *testing.T) {
	t.Helper()
	cases := append(d.good(), d.bad(d.python.must(t, question{Op: "create_key", Region: regions()[local]})[0].ARN)...)
	questions := make([]question, len(cases))
	for i, c := range cases {
		questions[i] = c.ask
	}
	sealed := d.python.must(t, questions...)
	opened := 0
	for region := range regions() {
		s := d.sealer(t, region)
		for i, c := range cases {
			value, err := open(t, s, sealed[i].Message, c)
			if !errors.Is(err, c.want) || c.want == nil && (err != nil || !value.Equal(secret.NewPlaintext(c.ask.Value))) {
				t.Errorf("%s, in %s: %v, not %v", c.name, regions()[region], err, c.want)
			}
			if err == nil {
				opened++
			}
		}
	}
	t.Logf("%d cases: %d opened, %d refused", len(cases)*len(regions()), opened, len(cases)*len(regions())-opened)
	d.tenantSecretOfTheirs(t)
	d.repairsTheirs(t)
}

// sealer is one of ours in a region, over the KMS that all use.
func (d *deployment) sealer(t *testing.T, region int) *crypto.Sealer {
	t.Helper()
	c := crypto.RingConfig{Local: regions()[region], Mode: d.mode, Epoch: 1}
	for i, name := range regions() {
		k, err := kms.New(kms.Config{Region: name, Endpoint: d.kms, Credentials: d.account.Config(name).Credentials})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		c.Regions = append(c.Regions, crypto.Region{Name: name, KMS: k, KeyARN: d.keys[i], Timeout: patience})
	}
	ring, err := crypto.NewRing(c)
	if err != nil {
		t.Fatal(err)
	}
	return crypto.NewSealer(ring, nil, nil)
}

// open is what a detokenize does.
func open(t *testing.T, s *crypto.Sealer, message []byte, c theirs) (secret.Plaintext, error) {
	t.Helper()
	m, err := crypto.Parse(message)
	if err != nil {
		return secret.Plaintext{}, err
	}
	u := s.Unwrap(t.Context(), c.at.Tenant, []*crypto.Message{m})[0]
	if u.Err != nil {
		return secret.Plaintext{}, u.Err
	}
	defer u.Key.Wipe()
	var token secret.Text
	if c.tok != "" {
		token = secret.NewText(c.tok)
	}
	return s.Open(u.Key, m, crypto.Place(c.at), token)
}

// tenantSecretOfTheirs: a tenant's secret, the one message without a record.
func (d *deployment) tenantSecretOfTheirs(t *testing.T) {
	t.Helper()
	c := d.variant("a tenant's secret", nil, func(c *theirs) {
		*c.ask.Place = place{Tenant: tenantID, Type: "!tenant-secret"}
		c.ask.Context["pv-type"], c.ask.Token, c.ask.Value = "!tenant-secret", "", bytes.Repeat([]byte("k"), secret.KeySize)
	})
	message := d.python.must(t, c.ask)[0].Message
	for region := range regions() {
		key, _, _, err := d.sealer(t, region).OpenTenantSecret(t.Context(), tenantID, message)
		if err != nil || !bytes.Equal(key.Bytes(), c.ask.Value) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, _, _, err := d.sealer(t, region).OpenTenantSecret(t.Context(), "other", message); !errors.Is(err, crypto.ErrAuthentication) {
			t.Errorf("another's secret: %v", err)
		}
	}
}

// repairsTheirs: a message with one copy gets the other from our repair, and
// both SDKs then open it in the region that could not.
func (d *deployment) repairsTheirs(t *testing.T) {
	t.Helper()
	if d.mode == crypto.MultiRegion {
		return // one copy serves all
	}
	c := d.variant("repaired", nil, func(c *theirs) { c.ask.Keyring, c.ask.ARNs = "strict", d.keys[:1] })
	message := d.python.must(t, c.ask)[0].Message
	sealed, err := d.sealer(t, local).Rewrap(t.Context(), message)
	if err != nil || len(sealed.Missing) > 0 {
		t.Fatalf("repair: %v, missing %v", err, sealed.Missing)
	}
	there := question{Op: "open_value", Keyring: "strict", ARNs: d.keys[1:], Message: message, Token: tokenOf}
	repaired := there
	repaired.Message = sealed.Message
	d.python.holds(t, []expect{
		{"before its repair", there, refuses(noCopy)},
		{"repaired", repaired, func(a answer) error {
			if a.failed() || !bytes.Equal(a.Value, c.ask.Value) || a.place != *c.ask.Place {
				return fmt.Errorf("not opened as it was sealed: %v", a.Error)
			}
			return nil
		}},
	})
}
