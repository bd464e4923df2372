package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// kmsTiming measures the calls to every region's KMS.
type kmsTiming struct{ seconds *prometheus.HistogramVec }

func newKMSTiming(region string) *kmsTiming {
	return &kmsTiming{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "vault_kms_seconds", Help: "Duration of KMS calls by the KMS's region, operation and outcome.",
		ConstLabels: prometheus.Labels{"region": region}, Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
	}, []string{"of", "operation", "outcome"})}
}

// observe gives a KMS that measures k. One whose calls do not wait stays as it
// is: there is nothing to measure, and the ring treats it differently.
func (t *kmsTiming) observe(region string, k crypto.KMS) crypto.KMS {
	if _, ok := k.(crypto.Prompt); ok {
		return k
	}
	return &timedKMS{k, region, t.seconds}
}

// timedKMS implements crypto.KMS.
type timedKMS struct {
	kms     crypto.KMS
	region  string
	seconds *prometheus.HistogramVec
}

func (t *timedKMS) note(operation string, begun time.Time, err error) {
	t.seconds.WithLabelValues(t.region, operation, kmsOutcome(err)).Observe(time.Since(begun).Seconds())
}

func kmsOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, crypto.ErrThrottled):
		return "throttled"
	case errors.Is(err, crypto.ErrDenied):
		return "denied"
	case errors.Is(err, crypto.ErrDisabled):
		return "disabled"
	case errors.Is(err, crypto.ErrInvalidCiphertext):
		return "invalid"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "unreachable"
}

// GenerateDataKey implements crypto.KMS.
func (t *timedKMS) GenerateDataKey(ctx context.Context, keyARN string, ec map[string]string) (secret.Key, []byte, error) {
	begun := time.Now()
	key, ciphertext, err := t.kms.GenerateDataKey(ctx, keyARN, ec)
	t.note("generate", begun, err)
	return key, ciphertext, err
}

// Encrypt implements crypto.KMS.
func (t *timedKMS) Encrypt(ctx context.Context, keyARN string, key secret.Key, ec map[string]string) ([]byte, error) {
	begun := time.Now()
	ciphertext, err := t.kms.Encrypt(ctx, keyARN, key, ec)
	t.note("encrypt", begun, err)
	return ciphertext, err
}

// Decrypt implements crypto.KMS.
func (t *timedKMS) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, ec map[string]string) (secret.Key, error) {
	begun := time.Now()
	key, err := t.kms.Decrypt(ctx, keyARN, ciphertext, ec)
	t.note("decrypt", begun, err)
	return key, err
}

// Check implements crypto.KMS.
func (t *timedKMS) Check(ctx context.Context, keyARN string) error {
	begun := time.Now()
	err := t.kms.Check(ctx, keyARN)
	t.note("check", begun, err)
	return err
}
