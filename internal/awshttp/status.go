package awshttp

import (
	"errors"

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
