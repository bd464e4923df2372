package pii

import (
	"bytes"
	"net/netip"
	"strconv"
	"unicode"
	"unicode/utf8"

	"piivault/internal/secret"
)

// stars stands for what is hidden; it is of one length, whatever that of the value.
const stars = "***"

// masked is the mask of a value that would show in its own mask, such as
// three stars. It shares no more than a letter with any other mask.
const masked = "[masked]"

// Mask returns, in new bytes, what may be shown of a normalized value: enough
// to tell two records apart on a screen, never enough to use the value
// (docs/design/format.md §4 has the table). It never contains the value, and
// its length says nothing about that of free text. It is text for every kind:
// it needs no Present.
func (t *Type) Mask(value secret.Plaintext) secret.Plaintext {
	r, ok := rulesOf(t.Kind)
	if !ok {
		r.mask = maskAll
	}
	m := r.mask(value.Bytes())
	if bytes.Contains(m, value.Bytes()) {
		clear(m)
		m = []byte(masked)
	}
	return secret.NewPlaintext(m)
}

// MaskExample is the mask of a made-up value of the type's kind.
func (t *Type) MaskExample() string {
	r, _ := rulesOf(t.Kind)
	return string(t.Mask(secret.NewPlaintext([]byte(r.example))).Bytes())
}

func maskAll([]byte) []byte { return []byte(stars) }

func maskDate([]byte) []byte { return []byte("****-**-**") }

func maskPhone(v []byte) []byte { return append([]byte(stars), tail(v, 2)...) }

func maskCard(v []byte) []byte { return append([]byte(stars), tail(v, 4)...) }

func maskSSN(v []byte) []byte { return append([]byte("***-**-"), tail(v, 4)...) }

func maskIBAN(v []byte) []byte {
	if len(v) < 15 { // none is shorter
		return maskAll(v)
	}
	m := append(make([]byte, 0, 2+len(stars)+4), v[:2]...)
	return append(append(m, stars...), tail(v, 4)...)
}

// maskNationalID shows the last two characters of six or more.
func maskNationalID(v []byte) []byte {
	m := append(make([]byte, 0, len(stars)+2*utf8.UTFMax), stars...)
	if utf8.RuneCount(v) < 6 {
		return m
	}
	_, last := utf8.DecodeLastRune(v)
	_, before := utf8.DecodeLastRune(v[:len(v)-last])
	return append(m, tail(v, before+last)...)
}

// maskIP shows the network: 24 bits of IPv4, 48 of IPv6.
func maskIP(v []byte) []byte {
	m := make([]byte, 0, len("ffff:ffff:ffff:*"))
	a, err := netip.ParseAddr(string(v))
	if err != nil {
		return maskAll(v)
	}
	if a.Is4() {
		return append(append(m, v[:bytes.LastIndexByte(v, '.')+1]...), '*')
	}
	b := a.As16()
	for i := 0; i < 6; i += 2 {
		m = strconv.AppendUint(m, uint64(b[i])<<8|uint64(b[i+1]), 16)
		m = append(m, ':')
	}
	return append(m, '*')
}

// maskEmail shows the first character on each side and the top-level domain.
func maskEmail(v []byte) []byte {
	local, domain, _ := bytes.Cut(v, []byte("@"))
	m := make([]byte, 0, len(stars)*2+2*utf8.UTFMax+2+maxLabel)
	m = append(appendInitial(m, local), '@')
	m = appendInitial(m, domain[:max(0, bytes.IndexByte(domain, '.'))])
	return append(append(m, '.'), domain[bytes.LastIndexByte(domain, '.')+1:]...)
}

// maskName shows the initials of the first and the last word.
func maskName(v []byte) []byte {
	m := make([]byte, 0, 2*len(stars)+2*utf8.UTFMax+1)
	v = bytes.TrimSpace(v)
	first, last := bytes.IndexFunc(v, unicode.IsSpace), bytes.LastIndexFunc(v, unicode.IsSpace)
	if first < 0 {
		return appendInitial(m, v)
	}
	_, space := utf8.DecodeRune(v[last:])
	m = append(appendInitial(m, v[:first]), ' ')
	return appendInitial(m, v[last+space:])
}

// appendInitial appends the first letter or digit of a word of two characters
// or more, and stars.
func appendInitial(m, word []byte) []byte {
	r, size := utf8.DecodeRune(word)
	if len(word) > size && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		m = append(m, word[:size]...)
	}
	return append(m, stars...)
}

// tail is the last n bytes of v, or nothing where that would be all.
func tail(v []byte, n int) []byte {
	if len(v) <= n {
		return nil
	}
	return v[len(v)-n:]
}
