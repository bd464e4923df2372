package pii

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxEmail     = 254 // RFC 5321 §4.5.3.1.3 less the angle brackets
	maxLocalPart = 64  // RFC 5321 §4.5.3.1.1
	maxDomain    = 253 // RFC 1035 §2.3.4 as text
	maxLabel     = 63
)

// normalizeEmail accepts local-part@domain: a dot-atom (RFC 5322 §3.2.3, with
// RFC 6532's characters beyond ASCII), no quoted string, no comment, no
// address literal; and a domain of two labels or more. The local part is kept
// as it is, for only its host knows whether case matters; the domain becomes
// lower case and stays in the form, U-label or A-label, in which it was sent.
func normalizeEmail(in input) ([]byte, error) {
	b := nfc(in.value)
	at := bytes.IndexByte(b, '@')
	var code string
	switch {
	case len(b) > maxEmail:
		code = CodeTooLong
	case at < 1 || at > maxLocalPart || bytes.Count(b, []byte("@")) > 1 || !isDotAtom(b[:at]):
		code = CodeEmail
	default:
		return withDomain(b, at+1)
	}
	clear(b)
	return nil, refuse(code)
}

// withDomain takes ownership of b and lowers the case of the domain that starts at from.
func withDomain(b []byte, from int) ([]byte, error) {
	for i := from; i < len(b); i++ {
		b[i] = toLower(b[i])
	}
	domain := b[from:]
	if isASCII(domain) && !bytes.Contains(domain, []byte("xn--")) {
		if isHostname(domain) {
			return b, nil
		}
		clear(b)
		return nil, refuse(CodeEmailDomain)
	}
	defer clear(b)
	lower := bytes.ToLower(domain)
	defer clear(lower)
	if !isIDN(string(domain), string(lower)) {
		return nil, refuse(CodeEmailDomain)
	}
	if from+len(lower) > maxEmail {
		return nil, refuse(CodeTooLong)
	}
	return append(append(make([]byte, 0, from+len(lower)), b[:from]...), lower...), nil
}

// isIDN reports that lower is a valid internationalized name (RFC 5891 §4) and
// the one which UTS #46 makes of domain: where simple lower case leads to
// another name (U+0130), the name is refused, not changed.
func isIDN(domain, lower string) bool {
	ascii, err := idna.Registration.ToASCII(lower)
	if err != nil || !isHostname([]byte(ascii)) {
		return false
	}
	mapped, err := idna.Lookup.ToASCII(domain)
	return err == nil && mapped == ascii
}

// isHostname: RFC 1123 §2.1 names in lower case, of two labels or more, whose
// last is no number: an IPv4 address is none.
func isHostname(b []byte) bool {
	if len(b) > maxDomain || !bytes.Contains(b, []byte(".")) {
		return false
	}
	for {
		label, rest, more := bytes.Cut(b, []byte("."))
		if !isHostLabel(label) {
			return false
		}
		if !more {
			return !consistsOf(label, isDigit)
		}
		b = rest
	}
}

func isHostLabel(b []byte) bool {
	return len(b) >= 1 && len(b) <= maxLabel && b[0] != '-' && b[len(b)-1] != '-' &&
		consistsOf(b, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

// isDotAtom: atoms of one character or more, separated by single dots.
func isDotAtom(b []byte) bool {
	for more := true; more; {
		var atom []byte
		atom, b, more = bytes.Cut(b, []byte("."))
		if len(atom) == 0 || bytes.IndexFunc(atom, isNotAtomText) >= 0 {
			return false
		}
	}
	return true
}

func isNotAtomText(r rune) bool {
	if r >= utf8.RuneSelf {
		return isBlank(r) || unicode.IsControl(r)
	}
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}
