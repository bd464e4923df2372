package pii

import (
	"bytes"

	"github.com/nyaruka/phonenumbers"
)

// unknownRegion makes the parser take numbers that start with + only.
const unknownRegion = "ZZ"

// maxPhone is the longest text tried: the parser's own limit.
const maxPhone = 250

// normalizePhone gives E.164. A number is accepted when its length is one that
// the numbering plan of its country has: whether it lies in a range that is in
// use today changes faster than any table, and a vault that refuses a real
// number does more harm than one that keeps a wrong one. Letters and
// extensions are refused: E.164 has neither.
func normalizePhone(in input) ([]byte, error) {
	if len(in.value) > maxPhone || !consistsOf(in.value, isPhoneChar) {
		return nil, refuse(CodePhone)
	}
	region := unknownRegion
	switch plus := bytes.LastIndexByte(in.value, '+'); {
	case plus < 0:
		var err error
		if region, err = phoneRegion(in.country); err != nil {
			return nil, err
		}
	case !consistsOf(in.value[:plus], isPlusPrefix):
		return nil, refuse(CodePhone)
	}
	number, ok := parsePhone(string(in.value), region)
	if !ok || !isStable(in.value, number) {
		return nil, refuse(CodePhone)
	}
	return []byte(number), nil
}

// isStable reports that number, which was made of sent, would be read as
// itself: of an impossible one such as 000 000000 the parser takes another
// prefix away at each reading.
func isStable(sent []byte, number string) bool {
	digits, _ := compact(sent, " -./()", isPhoneChar)
	defer clear(digits)
	if string(digits) == number {
		return true
	}
	again, ok := parsePhone(number, unknownRegion)
	return ok && again == number
}

func phoneRegion(country string) (string, error) {
	if country == "" {
		return "", refuse(CodePhoneCountry)
	}
	region, err := countryOf(country)
	if err != nil {
		return "", err
	}
	if phonenumbers.GetCountryCodeForRegion(region) == 0 {
		return "", refuse(CodeCountry)
	}
	return region, nil
}

func parsePhone(text, region string) (string, bool) {
	n, err := phonenumbers.Parse(text, region)
	if err != nil || phonenumbers.IsPossibleNumberWithReason(n) != phonenumbers.IS_POSSIBLE {
		return "", false
	}
	return phonenumbers.Format(n, phonenumbers.E164), true
}

// isPlusPrefix is what may stand before the plus sign, as in (+353).
func isPlusPrefix(c byte) bool { return c == ' ' || c == '(' }

func isPhoneChar(c byte) bool {
	switch c {
	case '+', ' ', '-', '.', '/', '(', ')':
		return true
	}
	return isDigit(c)
}
