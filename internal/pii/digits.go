package pii

import (
	"net/netip"
	"time"
)

const (
	maxAge = 130 // years
	// firstZone is how far ahead of UTC a day begins first (Line Islands),
	// lastZone how far behind it ends last.
	firstZone = 14 * time.Hour
	lastZone  = -12 * time.Hour
)

// compact returns b without the separators; ok tells that all the rest is allowed.
func compact(b []byte, separators string, allowed func(byte) bool) (out []byte, ok bool) {
	out = make([]byte, 0, len(b))
next:
	for _, c := range b {
		for i := range len(separators) {
			if c == separators[i] {
				continue next
			}
		}
		if !allowed(c) {
			clear(out)
			return nil, false
		}
		out = append(out, c)
	}
	return out, true
}

// normalizeCard gives the 13 to 19 digits of a primary account number (ISO/IEC 7812-1).
func normalizeCard(in input) ([]byte, error) {
	b, ok := compact(in.value, " -", isDigit)
	switch {
	case !ok || len(b) < 13 || len(b) > 19:
		clear(b)
		return nil, refuse(CodeCard)
	case !luhn(b):
		clear(b)
		return nil, refuse(CodeCardCheck)
	}
	return b, nil
}

// luhn checks the last digit (ISO/IEC 7812-1 annex B).
func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum%10 == 0
}

// normalizeSSN gives AAA-GG-SSSS, of nine digits or that form with hyphens or
// spaces. The Social Security Administration assigns no area 000, 666 or 9xx,
// no group 00 and no serial 0000.
func normalizeSSN(in input) ([]byte, error) {
	v := in.value
	if len(v) == 11 && v[3] == v[6] && (v[3] == '-' || v[3] == ' ') {
		v = append(append(append(make([]byte, 0, 9), v[:3]...), v[4:6]...), v[7:]...)
		defer clear(v)
	}
	if len(v) != 9 || !consistsOf(v, isDigit) {
		return nil, refuse(CodeSSN)
	}
	area, group, serial := v[:3], v[3:5], v[5:]
	if string(area) == "000" || string(area) == "666" || area[0] == '9' || string(group) == "00" || string(serial) == "0000" {
		return nil, refuse(CodeSSNRange)
	}
	b := append(append(make([]byte, 0, 11), area...), '-')
	b = append(append(b, group...), '-')
	return append(b, serial...), nil
}

// normalizeDate accepts YYYY-MM-DD (RFC 3339 full-date): a day that has begun
// somewhere on Earth, and not more than 130 years ago everywhere.
func normalizeDate(in input) ([]byte, error) {
	day, ok := parseDate(in.value)
	switch {
	case !ok:
		return nil, refuse(CodeDate)
	case day.After(in.now.UTC().Add(firstZone)):
		return nil, refuse(CodeDateFuture)
	case day.Before(in.now.UTC().Add(lastZone).Truncate(24*time.Hour).AddDate(-maxAge, 0, 0)):
		return nil, refuse(CodeDateTooOld)
	}
	return append(make([]byte, 0, len(in.value)), in.value...), nil
}

func parseDate(b []byte) (time.Time, bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' || !consistsOf(b[:4], isDigit) || !consistsOf(b[5:7], isDigit) || !consistsOf(b[8:], isDigit) {
		return time.Time{}, false
	}
	year, month, date := number(b[:4]), number(b[5:7]), number(b[8:])
	day := time.Date(year, time.Month(month), date, 0, 0, 0, 0, time.UTC)
	return day, day.Year() == year && int(day.Month()) == month && day.Day() == date
}

func number(digits []byte) int {
	n := 0
	for _, d := range digits {
		n = 10*n + int(d-'0')
	}
	return n
}

// normalizeIP gives the canonical text (IPv4 in dotted decimals, IPv6 by RFC
// 5952). An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) becomes the
// IPv4 address that it is; a zone, which means something on one machine only,
// is refused.
func normalizeIP(in input) ([]byte, error) {
	a, err := netip.ParseAddr(string(in.value))
	if err != nil || a.Zone() != "" {
		return nil, refuse(CodeIP)
	}
	return a.Unmap().AppendTo(make([]byte, 0, len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))), nil
}
