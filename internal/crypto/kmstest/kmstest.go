// Package kmstest is the conformance suite of crypto.KMS: every implementation
// passes all of it.
package kmstest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// Fixture is an implementation under test with two enabled keys, a
// multi-Region key with its replica in another region, and the means to make
// it fail. Every test has a fixture of its own.
type Fixture struct {
	KMS           crypto.KMS
	Key, Other    string // ARNs of two keys in KMS's region
	Primary       string // ARN of a multi-Region key in KMS's region
	Replica       string // ARN of its replica
	ReplicaKMS    crypto.KMS
	Disable       func(keyARN string) // and what follows is ErrDisabled
	Unreachable   func()              // what follows is ErrUnreachable
	Deny          func()              // what follows is ErrDenied
	Slow          func(time.Duration) // what follows answers after the delay
	UnknownKeyARN string              // of KMS's region
}

// Run runs the suite; open makes a fresh fixture.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Fixture){
		"RoundTrip":             testRoundTrip,
		"FreshKeysAndBlobs":     testFresh,
		"ContextIsBound":        testContext,
		"KeyIsBound":            testKey,
		"EveryFlippedBit":       testFlippedBits,
		"ForeignCiphertexts":    testForeign,
		"Replicas":              testReplicas,
		"Disabled":              testDisabled,
		"UnknownKey":            testUnknown,
		"Unreachable":           testUnreachable,
		"Denied":                testDenied,
		"ContextDone":           testContextDone,
		"Concurrent":            testConcurrent,
		"ArgumentsAreNotKept":   testArguments,
		"CheckChangesNothing":   testCheck,
		"EmptyContextIsItsOwn":  testEmptyContext,
		"ContextIsNotAmbiguous": testAmbiguous,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func ec(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func testRoundTrip(t *testing.T, f Fixture) {
	context := ec("pv-tenant", "t", "pv-type", "email", "pv-key", "k")
	key, blob := generate(t, f, f.Key, context)
	opens(t, f.KMS, f.Key, blob, ec("pv-key", "k", "pv-type", "email", "pv-tenant", "t"), key)
	opens(t, f.KMS, f.Key, encrypt(t, f, f.Key, key, context), context, key)
}

func testFresh(t *testing.T, f Fixture) {
	a, blobA := generate(t, f, f.Key, ec("a", "b"))
	b, blobB := generate(t, f, f.Key, ec("a", "b"))
	if a.Equal(b) || bytes.Equal(blobA, blobB) {
		t.Error("a data key came twice")
	}
	if bytes.Equal(encrypt(t, f, f.Key, a, ec("a", "b")), encrypt(t, f, f.Key, a, ec("a", "b"))) {
		t.Error("encrypting is deterministic")
	}
	if bytes.Contains(blobA, a.Bytes()) {
		t.Error("the ciphertext shows the key")
	}
}

func testContext(t *testing.T, f Fixture) {
	_, blob := generate(t, f, f.Key, ec("pv-tenant", "t", "pv-type", "email"))
	for _, other := range []map[string]string{
		nil, ec("pv-tenant", "t"), ec("pv-tenant", "u", "pv-type", "email"), ec("pv-tenant", "email", "pv-type", "t"),
		ec("pv-tenant", "t", "pv-type", "email", "more", ""), ec("PV-tenant", "t", "pv-type", "email"),
	} {
		refuses(t, f.KMS, f.Key, blob, other, crypto.ErrInvalidCiphertext)
	}
}

func testKey(t *testing.T, f Fixture) {
	_, blob := generate(t, f, f.Key, ec("a", "b"))
	refuses(t, f.KMS, f.Other, blob, ec("a", "b"), crypto.ErrInvalidCiphertext)
}

func testFlippedBits(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	for i := range blob {
		changed := bytes.Clone(blob)
		changed[i] ^= 1 << (i % 8)
		refuses(t, f.KMS, f.Key, changed, ec("a", "b"), crypto.ErrInvalidCiphertext)
	}
	opens(t, f.KMS, f.Key, blob, ec("a", "b"), key)
}

func testForeign(t *testing.T, f Fixture) {
	_, blob := generate(t, f, f.Key, ec("a", "b"))
	for _, foreign := range [][]byte{{0}, blob[:len(blob)-1], blob[:1], append(bytes.Clone(blob), 0), bytes.Repeat([]byte{0xff}, 200)} {
		refuses(t, f.KMS, f.Key, foreign, ec("a", "b"), crypto.ErrInvalidCiphertext)
	}
}

func testReplicas(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Primary, ec("a", "b"))
	opens(t, f.ReplicaKMS, f.Replica, blob, ec("a", "b"), key)
	refuses(t, f.ReplicaKMS, f.Replica, blob, ec("a", "c"), crypto.ErrInvalidCiphertext)
	back, err := f.ReplicaKMS.Encrypt(t.Context(), f.Replica, key, ec("c", "d"))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, f.KMS, f.Primary, back, ec("c", "d"), key)
	refuses(t, f.KMS, f.Key, back, ec("c", "d"), crypto.ErrInvalidCiphertext)
}

