package pii

import (
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
	if in.value[0] != '+' {
		var err error
		if region, err = phoneRegion(in.country); err != nil {
			return nil, err
		}
	}
	number, ok := parsePhone(string(in.value), region)
	if !ok {
		return nil, refuse(CodePhone)
	}
	return []byte(number), nil
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

func isPhoneChar(c byte) bool {
	switch c {
	case '+', ' ', '-', '.', '/', '(', ')':
		return true
	}
	return isDigit(c)
}
