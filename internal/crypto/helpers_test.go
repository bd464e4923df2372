package crypto_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
)

// newKMSs makes one local KMS per region: region-0, region-1, ...
func newKMSs(tb testing.TB, n int) []*localkms.KMS {
	tb.Helper()
	all := make([]*localkms.KMS, n)
	for i := range all {
		var err error
		all[i], err = localkms.Create(localkms.Config{Path: filepath.Join(tb.TempDir(), "keys.json"), Region: regionName(i)})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

func regionName(i int) string { return "region-" + string(rune('0'+i)) }

// ringConfig is a ring of all KMSs in mode copies; region-0 is local.
func ringConfig(kmss []*localkms.KMS) crypto.RingConfig {
	c := crypto.RingConfig{Local: regionName(0), Mode: crypto.Copies, Epoch: 7}
	for i, k := range kmss {
		c.Regions = append(c.Regions, crypto.Region{Name: regionName(i), KMS: k, KeyARN: k.Keys()[0]})
	}
	return c
}

func newRing(tb testing.TB, kmss []*localkms.KMS) *crypto.Ring {
	tb.Helper()
	return mustRing(tb, ringConfig(kmss))
}

func mustRing(tb testing.TB, c crypto.RingConfig) *crypto.Ring {
	tb.Helper()
	r, err := crypto.NewRing(c)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// localTo is the same ring seen from another of its regions.
func localTo(tb testing.TB, c crypto.RingConfig, local string) *crypto.Sealer {
	tb.Helper()
	c.Local = local
	return crypto.NewSealer(mustRing(tb, c), nil, nil)
}

func boundValue(value string) crypto.Value {
	return crypto.Value{
		Place: crypto.Place{
			Tenant: "tn_1", Record: "cmVjb3JkLWlkLW9mLWZvcnR5LXRocmVlLWNoYXJhY3RlcnM", Type: "email",
			Subject: "c3ViamVjdA", Created: 1_700_000_000_000, Expires: 1_800_000_000_000,
		},
		Plaintext: secret.NewPlaintext([]byte(value)),
		Token:     secret.NewText("tok_test_email_euw1_0123456789abcdefghijklmnopqrstuv"),
	}
}

func mustSeal(tb testing.TB, s *crypto.Sealer, v crypto.Value) crypto.Sealed {
	tb.Helper()
	sealed, err := s.Seal(tb.Context(), []crypto.Value{v})
	if err != nil {
		tb.Fatal(err)
	}
	return sealed[0]
}

// open parses, unwraps and opens.
func open(tb testing.TB, s *crypto.Sealer, message []byte, v crypto.Value) (value []byte, region string, err error) {
	tb.Helper()
	m, err := crypto.Parse(message)
	if err != nil {
		return nil, "", err
	}
	u := s.Unwrap(tb.Context(), v.Place.Tenant, []*crypto.Message{m})[0]
	if u.Err != nil {
		return nil, "", u.Err
	}
	p, err := s.Open(u.Key, m, v.Place, v.Token)
	return p.Bytes(), u.Region, err
}

// mustOpen also compares the value.
func mustOpen(tb testing.TB, s *crypto.Sealer, message []byte, v crypto.Value) (region string) {
	tb.Helper()
	value, region, err := open(tb, s, message, v)
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(value, v.Plaintext.Bytes()) {
		tb.Fatal("another value came out")
	}
	return region
}

func equal(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	if !slices.Equal(got, want) {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func testKey(tb testing.TB, fill byte) secret.Key {
	tb.Helper()
	k, err := secret.NewKey(bytes.Repeat([]byte{fill}, secret.KeySize))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func newTenantKeys(tb testing.TB) *crypto.TenantKeys {
	tb.Helper()
	k, err := crypto.NewTenantKeys("tn_1", testKey(tb, 7))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
