package pii

// normalizeIBAN gives an IBAN (ISO 13616-1) in its electronic form: no spaces,
// upper case.
func normalizeIBAN(in input) ([]byte, error) {
	b, ok := compact(in.value, " ", func(c byte) bool { return isLetter(c) || isDigit(c) })
	for i := range b {
		b[i] = toUpper(b[i])
	}
	if !ok {
		return nil, refuse(CodeIBAN)
	}
	if code := ibanCode(b); code != "" {
		clear(b)
		return nil, refuse(code)
	}
	return b, nil
}

func ibanCode(b []byte) string {
	if len(b) < 5 || !consistsOf(b[:2], isUpper) || !consistsOf(b[2:4], isDigit) {
		return CodeIBAN
	}
	switch length := ibanLength(string(b[:2])); {
	case length == 0:
		return CodeIBANCountry
	case length != len(b):
		return CodeIBANLength
	case !mod97(b):
		return CodeIBANCheck
	}
	return ""
}

// mod97 checks the two check digits (ISO/IEC 7064 MOD 97-10), which are 02 to 98.
func mod97(b []byte) bool {
	if check := number(b[2:4]); check < 2 || check > 98 {
		return false
	}
	rest := 0
	for i := range b {
		switch c := b[(i+4)%len(b)]; {
		case isDigit(c):
			rest = (10*rest + int(c-'0')) % 97
		default:
			rest = (100*rest + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

// ibanLength is the length that SWIFT's IBAN registry (release 99) gives to a
// country, 0 where it has none.
func ibanLength(country string) int {
	switch country {
	case "NO":
		return 15
	case "BE":
		return 16
	case "DK", "FI", "FK", "FO", "GL", "NL", "SD":
		return 18
	case "MK", "SI":
		return 19
	case "AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK":
		return 20
	case "CH", "HR", "LI", "LV":
		return 21
	case "BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA":
		return 22
	case "AE", "GI", "IL", "IQ", "OM", "SO", "TL":
		return 23
	case "AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG":
		return 24
	case "LY", "PT", "ST":
		return 25
	case "IS", "TR":
		return 26
	case "BI", "DJ", "FR", "GR", "IT", "MC", "MR", "SM":
		return 27
	case "AL", "AZ", "BY", "CY", "DO", "GT", "HN", "HU", "LB", "NI", "PL", "SV":
		return 28
	case "BR", "EG", "PS", "QA", "UA":
		return 29
	case "JO", "KW", "MU", "YE":
		return 30
	case "MT", "SC":
		return 31
	case "LC":
		return 32
	case "RU":
		return 33
	}
	return 0
}
