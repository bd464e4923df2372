// Package localkms is a KMS for development and tests: master keys in a file,
// AES-256-GCM in memory, and switches that make it fail.
//
// It protects nothing from whoever can read the file or the process: there is
// no hardware, no separate access control and no log of its own. `vault dev`
// uses it; `vault serve` refuses it without an explicit flag.
package localkms

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// The ciphertext blob (docs/design/format.md §9).
const (
	blobVersion = 1
	nonceSize   = 12
	// labelBlob starts the AAD of every blob.
	labelBlob = "piivault/localkms/v1"
)

// Fault is how a KMS misbehaves at present.
type Fault int32

// The faults.
const (
	Up     Fault = iota // none
	Down                // ErrUnreachable at once
	Slow                // answers after the delay
	Denied              // ErrDenied
)

// Config says where the keys are and of which region they are.
type Config struct {
	Path   string    // of the key file
	Region string    // the region in every ARN
	Random io.Reader // nil: crypto/rand; safe for concurrent use
	// FirstKey is the id of the key that Create makes; "": a random one.
	FirstKey string
}

// KMS implements crypto.KMS and crypto.Prompt.
type KMS struct {
	config Config
	fault  atomic.Int32
	delay  atomic.Int64 // of Slow, nanoseconds

	mu   sync.RWMutex // guards keys
	keys map[string]*masterKey
}

// masterKey is immutable but for disabled, which KMS.mu guards.
type masterKey struct {
	arn      string
	head     []byte
	key      secret.Key
	aead     cipher.AEAD
	disabled bool
}

// SetFault makes every later call misbehave; delay is that of Slow.
func (k *KMS) SetFault(f Fault, delay time.Duration) {
	k.delay.Store(int64(delay))
	k.fault.Store(int32(f))
}

// Prompt reports that calls do not wait, which is so unless they are Slow.
func (k *KMS) Prompt() bool { return Fault(k.fault.Load()) != Slow }

// GenerateDataKey implements crypto.KMS.
func (k *KMS) GenerateDataKey(ctx context.Context, keyARN string, encryptionContext map[string]string) (secret.Key, []byte, error) {
	master, err := k.use(ctx, keyARN)
	if err != nil {
		return secret.Key{}, nil, err
	}
	key, err := secret.GenerateKey(k.config.Random)
	if err != nil {
		return secret.Key{}, nil, fmt.Errorf("localkms: generate a data key: %w", err)
	}
	blob, err := k.seal(master, key, encryptionContext)
	if err != nil {
		key.Wipe()
		return secret.Key{}, nil, err
	}
	return key, blob, nil
}

// Encrypt implements crypto.KMS.
func (k *KMS) Encrypt(ctx context.Context, keyARN string, key secret.Key, encryptionContext map[string]string) ([]byte, error) {
	master, err := k.use(ctx, keyARN)
	if err != nil {
		return nil, err
	}
	return k.seal(master, key, encryptionContext)
}

// Decrypt implements crypto.KMS.
func (k *KMS) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, encryptionContext map[string]string) (secret.Key, error) {
	master, err := k.use(ctx, keyARN)
	if err != nil {
		return secret.Key{}, err
	}
	sealed, ok := bytes.CutPrefix(ciphertext, master.head)
	if !ok || len(sealed) != nonceSize+secret.KeySize+master.aead.Overhead() {
		return secret.Key{}, fmt.Errorf("localkms: decrypt: %w", crypto.ErrInvalidCiphertext)
	}
	opened, err := master.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], blobAAD(master.head, encryptionContext))
	if err != nil {
		return secret.Key{}, fmt.Errorf("localkms: decrypt: %w", crypto.ErrInvalidCiphertext)
	}
	defer clear(opened)
	return secret.NewKey(opened) //nolint:wrapcheck // the length is checked above
}

// Check implements crypto.KMS.
func (k *KMS) Check(ctx context.Context, keyARN string) error {
	_, err := k.use(ctx, keyARN)
	return err
}

// use finds an enabled key, unless a fault says otherwise.
func (k *KMS) use(ctx context.Context, keyARN string) (*masterKey, error) {
	switch Fault(k.fault.Load()) {
	case Up:
	case Down:
		return nil, fmt.Errorf("localkms: switched off: %w", crypto.ErrUnreachable)
	case Denied:
		return nil, fmt.Errorf("localkms: switched to refuse: %w", crypto.ErrDenied)
	case Slow:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(k.delay.Load())):
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("localkms: %w", err)
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	master := k.keys[keyARN]
	if master == nil || master.disabled {
		return nil, fmt.Errorf("localkms: no enabled key of this ARN: %w", crypto.ErrDisabled)
	}
	return master, nil
}

// blobHead starts every blob of a key. It names the key's id and no region:
// replicas of a multi-Region key open each other's blobs.
func blobHead(arn string) []byte {
	id := keyID(arn)
	return append([]byte{blobVersion, byte(len(id))}, id...)
}

func (k *KMS) seal(master *masterKey, key secret.Key, encryptionContext map[string]string) ([]byte, error) {
	if key.IsZero() {
		return nil, errors.New("localkms: no key to encrypt")
	}
	head := master.head
	blob := make([]byte, len(head)+nonceSize, len(head)+nonceSize+secret.KeySize+master.aead.Overhead())
	copy(blob, head)
	nonce := blob[len(head):]
	if _, err := io.ReadFull(k.config.Random, nonce); err != nil {
		return nil, fmt.Errorf("localkms: draw a nonce: %w", err)
	}
	return master.aead.Seal(blob, nonce, key.Bytes(), blobAAD(head, encryptionContext)), nil
}

// blobAAD is the label, the blob's head, and the context sorted by key, every
// string behind its length.
func blobAAD(head []byte, encryptionContext map[string]string) []byte {
	aad := make([]byte, 0, 256)
	aad = appendField(aad, labelBlob)
	aad = append(aad, head...)
	names := slices.AppendSeq(make([]string, 0, 8), maps.Keys(encryptionContext))
	slices.Sort(names)
	for _, name := range names {
		aad = appendField(appendField(aad, name), encryptionContext[name])
	}
	return aad
}

func appendField(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
