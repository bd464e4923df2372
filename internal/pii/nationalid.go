package pii

import (
	"unicode"
	"unicode/utf8"
)

// normalizeNationalID accepts 4 to 32 letters and digits of any script, at
// least one digit, between separators (space, hyphen, dot, slash), and keeps
// them in NFC as they were sent. Most countries have several identifiers and
// publish the rules of few: only where the country is given and has one that
// everybody means is its form checked too.
func normalizeNationalID(in input) ([]byte, error) {
	if !isNationalID(in.value) {
		return nil, refuse(CodeNationalID)
	}
	if in.country != "" {
		country, err := countryOf(in.country)
		if err != nil {
			return nil, err
		}
		if code := nationalCode(country, in.value); code != "" {
			return nil, refuse(code)
		}
	}
	b := nfc(in.value)
	return b, nil
}

func isNationalID(b []byte) bool {
	if utf8.RuneCount(b) < 4 || utf8.RuneCount(b) > 32 {
		return false
	}
	digit := false
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		digit = digit || unicode.IsDigit(r)
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !isIDSeparator(r) {
			return false
		}
		b = b[size:]
	}
	return digit
}

func isIDSeparator(r rune) bool { return r == ' ' || r == '-' || r == '.' || r == '/' }

// nationalCode checks the identifiers of four countries, "" for the others.
func nationalCode(country string, value []byte) string {
	var valid func([]byte) (form, check bool)
	switch country {
	case "BR":
		valid = isCPF
	case "FR":
		valid = isNIR
	case "IE":
		valid = isPPSN
	case "PL":
		valid = isPESEL
	default:
		return ""
	}
	b, ok := compact(value, " -./", func(c byte) bool { return isLetter(c) || isDigit(c) })
	defer clear(b)
	for i := range b {
		b[i] = toUpper(b[i])
	}
	form, check := valid(b)
	switch {
	case !ok || !form:
		return CodeNationalID
	case !check:
		return CodeNationalIDCheck
	}
	return ""
}

// isPESEL: 11 digits, the last a check digit over weights 1 3 7 9.
func isPESEL(b []byte) (form, check bool) {
	if len(b) != 11 || !consistsOf(b, isDigit) {
		return false, false
	}
	sum := 0
	for i, d := range b[:10] {
		sum += int(d-'0') * [4]int{1, 3, 7, 9}[i%4]
	}
	return true, int(b[10]-'0') == (10-sum%10)%10
}

// isCPF: 11 digits, the last two check digits mod 11. Eleven equal digits pass
// the arithmetic and are never assigned.
func isCPF(b []byte) (form, check bool) {
	if len(b) != 11 || !consistsOf(b, isDigit) {
		return false, false
	}
	if consistsOf(b, func(c byte) bool { return c == b[0] }) {
		return true, false
	}
	return true, cpfDigit(b[:9]) == int(b[9]-'0') && cpfDigit(b[:10]) == int(b[10]-'0')
}

func cpfDigit(b []byte) int {
	sum := 0
	for i, d := range b {
		sum += int(d-'0') * (len(b) + 1 - i)
	}
	return 10 * sum % 11 % 10
}

// isPPSN: seven digits, a check letter mod 23, and since 2013 a second letter
// that counts nine times (W as zero).
func isPPSN(b []byte) (form, check bool) {
	if len(b) < 8 || len(b) > 9 || !consistsOf(b[:7], isDigit) || !consistsOf(b[7:], isUpper) {
		return false, false
	}
	sum := 0
	for i, d := range b[:7] {
		sum += int(d-'0') * (8 - i)
	}
	if len(b) == 9 && b[8] != 'W' {
		sum += 9 * int(b[8]-'A'+1)
	}
	return true, "WABCDEFGHIJKLMNOPQRSTUV"[sum%23] == b[7]
}

// isNIR: 13 digits (2A and 2B, Corsica, count as 19 and 18) and their key, 97
// less the rest of dividing by 97.
func isNIR(b []byte) (form, check bool) {
	if len(b) != 15 || !consistsOf(b[:6], isDigit) || !consistsOf(b[7:], isDigit) {
		return false, false
	}
	d := [13]byte(b)
	defer clear(d[:])
	switch {
	case isDigit(d[6]):
	case d[5] == '2' && d[6] == 'A':
		d[5], d[6] = '1', '9'
	case d[5] == '2' && d[6] == 'B':
		d[5], d[6] = '1', '8'
	default:
		return false, false
	}
	return true, number(b[13:]) == 97-number(d[:])%97
}
