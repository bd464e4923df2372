package awshttp

import (
	"errors"
	"strings"

	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Status is the HTTP status of the answer that a call's error came with; 0
// where there was none.
func Status(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// maxCode is longer than any code of AWS's.
const maxCode = 64

// Code lets the name of an error's code through and nothing else that a server may say.
func Code(code string) string {
	other := strings.ContainsFunc(code, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '.'
	})
	if code == "" || len(code) > maxCode || other {
		return "unknown error"
	}
	return code
}
