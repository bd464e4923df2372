package pii

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// charset is which characters a kind allows beside the visible ones.
type charset uint8

const (
	// oneLine allows neither control characters nor line separators.
	oneLine charset = iota
	// displayed is oneLine without the explicit bidirectional controls: they
	// have no place in a name, and reorder what stands around it on a screen.
	// Marks and joiners (U+200C to U+200F), which scripts need, are allowed.
	displayed
	// manyLines allows tabs and line breaks, and all that free text may hold.
	manyLines
)

// check returns the code of the first rule of all kinds that b breaks, or "".
func (c charset) check(b []byte) string {
	if len(b) == 0 {
		return CodeEmpty
	}
	blank := true
	for i := 0; i < len(b); {
		r, size := rune(b[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(b[i:])
		}
		if r == utf8.RuneError && size == 1 {
			return CodeEncoding
		}
		if code := c.refuses(r); code != "" {
			return code
		}
		blank = blank && isBlank(r)
		i += size
	}
	if blank {
		return CodeEmpty
	}
	return ""
}

func (c charset) refuses(r rune) string {
	switch {
	case ' ' <= r && r <= '~':
		return ""
	case r == '\t', r == '\n', r == '\r', r == '\u2028', r == '\u2029':
		if c == manyLines {
			return ""
		}
		return CodeControl
	case unicode.IsControl(r):
		return CodeControl
	case c == displayed && isBidiControl(r):
		return CodeBidi
	}
	return ""
}

// isBlank tells of characters that show nothing: spaces and format characters.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// isBidiControl: embeddings, overrides and isolates (UAX #9 §2.1, §2.2, §2.4).
func isBidiControl(r rune) bool {
	return '\u202A' <= r && r <= '\u202E' || '\u2066' <= r && r <= '\u2069'
}

// nfc returns a copy of b in Normalization Form C (UAX #15).
func nfc(b []byte) []byte {
	if norm.NFC.IsNormal(b) {
		return append(make([]byte, 0, len(b)), b...)
	}
	// NFC makes UTF-8 three times as long at worst (UAX #15 §9): with that
	// room no half-grown copy is left behind.
	return norm.NFC.Append(make([]byte, 0, 3*len(b)), b...)
}

func isASCII(b []byte) bool {
	return consistsOf(b, func(c byte) bool { return c < utf8.RuneSelf })
}

func isLetter(c byte) bool { return isLower(c) || isUpper(c) }

func toUpper(c byte) byte {
	if isLower(c) {
		return c - 'a' + 'A'
	}
	return c
}

func toLower(c byte) byte {
	if isUpper(c) {
		return c - 'A' + 'a'
	}
	return c
}
