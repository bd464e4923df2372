package crypto

import (
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"piivault/internal/secret"
)

// HKDF (RFC 5869) over HMAC (RFC 2104), for inputs that fit on the stack. The
// standard library builds hash states on the heap at every step: half of the
// allocations of a seal. A test holds these against it.

const (
	innerPad = 0x36
	outerPad = 0x5c
	// stackInput is room for a block and for what ids and tokens usually take; more goes to the heap.
	stackInput = 512
	// firstBlock ends the input of an expansion that needs one block only (RFC 5869 §2.3).
	firstBlock = 1
)

// extract512 is HKDF-Extract with SHA-512; the salt is at most a block long.
func extract512(salt, material []byte) [sha512.Size]byte {
	if fips140.Enabled() {
		prk := validExtract(sha512.New, salt, material)
		defer clear(prk)
		return [sha512.Size]byte(prk)
	}
	return hmac512(salt, material, nil)
}

// expand512 is the first secret.KeySize bytes of HKDF-Expand with SHA-512.
func expand512(prk, info []byte) [secret.KeySize]byte {
	if fips140.Enabled() {
		return validExpand(sha512.New, prk, info)
	}
	block := hmac512(prk, info, []byte{firstBlock})
	return [secret.KeySize]byte(block[:secret.KeySize])
}

// hkdf256 is HKDF-SHA-256 with an output of secret.KeySize; the salt is at most a block long.
func hkdf256(salt, material, info []byte) [secret.KeySize]byte {
	if fips140.Enabled() {
		prk := validExtract(sha256.New, salt, material)
		defer clear(prk)
		return validExpand(sha256.New, prk, info)
	}
	prk := hmac256(salt, material, nil)
	defer clear(prk[:])
	return hmac256(prk[:], info, []byte{firstBlock})
}

// validExtract and validExpand are the module's. They fail for keys and hashes
// that it does not know as approved; ours are 32 bytes or more, of SHA-2.
func validExtract[H hash.Hash](h func() H, salt, material []byte) []byte {
	prk, err := hkdf.Extract(h, material, salt)
	if err != nil {
		panic("crypto: HKDF-Extract refuses a hash or a key's length")
	}
	return prk
}

func validExpand[H hash.Hash](h func() H, prk, info []byte) [secret.KeySize]byte {
	b, err := hkdf.Expand(h, prk, string(info), secret.KeySize)
	if err != nil {
		panic("crypto: HKDF-Expand refuses a hash or a key's length")
	}
	defer clear(b)
	return [secret.KeySize]byte(b)
}

func hmac512(key, a, b []byte) [sha512.Size]byte {
	buf := make([]byte, sha512.BlockSize, stackInput)
	pad(buf, key, innerPad)
	sum := sha512.Sum512(append(append(buf, a...), b...))
	pad(buf, key, outerPad)
	sum = sha512.Sum512(append(buf, sum[:]...))
	clear(buf[:cap(buf)])
	return sum
}

func hmac256(key, a, b []byte) [sha256.Size]byte {
	buf := make([]byte, sha256.BlockSize, stackInput)
	pad(buf, key, innerPad)
	sum := sha256.Sum256(append(append(buf, a...), b...))
	pad(buf, key, outerPad)
	sum = sha256.Sum256(append(buf, sum[:]...))
	clear(buf[:cap(buf)])
	return sum
}

// pad fills a block with the key and zeros, XOR p.
func pad(block, key []byte, p byte) {
	clear(block[copy(block, key):])
	for i := range block {
		block[i] ^= p
	}
}
