package oidc

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// maxSubject is the longest sub (OpenID Connect Core 1.0 §2); maxPlain the
// longest that is spelled out in a principal's id.
const (
	maxSubject = 255
	maxPlain   = 128
)

// subjectID is a sub as part of a principal's id, which every audit entry has:
// legible where it can be, with ~ and two hexadecimal digits for each byte
// that is not of a-z A-Z 0-9 . : | -. One with an @ is likely an address of
// e-mail, which is personal data, and one may be too long: of them it is ~~
// and a hash. No two subs have the same.
func subjectID(sub string) string {
	if !strings.Contains(sub, "@") {
		if plain := escaped(sub); len(plain) <= maxPlain {
			return plain
		}
	}
	sum := sha256.Sum256([]byte("piivault/oidc-subject/v1\x00" + sub))
	return "~~" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

func escaped(sub string) string {
	var b strings.Builder
	for _, c := range []byte(sub) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".:|-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "~%02x", c)
		}
	}
	return b.String()
}
