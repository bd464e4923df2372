package crypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"

	"piivault/internal/secret"
)

// golden is testdata/golden.json, which testdata/oracle.py wrote from
// docs/design/format.md, with other code and the stock SDK as its witness.
type golden struct {
	Place  goldenPlace `json:"place"`
	Token  string      `json:"token"`
	Value  string      `json:"value"`
	Key    hexBytes    `json:"key"`
	Copies []struct {
		ARN  string `json:"arn"`
		Blob string `json:"blob"`
	} `json:"copies"`
	Message     hexBytes `json:"message"`
	SDKMessage  hexBytes `json:"sdk_message"`
	BadMessages map[string]struct {
		Error   string   `json:"error"`
		Message hexBytes `json:"message"`
	} `json:"bad_messages"`
	Inner []struct {
		Place     goldenPlace `json:"place"`
		Token     string      `json:"token"`
		Value     string      `json:"value"`
		Structure hexBytes    `json:"structure"`
	} `json:"inner"`
	BadInner map[string]hexBytes `json:"bad_inner"`
	Tenant   struct {
		Tenant        string   `json:"tenant"`
		Secret        hexBytes `json:"secret"`
		RecordID      string   `json:"record_id"`
		SubjectID     string   `json:"subject_id"`
		Deterministic hexBytes `json:"deterministic"`
		Idempotent    hexBytes `json:"idempotent"`
	} `json:"tenant"`
	RingHash        string              `json:"ring_hash"`
	TenantARNs      map[string][]string `json:"tenant_arns"`
	TenantsRingHash string              `json:"tenants_ring_hash"`
}

type goldenPlace struct {
	Tenant     string `json:"tenant"`
	Record     string `json:"record"`
	Type       string `json:"type"`
	Generation uint32 `json:"generation"`
	Subject    string `json:"subject"`
	Created    int64  `json:"created"`
	Expires    int64  `json:"expires"`
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readGolden(tb testing.TB) golden {
	tb.Helper()
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		tb.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g, json.RejectUnknownMembers(true)); err != nil {
		tb.Fatal(err)
	}
	return g
}

func goldenKey(tb testing.TB, b []byte) secret.Key {
	tb.Helper()
	k, err := secret.NewKey(b)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// counter is a source of bytes 0, 1, 2, ... as the oracle draws them.
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

// openDirectly opens a message whose data key is known.
func openDirectly(t *testing.T, message []byte, key secret.Key, p Place, token string) ([]byte, error) {
	t.Helper()
	m, err := Parse(message)
	if err != nil {
		return nil, err
	}
	value, err := new(Sealer).Open(key, m, p, secret.NewText(token))
	return value.Bytes(), err
}

func TestGoldenMessage(t *testing.T) {
	g := readGolden(t)
	w := wrapping{context: partition{g.Place.Tenant, g.Place.Type}.serialize("AAECAwQFBgcICQoLDA0ODw")}
	for _, c := range g.Copies {
		k, err := newEncryptedKey(c.ARN, []byte(c.Blob))
		if err != nil {
			t.Fatal(err)
		}
		w.keys = append(w.keys, k)
	}
	v := Value{Place: Place(g.Place), Plaintext: secret.NewPlaintext([]byte(g.Value)), Token: secret.NewText(g.Token)}
	s := Sealer{random: new(counter)}
	message, err := s.seal(v, &dataKey{key: goldenKey(t, g.Key), wrapping: w})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(message, g.Message) {
		t.Errorf("the message is now %x", message)
	}
	if len(message) != cap(message) {
		t.Errorf("%d bytes allocated for %d", cap(message), len(message))
	}
}

// G10: what the stock SDK wrote opens; that it opens ours is the oracle's part.
func TestGoldenMessagesOpen(t *testing.T) {
	g := readGolden(t)
	for name, message := range map[string][]byte{"ours": g.Message, "the SDK's": g.SDKMessage} {
		value, err := openDirectly(t, message, goldenKey(t, g.Key), Place(g.Place), g.Token)
		if err != nil || string(value) != g.Value {
			t.Errorf("%s: %v", name, err)
		}
		m, err := Parse(message)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.keys) != 2 || m.DataKey() != "AAECAwQFBgcICQoLDA0ODw" || m.Context()[contextTenant] != "tn_1" {
			t.Errorf("%s: %d copies, data key %q, context %v", name, len(m.keys), m.DataKey(), m.Context())
		}
	}
}

