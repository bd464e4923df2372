package crypto

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

	"piivault/internal/secret"
)

// Uses of a tenant's keys: each is the end of an HKDF info and the start of
// every HMAC input under the key so derived (docs/design/format.md §3).
// "blind-index" is reserved for search.
const (
	labelTenant      = "piivault/tenant/v1"
	useRecord        = "record-id"
	useSubject       = "subject-id"
	useDeterministic = "deterministic-token"
	useIdempotent    = "idempotent-token"
)

// tokenSize is the length of a derived token's secret part: 192 bits.
const tokenSize = 24

// TenantKeys are the keys derived from a tenant's secret. Safe for concurrent use.
type TenantKeys struct{ record, subject, deterministic, idempotent *keyedHash }

// NewTenantKeys derives them; the secret stays the caller's to wipe.
func NewTenantKeys(tenant string, s secret.Key) (*TenantKeys, error) {
	if s.IsZero() {
		return nil, errors.New("crypto: no tenant secret")
	}
	k := new(TenantKeys)
	for use, into := range map[string]**keyedHash{
		useRecord: &k.record, useSubject: &k.subject, useDeterministic: &k.deterministic, useIdempotent: &k.idempotent,
	} {
		var err error
		if *into, err = newKeyedHash(tenant, s, use); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// RecordID is what the database knows a token by: 43 characters, base64url.
func (k *TenantKeys) RecordID(token secret.Text) string {
	return k.record.text(token.Reveal())
}

// SubjectID is what records and audit entries know a subject by: 43 characters, base64url.
func (k *TenantKeys) SubjectID(subject string) string { return k.subject.text(subject) }

// DeterministicToken is the secret part of the token that stands for a value
// of a type, in every region alike.
func (k *TenantKeys) DeterministicToken(typ string, value secret.Plaintext) [tokenSize]byte {
	h := k.deterministic.begin()
	h.text(typ)
	h.field(value.Bytes())
	return truncate(k.deterministic.end(h))
}

// IdempotentInput is everything that a retry must repeat to get the same token.
type IdempotentInput struct {
	Key              secret.Text // the Idempotency-Key
	Index            int         // in the batch
	Type             string
	Value            secret.Plaintext // normalized
	Subject, Expires string           // as sent
}

// IdempotentToken is the secret part of a random token that was asked for
// under an idempotency key.
func (k *TenantKeys) IdempotentToken(in IdempotentInput) [tokenSize]byte {
	h := k.idempotent.begin()
	h.text(in.Key.Reveal())
	h.field(binary.BigEndian.AppendUint32(nil, uint32(in.Index)))
	h.text(in.Type)
	h.field(in.Value.Bytes())
	h.text(in.Subject)
	h.text(in.Expires)
	return truncate(k.idempotent.end(h))
}

func truncate(sum [sha256.Size]byte) [tokenSize]byte { return [tokenSize]byte(sum[:tokenSize]) }

// keyedHash is HMAC-SHA-256 under one derived key. The states are pooled,
// since setting one up costs more than most inputs.
type keyedHash struct {
	use  string
	key  secret.Key
	pool sync.Pool // of *input
}

// input is one HMAC under way.
type input struct {
	mac hash.Hash
	buf [sha256.Size]byte
}

// newKeyedHash derives HKDF-SHA-256(secret, no salt, label ‖ tenant ‖ use).
func newKeyedHash(tenant string, s secret.Key, use string) (*keyedHash, error) {
	info := appendField32(appendField32([]byte(labelTenant), tenant), use)
	derived := hkdf256(nil, s.Bytes(), info)
	defer clear(derived[:])
	key, err := secret.NewKey(derived[:])
	if err != nil {
		return nil, fmt.Errorf("crypto: derive a tenant key: %w", err)
	}
	return &keyedHash{use: use, key: key}, nil
}

func (k *keyedHash) begin() *input {
	h, ok := k.pool.Get().(*input)
	if !ok {
		h = &input{mac: hmac.New(sha256.New, k.key.Bytes())}
	}
	h.text(k.use)
	return h
}

// end returns the code, and h to the pool.
func (k *keyedHash) end(h *input) [sha256.Size]byte {
	h.mac.Sum(h.buf[:0])
	sum := h.buf
	h.buf = [sha256.Size]byte{} // of a token
	h.mac.Reset()
	k.pool.Put(h)
	return sum
}

// text is the code of one field, printable.
func (k *keyedHash) text(field string) string {
	h := k.begin()
	h.text(field)
	sum := k.end(h)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// field adds b behind its length: no two lists of fields read alike.
func (h *input) field(b []byte) {
	binary.BigEndian.PutUint32(h.buf[:4], uint32(len(b)))
	h.mac.Write(h.buf[:4])
	h.mac.Write(b)
}

// text is field for a string. HMAC reads bytes; of a token, or what else is
// secret, there is no second copy afterwards.
func (h *input) text(s string) {
	b := []byte(s)
	h.field(b)
	clear(b)
}

func appendField32(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// SealTenantSecret seals a tenant's secret as a message of a type that no
// value has. The key stays the caller's to wipe.
func (s *Sealer) SealTenantSecret(ctx context.Context, tenant string, key secret.Key) (Sealed, error) {
	sealed, err := s.Seal(ctx, []Value{{Place: tenantPlace(tenant), Plaintext: secret.NewPlaintext(key.Bytes())}})
	if err != nil {
		return Sealed{}, err
	}
	return sealed[0], nil
}

// OpenTenantSecret opens a tenant's secret with any region's copy, even where
// the local key is denied: without it no token can be looked up. The key is
// the caller's to wipe; dataKey and region are for the audit entry.
func (s *Sealer) OpenTenantSecret(ctx context.Context, tenant string, message []byte) (key secret.Key, dataKey, region string, err error) {
	m, err := Parse(message)
	if err != nil {
		return secret.Key{}, "", "", err
	}
	u := s.ring.unwrap(ctx, tenant, m, true)
	if u.Err != nil {
		return secret.Key{}, m.DataKey(), "", u.Err
	}
	defer u.Key.Wipe()
	value, err := s.Open(u.Key, m, tenantPlace(tenant), secret.Text{})
	if err != nil {
		return secret.Key{}, m.DataKey(), u.Region, err
	}
	defer value.Wipe()
	key, err = secret.NewKey(value.Bytes())
	return key, m.DataKey(), u.Region, err
}

func tenantPlace(tenant string) Place { return Place{Tenant: tenant, Type: tenantSecretType} }
