package awshttp_test

import (
	"strings"
	"testing"

	"piivault/internal/awshttp"
)

// G4: what a server says beside the name of a code goes nowhere.
func TestCodesAreNamesOnly(t *testing.T) {
	long := strings.Repeat("a", 64)
	for code, want := range map[string]string{
		"ThrottlingException": "ThrottlingException", "Client.Http4": "Client.Http4", long: long,
		"": "unknown error", long + "a": "unknown error", "ann@example.com": "unknown error", "two words": "unknown error", "ä": "unknown error", "a-b": "unknown error",
	} {
		if got := awshttp.Code(code); got != want {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
}
