package kmsserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"piivault/internal/secret"
)

// seal encrypts any plaintext: under a key of its own, which localkms wraps
// and binds to the context. The blob is the wrapped key behind its length, and
// AES-256-GCM of the plaintext with the part before as AAD; the nonce is zero,
// since the key is used once.
func (r *region) seal(arn string, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	own, wrapped, err := r.local.GenerateDataKey(context.Background(), arn, encryptionContext)
	if err != nil {
		return nil, err
	}
	defer own.Wipe()
	aead, err := newAEAD(own)
	if err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint16(nil, uint16(len(wrapped)))
	head = append(head, wrapped...)
	return append(head, aead.Seal(nil, make([]byte, aead.NonceSize()), plaintext, head)...), nil //nolint:gosec // G407: the key is used once
}

// errBlob reports a blob that no key here made with this context.
var errBlob = errors.New("kmsserver: not a ciphertext")

func (r *region) open(arn string, blob []byte, encryptionContext map[string]string) ([]byte, error) {
	wrapped, sealed, ok := splitBlob(blob)
	if !ok {
		return nil, errBlob
	}
	own, err := r.local.Decrypt(context.Background(), arn, wrapped, encryptionContext)
	if err != nil {
		return nil, errBlob
	}
	defer own.Wipe()
	aead, err := newAEAD(own)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, blob[:2+len(wrapped)])
	if err != nil {
		return nil, errBlob
	}
	return plaintext, nil
}

func splitBlob(blob []byte) (wrapped, sealed []byte, ok bool) {
	if len(blob) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(blob))
	if len(blob) < 2+n {
		return nil, nil, false
	}
	return blob[2 : 2+n], blob[2+n:], true
}

// blobKey is the ARN here of the key that a blob says it was made by
// (format.md §9: version, length, key id).
func (r *region) blobKey(blob []byte) string {
	wrapped, _, ok := splitBlob(blob)
	if !ok || len(wrapped) < 2 || len(wrapped) < 2+int(wrapped[1]) {
		return ""
	}
	return r.arn(string(wrapped[2 : 2+int(wrapped[1])]))
}

func newAEAD(k secret.Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.Bytes())
	if err != nil {
		return nil, fmt.Errorf("kmsserver: aes: %w", err)
	}
	return cipher.NewGCM(block) //nolint:wrapcheck // a constant block size
}
