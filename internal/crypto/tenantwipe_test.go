package crypto

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"testing"

	"piivault/internal/secret"
)

// heard keeps what a hash was given: the slices themselves.
type heard struct {
	hash.Hash
	given *[][]byte
}

func (h heard) Write(b []byte) (int, error) {
	*h.given = append(*h.given, b)
	return h.Hash.Write(b)
}

// G4: what HMAC reads of a token or an idempotency key is gone afterwards.
func TestG4HashedTextsLeaveNoCopy(t *testing.T) {
	const token, key = "test.email.eu-west-1.token-7f3a9c", "idempotency-key-7f3a9c-7f3a9c"
	var given [][]byte
	listening := func() *keyedHash {
		k := &keyedHash{use: "test"}
		k.pool.New = func() any { return &input{mac: heard{sha256.New(), &given}} }
		return k
	}
	keys := TenantKeys{record: listening(), idempotent: listening()}
	keys.RecordID(secret.NewText(token))
	keys.IdempotentToken(IdempotentInput{Key: secret.NewText(key), Type: "email"})
	lengths := map[int]bool{}
	for _, b := range given {
		lengths[len(b)] = true
		if bytes.Contains(b, []byte("7f3a9c")) {
			t.Errorf("%q is still there", b)
		}
	}
	if !lengths[len(token)] || !lengths[len(key)] {
		t.Errorf("the hash was given texts of %v bytes", lengths)
	}
}
