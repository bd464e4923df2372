package authz

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"strings"

	"piivault/internal/secret"
)

// An API key is pvk_<id>_<secret>: 128 random bits that name it and 256 that
// prove it, both in lower-case base32 (RFC 4648 §6, no padding), so that it is
// one word to a double click and to a secret scanner.
const (
	credentialPrefix = "pvk_"
	keyIDBytes       = 16
	keyIDLen         = 26
	secretBytes      = 32
	secretLen        = 52
	credentialLen    = len(credentialPrefix) + keyIDLen + 1 + secretLen

	// hashLabel separates this use of SHA-256 from every other.
	hashLabel = "piivault/api-key/v1\x00"
)

// digest is what is stored of a credential. The secret has 256 random bits:
// nothing can be guessed, so a slow hash would protect nothing.
type digest [sha256.Size]byte

// hashCredential covers the id too: a stored hash moved to another key's item
// opens nothing. All parts have fixed lengths.
func hashCredential(id, secretText string) digest {
	var b [len(hashLabel) + keyIDLen + secretLen]byte
	n := copy(b[:], hashLabel)
	n += copy(b[n:], id)
	n += copy(b[n:], secretText)
	return sha256.Sum256(b[:n])
}

// parseCredential splits a credential; ok is false unless it has the exact
// shape. The secret is not decoded: its text is what is hashed, so that each
// key has one spelling.
func parseCredential(s string) (id, secretText string, ok bool) {
	if len(s) != credentialLen || !strings.HasPrefix(s, credentialPrefix) {
		return "", "", false
	}
	id, secretText, _ = strings.Cut(s[len(credentialPrefix):], "_")
	return id, secretText, len(id) == keyIDLen && isBase32(id) && isBase32(secretText)
}

func newCredential(random io.Reader) (id, secretText string, err error) {
	if id, err = randomBase32(random, keyIDBytes); err != nil {
		return "", "", err
	}
	secretText, err = randomBase32(random, secretBytes)
	return id, secretText, err
}

func credential(id, secretText string) secret.Text {
	return secret.NewText(credentialPrefix + id + "_" + secretText)
}

func randomBase32(random io.Reader, size int) (string, error) {
	b := make([]byte, size)
	defer clear(b)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)), nil
}

func isBase32(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
