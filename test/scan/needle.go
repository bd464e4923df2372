package scan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MinNeedle is the shortest needle in bytes. Shorter ones would be found by
// chance: 40,000 needles of 6 bytes in 100 MB of noise give 0.01 false hits.
const MinNeedle = 6

// Needle is a value or token to look for. Reports carry its Name, never its Value.
type Needle struct {
	Name  string
	Value []byte
}

// Encoding is the form in which a needle was found.
type Encoding string

// The encodings. CaseFolded is the value in another case; Hex is of either
// case; the base64 alphabets are RFC 4648 §4 and §5, at each of the three
// alignments that a value can have inside a longer encoded string.
const (
	Raw        Encoding = "raw"
	CaseFolded Encoding = "case-folded"
	Hex        Encoding = "hex"
	Base64     Encoding = "base64"
	Base64URL  Encoding = "base64url"
)

// pattern is one byte sequence that betrays needle n.
type pattern struct {
	needle   int32
	encoding Encoding
}

// patterns adds every form of the needle: those that are found in the bytes as
// they are to exact, those that are found in their folded copy to folded.
func (n Needle) patterns(id int32, exact, folded *matcher) error {
	if len(n.Value) < MinNeedle {
		return fmt.Errorf("scan: needle %s: shorter than %d bytes", n.Name, MinNeedle)
	}
	exact.add(n.Value, pattern{id, Raw})
	lower := fold(nil, n.Value)
	folded.add(lower, pattern{id, CaseFolded})
	forms := [][]byte{n.Value}
	if !bytes.Equal(lower, n.Value) && len(lower) >= MinNeedle {
		forms = append(forms, lower)
	}
	for _, form := range forms {
		folded.add(hex.AppendEncode(nil, form), pattern{id, Hex})
		for alignment := range 3 {
			exact.add(aligned(base64.RawStdEncoding, form, alignment), pattern{id, Base64})
			exact.add(aligned(base64.RawURLEncoding, form, alignment), pattern{id, Base64URL})
		}
	}
	return nil
}

// aligned is the part of an encoding of (alignment bytes ‖ value ‖ anything)
// that the value alone determines.
func aligned(enc *base64.Encoding, value []byte, alignment int) []byte {
	out := enc.AppendEncode(nil, append(make([]byte, alignment), value...))
	if (alignment+len(value))%3 != 0 {
		out = out[:len(out)-1] // shares its bits with what follows
	}
	return out[(alignment*8+5)/6:] // these share theirs with what precedes
}

// fold appends src to dst with every letter in one case. It follows valid
// UTF-8 and keeps other bytes, so a text is folded alike wherever it stands.
func fold(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		c := src[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size <= 1 {
			dst = append(dst, c)
			i++
			continue
		}
		dst = utf8.AppendRune(dst, unicode.ToLower(unicode.ToUpper(r)))
		i += size
	}
	return dst
}