func TestGoldenBadMessages(t *testing.T) {
	g := readGolden(t)
	want := map[string]error{"malformed": ErrMalformed, "authentication": ErrAuthentication}
	for name, bad := range g.BadMessages {
		_, err := openDirectly(t, bad.Message, goldenKey(t, g.Key), Place(g.Place), g.Token)
		if !errors.Is(err, want[bad.Error]) {
			t.Errorf("%s: got %v, want %s", name, err, bad.Error)
		}
	}
}

func TestGoldenInner(t *testing.T) {
	for _, v := range readGolden(t).Inner {
		value := Value{Place: Place(v.Place), Plaintext: secret.NewPlaintext([]byte(v.Value)), Token: secret.NewText(v.Token)}
		got := make([]byte, innerSize(value.Place, len(v.Value), v.Token != ""))
		if err := sealInner(got, value, new(counter)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, v.Structure) {
			t.Errorf("%+v: the structure is now %x", v.Place, got)
		}
		opened, err := openInner(bytes.Clone(v.Structure), value.Place, value.Token)
		if err != nil || string(opened.Bytes()) != v.Value {
			t.Errorf("%+v: %v", v.Place, err)
		}
	}
}

func TestGoldenBadInner(t *testing.T) {
	g := readGolden(t)
	for name, structure := range g.BadInner {
		if _, err := openInner(structure, Place(g.Place), secret.NewText(g.Token)); !errors.Is(err, ErrAuthentication) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestGoldenTenantKeys(t *testing.T) {
	g := readGolden(t)
	k, err := NewTenantKeys(g.Tenant.Tenant, goldenKey(t, g.Tenant.Secret))
	if err != nil {
		t.Fatal(err)
	}
	deterministic := k.DeterministicToken("email", secret.NewPlaintext([]byte(g.Value)))
	idempotent := k.IdempotentToken(IdempotentInput{
		Key: secret.NewText("idempotency-key-0123456789"), Index: 3, Type: "email",
		Value: secret.NewPlaintext([]byte(g.Value)), Subject: "customer 42", Expires: "2030-01-01T00:00:00Z",
	})
	got := []string{k.RecordID(secret.NewText(g.Token)), k.SubjectID("customer 42"), string(deterministic[:]), string(idempotent[:])}
	want := []string{g.Tenant.RecordID, g.Tenant.SubjectID, string(g.Tenant.Deterministic), string(g.Tenant.Idempotent)}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGoldenRingHash(t *testing.T) {
	g := readGolden(t)
	c := RingConfig{Mode: Copies}
	for i, name := range []string{"eu-west-1", "us-east-1"} {
		c.Regions = append(c.Regions, Region{Name: name, KMS: struct{ KMS }{}, KeyARN: g.Copies[i].ARN})
	}
	for _, c.Local = range []string{"eu-west-1", "us-east-1"} {
		r, err := NewRing(c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Hash() != g.RingHash {
			t.Errorf("seen from %s the hash is now %s", c.Local, r.Hash())
		}
	}
	for tenant, arns := range g.TenantARNs {
		own := TenantRegions{Tenant: tenant}
		for i, r := range c.Regions {
			own.Regions = append(own.Regions, TenantRegion{Name: r.Name, KeyARN: arns[i]})
		}
		c.Tenants = append(c.Tenants, own)
	}
	if r, err := NewRing(c); err != nil || r.Hash() != g.TenantsRingHash {
		t.Errorf("with tenants' own keys: %v", err)
	}
}