func testDisabled(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	f.Disable(f.Key)
	everyCall(t, f, f.Key, key, blob, crypto.ErrDisabled)
	if err := f.KMS.Check(t.Context(), f.Other); err != nil {
		t.Errorf("the other key: %v", err)
	}
}

func testUnknown(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	everyCall(t, f, f.UnknownKeyARN, key, blob, crypto.ErrDisabled)
}

func testUnreachable(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	f.Unreachable()
	everyCall(t, f, f.Key, key, blob, crypto.ErrUnreachable)
}

func testDenied(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	f.Deny()
	everyCall(t, f, f.Key, key, blob, crypto.ErrDenied)
}

func testContextDone(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	f.Slow(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	for name, err := range calls(ctx, f, f.Key, key, blob) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, crypto.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if waited := time.Since(start); waited > 10*time.Second {
		t.Errorf("the calls ignored their context for %v", waited)
	}
}

func testConcurrent(t *testing.T, f Fixture) {
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			context := ec("n", string(rune('a'+i)))
			key, blob, err := f.KMS.GenerateDataKey(t.Context(), f.Key, context)
			if err != nil {
				t.Error(err)
				return
			}
			opened, err := f.KMS.Decrypt(t.Context(), f.Key, blob, context)
			if err != nil || !opened.Equal(key) {
				t.Errorf("another key came out: %v", err)
			}
		})
	}
	wait.Wait()
}

func testArguments(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	context := ec("a", "b")
	again := encrypt(t, f, f.Key, key, context)
	opened, err := f.KMS.Decrypt(t.Context(), f.Key, blob, context)
	if err != nil {
		t.Fatal(err)
	}
	if len(context) != 1 || context["a"] != "b" {
		t.Error("the encryption context was changed")
	}
	want := key.Clone()
	key.Wipe()
	opens(t, f.KMS, f.Key, again, ec("a", "b"), want)
	clear(blob)
	if !opened.Equal(want) {
		t.Error("the key shares memory with its ciphertext")
	}
}

func testCheck(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, ec("a", "b"))
	for range 3 {
		if err := f.KMS.Check(t.Context(), f.Key); err != nil {
			t.Fatal(err)
		}
	}
	opens(t, f.KMS, f.Key, blob, ec("a", "b"), key)
}

func testEmptyContext(t *testing.T, f Fixture) {
	key, blob := generate(t, f, f.Key, nil)
	opens(t, f.KMS, f.Key, blob, ec(), key)
	refuses(t, f.KMS, f.Key, blob, ec("a", "b"), crypto.ErrInvalidCiphertext)
}

func testAmbiguous(t *testing.T, f Fixture) {
	_, blob := generate(t, f, f.Key, ec("a", "bc", "d", "e"))
	for _, other := range []map[string]string{ec("ab", "c", "d", "e"), ec("a", "bcd", "", "e"), ec("a", "e", "d", "bc")} {
		refuses(t, f.KMS, f.Key, blob, other, crypto.ErrInvalidCiphertext)
	}
}

func generate(t *testing.T, f Fixture, keyARN string, context map[string]string) (secret.Key, []byte) {
	t.Helper()
	key, blob, err := f.KMS.GenerateDataKey(t.Context(), keyARN, context)
	if err != nil {
		t.Fatal(err)
	}
	if key.IsZero() || len(blob) == 0 || len(blob) > 1024 {
		t.Fatal("no key, or a ciphertext of an impossible size")
	}
	return key, blob
}

func encrypt(t *testing.T, f Fixture, keyARN string, key secret.Key, context map[string]string) []byte {
	t.Helper()
	blob, err := f.KMS.Encrypt(t.Context(), keyARN, key, context)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func opens(t *testing.T, kms crypto.KMS, keyARN string, blob []byte, context map[string]string, want secret.Key) {
	t.Helper()
	key, err := kms.Decrypt(t.Context(), keyARN, blob, context)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(want) {
		t.Fatal("another key came out")
	}
}

func refuses(t *testing.T, kms crypto.KMS, keyARN string, blob []byte, context map[string]string, want error) {
	t.Helper()
	key, err := kms.Decrypt(t.Context(), keyARN, blob, context)
	if !errors.Is(err, want) || !key.IsZero() {
		t.Errorf("decrypt: got %v, want %v and no key", err, want)
	}
}

func calls(ctx context.Context, f Fixture, keyARN string, key secret.Key, blob []byte) map[string]error {
	_, _, generateErr := f.KMS.GenerateDataKey(ctx, keyARN, ec("a", "b"))
	_, encryptErr := f.KMS.Encrypt(ctx, keyARN, key, ec("a", "b"))
	_, decryptErr := f.KMS.Decrypt(ctx, keyARN, blob, ec("a", "b"))
	return map[string]error{
		"generate": generateErr, "encrypt": encryptErr, "decrypt": decryptErr, "check": f.KMS.Check(ctx, keyARN),
	}
}

func everyCall(t *testing.T, f Fixture, keyARN string, key secret.Key, blob []byte, want error) {
	t.Helper()
	for name, err := range calls(t.Context(), f, keyARN, key, blob) {
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}
