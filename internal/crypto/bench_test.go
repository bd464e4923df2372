package crypto_test

import (
	"syscall"
	"testing"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// BenchmarkSeal32 seals a bound value of 32 bytes under a data key of its own,
// wrapped by two local regions.
func BenchmarkSeal32(b *testing.B) {
	s := crypto.NewSealer(newRing(b, newKMSs(b, 2)), nil, nil)
	values := []crypto.Value{boundValue("abcdefghijklmnopqrstuvwxyz012345")}
	defer cpu(b)()
	for b.Loop() {
		if _, err := s.Seal(b.Context(), values); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen32 parses, unwraps and opens it.
func BenchmarkOpen32(b *testing.B) {
	s := crypto.NewSealer(newRing(b, newKMSs(b, 2)), nil, nil)
	v := boundValue("abcdefghijklmnopqrstuvwxyz012345")
	sealed := mustSeal(b, s, v)
	defer cpu(b)()
	for b.Loop() {
		m, err := crypto.Parse(sealed.Message)
		if err != nil {
			b.Fatal(err)
		}
		u := s.Unwrap(b.Context(), v.Place.Tenant, []*crypto.Message{m})[0]
		if u.Err != nil {
			b.Fatal(u.Err)
		}
		value, err := s.Open(u.Key, m, v.Place, v.Token)
		if err != nil {
			b.Fatal(err)
		}
		value.Wipe()
		u.Key.Wipe()
	}
}

// BenchmarkRecordID hashes a token as every request does.
func BenchmarkRecordID(b *testing.B) {
	keys := newTenantKeys(b)
	token := secret.NewText("tok_test_email_euw1_0123456789abcdefghijklmnopqrstuv")
	defer cpu(b)()
	for b.Loop() {
		_ = keys.RecordID(token)
	}
}

// cpu reports the processor time of an iteration, which a busy machine changes
// less than the time that passes.
func cpu(b *testing.B) func() {
	b.Helper()
	b.ReportAllocs()
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}
