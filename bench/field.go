package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
)

// wrappedSize is a data key as a KMS wraps it.
const wrappedSize = 60

// sealField makes a token and a row: two copies of the data key (the first
// holds it as it is, nothing wraps it here), then the value sealed twice.
func sealField(value string) (token string, row []byte, err error) {
	row = make([]byte, 2*wrappedSize, 2*wrappedSize+len(value)+96)
	_, _ = rand.Read(row[:32]) // never fails (crypto/rand)
	var secret [16]byte
	_, _ = rand.Read(secret[:])
	token = "pv_dev_email_eu_" + base64.RawURLEncoding.EncodeToString(secret[:])
	inner, outer, err := fieldKeys(row[:32], token)
	if err != nil {
		return "", nil, err
	}
	padded := make([]byte, (len(value)+31)/32*32, len(value)+64)
	copy(padded, value)
	var nonce [12]byte // both keys are used once
	sealed := inner.Seal(padded[:0], nonce[:], padded, nil)
	return token, outer.Seal(row, nonce[:], sealed, nil), nil
}

func openField(token string, row []byte) (string, error) {
	inner, outer, err := fieldKeys(row[:32], token)
	if err != nil {
		return "", err
	}
	var nonce [12]byte
	sealed, err := outer.Open(nil, nonce[:], row[2*wrappedSize:], nil)
	if err != nil {
		return "", err
	}
	padded, err := inner.Open(sealed[:0], nonce[:], sealed, nil)
	return string(bytes.TrimRight(padded, "\x00")), err
}

// fieldKeys derives the field's two keys with an HKDF each (RFC 5869): SHA-512
// outside, as the message format demands, SHA-256 inside.
func fieldKeys(dataKey []byte, token string) (inner, outer cipher.AEAD, err error) {
	prk := hmac256(nil, []byte(token))
	key := hmac256(prk[:], []byte("inner\x01"))
	if inner, err = gcm(key[:]); err != nil {
		return nil, nil, err
	}
	long := hmac512(nil, dataKey)
	long = hmac512(long[:], []byte("outer\x01"))
	outer, err = gcm(long[:32])
	return inner, outer, err
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// hmac256 is HMAC (RFC 2104) of short inputs, on the stack.
func hmac256(key, message []byte) [sha256.Size]byte {
	var inner, outer [256]byte
	for i := range sha256.BlockSize {
		var k byte
		if i < len(key) {
			k = key[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	sum := sha256.Sum256(append(inner[:sha256.BlockSize], message...))
	return sha256.Sum256(append(outer[:sha256.BlockSize], sum[:]...))
}

func hmac512(key, message []byte) [sha512.Size]byte {
	var inner, outer [256]byte
	for i := range sha512.BlockSize {
		var k byte
		if i < len(key) {
			k = key[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	sum := sha512.Sum512(append(inner[:sha512.BlockSize], message...))
	return sha512.Sum512(append(outer[:sha512.BlockSize], sum[:]...))
}
