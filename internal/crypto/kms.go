package crypto

import (
	"context"
	"errors"

	"piivault/internal/secret"
)

// Sentinels of every KMS; an error wraps exactly one of them, or ctx's error.
// The ring treats any other error as ErrUnreachable.
var (
	// ErrUnreachable: no usable answer: network, timeout, or an internal error of the service.
	ErrUnreachable = errors.New("crypto: kms unreachable")
	// ErrThrottled: the service answered that it is asked too often.
	ErrThrottled = errors.New("crypto: kms throttled")
	// ErrDenied: the caller may not do this with the key. Somebody's decision, not a fault.
	ErrDenied = errors.New("crypto: kms denied")
	// ErrDisabled: the key is disabled, pending deletion or does not exist. A decision too.
	ErrDisabled = errors.New("crypto: kms key disabled")
	// ErrInvalidCiphertext: the ciphertext was not made by this key with this encryption context.
	ErrInvalidCiphertext = errors.New("crypto: kms ciphertext invalid")
)

// KMS is the key management service of one region.
//
// An implementation is safe for concurrent use, returns as soon as ctx is done
// (the ring's timeouts rest on it), and retries nothing on its own beyond one
// attempt within the deadline: routing around a fault is the ring's business. Every method may be
// called again after any failure. The encryption context is authenticated with
// the ciphertext: the same map, in any order, must be given to open it. It is
// not secret, and appears in the service's own log.
//
// keyARN names a key of this region. For a multi-region key it is the ARN of
// this region's replica, and Decrypt opens what any replica encrypted.
//
// Keys passed in stay the caller's; the implementation keeps no reference to
// key, ciphertext or encryptionContext once it has returned. Keys returned are
// the caller's to wipe.
type KMS interface {
	// GenerateDataKey returns a new random key, and the same encrypted under keyARN.
	GenerateDataKey(ctx context.Context, keyARN string, encryptionContext map[string]string) (secret.Key, []byte, error)
	// Encrypt encrypts key under keyARN.
	Encrypt(ctx context.Context, keyARN string, key secret.Key, encryptionContext map[string]string) ([]byte, error)
	// Decrypt opens a ciphertext of GenerateDataKey or Encrypt under keyARN and no other key.
	Decrypt(ctx context.Context, keyARN string, ciphertext []byte, encryptionContext map[string]string) (secret.Key, error)
	// Check reports nil when the service answers and the key is enabled (DescribeKey).
	Check(ctx context.Context, keyARN string) error
}

// Prompt is implemented by a KMS that can tell that its calls, at present,
// answer from memory without waiting for anything: the ring then makes them
// one after another, without a goroutine and a timer for each.
type Prompt interface{ Prompt() bool }
