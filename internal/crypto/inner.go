package crypto

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"

	"piivault/internal/secret"
)

// The inner structure (docs/design/format.md §2).
const (
	innerVersion = 1
	flagBound    = 1

	saltSize = 32
	// padTo hides the length of short values: a value is padded to a multiple of it.
	padTo = 32

	// labelBound starts the HKDF info of the key that seals a bound value.
	labelBound = "piivault/bound/v1"
)

// Place is where a value belongs. Opening compares all of it.
type Place struct {
	Tenant, Record, Type string
	Generation           uint32
	Subject              string // "" where the record names none
	Created, Expires     int64  // Unix milliseconds; Expires 0: never
}

// check refuses a place that its length prefixes cannot hold.
func (p Place) check() error {
	if max(len(p.Tenant), len(p.Record), len(p.Type), len(p.Subject)) > maxField {
		return ErrTooLarge
	}
	return nil
}

func (p Place) size() int {
	return 2 + 2 + len(p.Tenant) + 2 + len(p.Record) + 2 + len(p.Type) + 4 + 2 + len(p.Subject) + 8 + 8
}

// append writes the structure up to the salt.
func (p Place) append(dst []byte, flags byte) []byte {
	dst = append(dst, innerVersion, flags)
	dst = appendField16(dst, p.Tenant)
	dst = appendField16(dst, p.Record)
	dst = appendField16(dst, p.Type)
	dst = binary.BigEndian.AppendUint32(dst, p.Generation)
	dst = appendField16(dst, p.Subject)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Created))
	return binary.BigEndian.AppendUint64(dst, uint64(p.Expires))
}

// boundInfo appends the HKDF info of the bound layer.
func (p Place) boundInfo(dst []byte) []byte {
	dst = append(dst, labelBound...)
	dst = appendField16(dst, p.Tenant)
	dst = appendField16(dst, p.Record)
	dst = appendField16(dst, p.Type)
	return binary.BigEndian.AppendUint32(dst, p.Generation)
}

func padded(n int) int { return (n + padTo - 1) / padTo * padTo }

// innerSize is the length of the structure around a value of n bytes.
func innerSize(p Place, n int, bound bool) int {
	size := p.size() + 4 + padded(n)
	if bound {
		size += saltSize + tagSize
	}
	return size
}

// sealInner writes the structure into dst, which is innerSize long. A bound
// value leaves it encrypted under the token.
func sealInner(dst []byte, v Value, random io.Reader) error {
	if v.Token.IsZero() {
		fillBlock(dst[len(v.Place.append(dst[:0], 0)):], v.Plaintext)
		return nil
	}
	head := len(v.Place.append(dst[:0], flagBound))
	salt := dst[head : head+saltSize]
	if _, err := io.ReadFull(random, salt); err != nil {
		return fmt.Errorf("crypto: draw a salt: %w", err)
	}
	aead, err := boundAEAD(v.Place, v.Token, salt)
	if err != nil {
		return err
	}
	block := dst[head+saltSize : len(dst)-tagSize]
	fillBlock(block, v.Plaintext)
	nonce := boundNonce()
	aead.Seal(block[:0], nonce[:], block, dst[:head+saltSize]) //nolint:gosec // G407: see boundNonce
	return nil
}

// openInner returns the value of a structure that was sealed for this place
// and token, in the memory of content. An unbound value needs no token.
func openInner(content []byte, p Place, token secret.Text) (secret.Plaintext, error) {
	if len(content) < 2 || content[0] != innerVersion || content[1]&^flagBound != 0 {
		return secret.Plaintext{}, fmt.Errorf("%w: inner structure", ErrAuthentication)
	}
	bound := content[1] == flagBound
	head := p.append(make([]byte, 0, 256), content[1])
	if !bytes.HasPrefix(content, head) {
		return secret.Plaintext{}, fmt.Errorf("%w: place", ErrAuthentication)
	}
	block := content[len(head):]
	if bound {
		var err error
		if block, err = openBound(content, len(head), p, token); err != nil {
			return secret.Plaintext{}, err
		}
	}
	return readBlock(block)
}

func openBound(content []byte, head int, p Place, token secret.Text) ([]byte, error) {
	if token.IsZero() || len(content) < head+saltSize+tagSize {
		return nil, fmt.Errorf("%w: token", ErrAuthentication)
	}
	aead, err := boundAEAD(p, token, content[head:head+saltSize])
	if err != nil {
		return nil, err
	}
	nonce := boundNonce()
	sealed := content[head+saltSize:]
	block, err := aead.Open(sealed[:0], nonce[:], sealed, content[:head+saltSize])
	if err != nil {
		return nil, fmt.Errorf("%w: token", ErrAuthentication)
	}
	return block, nil
}

// boundAEAD derives the bound layer's key from the token and a salt of its own.
func boundAEAD(p Place, token secret.Text, salt []byte) (cipher.AEAD, error) {
	material := []byte(token.Reveal())
	defer clear(material)
	info := p.boundInfo(make([]byte, 0, 256))
	key := hkdf256(salt, material, info)
	defer clear(key[:])
	return newGCM(key[:])
}

// boundNonce is zero: the salt is fresh, so its key seals exactly once.
func boundNonce() (n [nonceSize]byte) { return n }

// fillBlock writes the value's length, the value, and zeros to the end of dst.
func fillBlock(dst []byte, value secret.Plaintext) {
	binary.BigEndian.PutUint32(dst, uint32(value.Len()))
	clear(dst[4+copy(dst[4:], value.Bytes()):])
}

// readBlock accepts only what fillBlock writes.
func readBlock(block []byte) (secret.Plaintext, error) {
	c := cursor{rest: block}
	value := c.take(int(c.u32()))
	if c.short || len(block) != 4+padded(len(value)) || bytes.ContainsFunc(c.rest, func(r rune) bool { return r != 0 }) {
		return secret.Plaintext{}, fmt.Errorf("%w: padding", ErrAuthentication)
	}
	return secret.NewPlaintext(value), nil
}
