package httpapi

import (
	"bytes"
	"strconv"
	"unicode/utf16"
)

// scanned is what a body holds beside what the decoder says.
type scanned struct {
	depth         int // of the deepest array or object
	loneSurrogate bool
	null          bool // outside of strings
}

func hasNull(body []byte) bool {
	return bytes.Contains(body, []byte("null")) && scan(body).null
}

// scan goes over any bytes, JSON or not, once.
func scan(body []byte) (found scanned) {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			n, lone := scanString(body[i+1:])
			found.loneSurrogate = found.loneSurrogate || lone
			i += n
		case '[', '{':
			depth++
			found.depth = max(found.depth, depth)
		case ']', '}':
			depth--
		case 'n':
			found.null = true
		}
	}
	return found
}

// scanString returns the length of a string's rest, its closing quote
// included, and whether an escape in it is half a surrogate pair.
func scanString(s []byte) (n int, loneSurrogate bool) {
	for n < len(s) && s[n] != '"' {
		if s[n] != '\\' {
			n++
			continue
		}
		size, lone := scanEscape(s[n:])
		loneSurrogate = loneSurrogate || lone
		n += size
	}
	return n + 1, loneSurrogate
}

// scanEscape returns the length of the escape that s begins with, or of the
// pair that it begins.
func scanEscape(s []byte) (n int, loneSurrogate bool) {
	first, ok := hexEscape(s)
	switch {
	case !ok:
		return 2, false
	case !utf16.IsSurrogate(first):
		return 6, false
	}
	second, ok := hexEscape(s[6:])
	if !ok || utf16.DecodeRune(first, second) == '\uFFFD' {
		return 6, true
	}
	return 12, false
}

// hexEscape reads \uXXXX.
func hexEscape(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(v), err == nil
}
