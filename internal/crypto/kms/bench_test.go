package kms_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"piivault/internal/crypto/kms"
	"piivault/internal/sim/kmsserver"
)

// canned answers from memory: what is left is the client's cost.
type canned []byte

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body: io.NopCloser(bytes.NewReader(c)), ContentLength: int64(len(c)), Request: r,
	}, nil
}

func benchContext() map[string]string {
	return map[string]string{"pv-tenant": "tn_0123456789abcdef", "pv-type": "email", "pv-key": "0123456789abcdef0123"}
}

func cannedDecrypt(arn string) canned {
	return canned(fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q,"EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
		arn, base64.StdEncoding.EncodeToString(make([]byte, 32))))
}

// BenchmarkDecryptClient is the adapter without a network or a server.
func BenchmarkDecryptClient(b *testing.B) {
	arn := kmsserver.ARN(here, "11111111-2222-3333-4444-555555555555")
	k := kms.Over(kms.Config{Region: here, Endpoint: "http://127.0.0.1:1", Credentials: static()}, cannedDecrypt(arn))
	blob, ec := make([]byte, 184), benchContext()
	measure(b, func(ctx context.Context) error {
		key, err := k.Decrypt(ctx, arn, blob, ec)
		key.Wipe()
		return err
	})
}

// BenchmarkDecryptSDK is the bare SDK, for comparison.
func BenchmarkDecryptSDK(b *testing.B) {
	arn := kmsserver.ARN(here, "11111111-2222-3333-4444-555555555555")
	k := awskms.New(awskms.Options{
		Region: here, BaseEndpoint: aws.String("http://127.0.0.1:1"), Credentials: static(),
		HTTPClient: &http.Client{Transport: cannedDecrypt(arn)},
	})
	blob, ec := make([]byte, 184), benchContext()
	measure(b, func(ctx context.Context) error {
		_, err := k.Decrypt(ctx, &awskms.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionContext: ec})
		return err
	})
}

// BenchmarkDecrypt and its like include the server, in this process, and loopback.
func BenchmarkDecrypt(b *testing.B) {
	s := newService(b)
	k, arn, ec := client(b, here, s.url), s.key(b, kmsserver.KeySpec{Region: here}), benchContext()
	_, blob, err := k.GenerateDataKey(b.Context(), arn, ec)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func(ctx context.Context) error {
		key, err := k.Decrypt(ctx, arn, blob, ec)
		key.Wipe()
		return err
	})
}

func BenchmarkGenerateDataKey(b *testing.B) {
	s := newService(b)
	k, arn, ec := client(b, here, s.url), s.key(b, kmsserver.KeySpec{Region: here}), benchContext()
	measure(b, func(ctx context.Context) error {
		key, _, err := k.GenerateDataKey(ctx, arn, ec)
		key.Wipe()
		return err
	})
}

// measure also reports processor time, which a busy machine changes less than
// the time that passes.
func measure(b *testing.B, do func(context.Context) error) {
	b.Helper()
	b.ReportAllocs()
	start := used(b)
	for b.Loop() {
		if err := do(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(used(b)-start)/float64(b.N), "cpu-ns/op")
}

func used(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
