package pii

// The stable codes of a ValueError, in the order of Codes: openapi.yaml names
// them all. A code is never renamed, and its meaning never changes.
const (
	CodeEmpty           = "value_empty"
	CodeTooLong         = "value_too_long"
	CodeEncoding        = "value_encoding"
	CodeControl         = "value_control_character"
	CodeBidi            = "value_bidi_control"
	CodeCountry         = "country_invalid"
	CodeEmail           = "email_invalid"
	CodeEmailDomain     = "email_domain_invalid"
	CodePhone           = "phone_invalid"
	CodePhoneCountry    = "phone_country_required"
	CodeDate            = "date_invalid"
	CodeDateFuture      = "date_in_future"
	CodeDateTooOld      = "date_too_old"
	CodeSSN             = "ssn_invalid"
	CodeSSNRange        = "ssn_not_assignable"
	CodeNationalID      = "national_id_invalid"
	CodeNationalIDCheck = "national_id_checksum"
	CodeCard            = "card_invalid"
	CodeCardCheck       = "card_luhn"
	CodeIBAN            = "iban_invalid"
	CodeIBANCountry     = "iban_country"
	CodeIBANLength      = "iban_length"
	CodeIBANCheck       = "iban_checksum"
	CodeIP              = "ip_invalid"
	CodeJSON            = "json_invalid"
	CodeJSONDuplicate   = "json_duplicate_key"
	CodeJSONDepth       = "json_too_deep"
	CodeBase64          = "base64_invalid"
)

// Codes returns every ValueError that Normalize can answer. Code and Message
// are fixed text: they never quote a value.
func Codes() []ValueError {
	return []ValueError{
		{CodeEmpty, "the value is empty or blank"},
		{CodeTooLong, "the value is longer than its type allows"},
		{CodeEncoding, "the value is not valid UTF-8"},
		{CodeControl, "the value holds a control character that its type does not allow"},
		{CodeBidi, "the value holds a bidirectional override, embedding or isolate"},
		{CodeCountry, "country is not an ISO 3166-1 alpha-2 code that this type knows"},
		{CodeEmail, "the value is not an email address (local-part@domain, without quotes or comments)"},
		{CodeEmailDomain, "the part after the @ is not a domain name of two labels or more"},
		{CodePhone, "the value is not a possible telephone number of its country"},
		{CodePhoneCountry, "a telephone number that does not start with + needs a country"},
		{CodeDate, "the value is not a calendar date written YYYY-MM-DD"},
		{CodeDateFuture, "the date has not begun anywhere on Earth yet"},
		{CodeDateTooOld, "the date is more than 130 years ago"},
		{CodeSSN, "the value is not nine digits, written AAA-GG-SSSS or without separators"},
		{CodeSSNRange, "the area, group or serial number is one that is never assigned"},
		{CodeNationalID, "the value is not an identifier of 4 to 32 letters, digits and separators, or not of the form that the given country uses"},
		{CodeNationalIDCheck, "the check digit does not match for the given country"},
		{CodeCard, "the value is not 13 to 19 digits, with or without spaces or hyphens"},
		{CodeCardCheck, "the Luhn check digit does not match"},
		{CodeIBAN, "the value is not an IBAN: country, two check digits, then letters and digits"},
		{CodeIBANCountry, "the first two letters are not a country of the IBAN registry"},
		{CodeIBANLength, "the length is not the one of the IBAN's country"},
		{CodeIBANCheck, "the check digits (mod 97) do not match"},
		{CodeIP, "the value is not an IPv4 or IPv6 address without zone, port or prefix length"},
		{CodeJSON, "the value is not one JSON document (RFC 8259) in which every string is valid Unicode"},
		{CodeJSONDuplicate, "an object of the JSON document has two members of the same name"},
		{CodeJSONDepth, "the JSON document is nested deeper than 64 levels"},
		{CodeBase64, "the value is not standard base64 with padding (RFC 4648 section 4)"},
	}
}

// refuse makes the error of a code.
func refuse(code string) error {
	for _, e := range Codes() {
		if e.Code == code {
			return &e
		}
	}
	return &ValueError{Code: code}
}
