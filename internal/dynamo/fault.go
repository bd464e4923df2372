package dynamo

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"piivault/internal/awshttp"
)

// Classes of errors. A call's error is one of them, or its context's.
var (
	// ErrCondition: a condition did not hold; nothing was written.
	ErrCondition = errors.New("dynamo: a condition did not hold")
	// ErrThrottled: throttled for as long as there was time; nothing was written by the last attempt.
	ErrThrottled = errors.New("dynamo: throttled")
	// ErrTransient: no answer, or that of a fault, for as long as there was
	// time. A write may have been applied.
	ErrTransient = errors.New("dynamo: no usable answer")
	// ErrDenied: the credentials, their rights or the clock.
	ErrDenied = errors.New("dynamo: denied")
	// ErrNoTable: the table or an index of it is not there.
	ErrNoTable = errors.New("dynamo: no such table")
	// ErrInvalid: the request was refused as it is.
	ErrInvalid = errors.New("dynamo: request refused")
	// ErrCorrupt: an item lacks an attribute, or has one that is not of its type or form.
	ErrCorrupt = errors.New("dynamo: corrupt item")
)

// fault is what an SDK error means.
type fault struct {
	class error
	code  string
	retry bool
	// applied: the write may have been applied though the answer says nothing.
	applied bool
}

func faultOf(err error) fault {
	if canceled, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		return faultOfReasons(canceled.CancellationReasons)
	}
	var answer smithy.APIError
	switch {
	case errors.As(err, &answer):
		return faultOfAnswer(answer.ErrorCode(), awshttp.Status(err))
	case errors.Is(err, awshttp.ErrCredentials):
		return fault{class: ErrDenied, code: "no credentials", retry: true}
	}
	return fault{class: ErrTransient, code: "no answer", retry: true, applied: true}
}

// faultOfAnswer sorts the codes of the DynamoDB API reference, "Error handling".
func faultOfAnswer(code string, status int) fault {
	switch code {
	case "ConditionalCheckFailedException":
		return fault{class: ErrCondition, code: code}
	case "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "Throttling", "SlowDown",
		"TransactionConflictException", "ReplicatedWriteConflictException":
		return fault{class: ErrThrottled, code: code, retry: true}
	case "TransactionInProgressException":
		return fault{class: ErrTransient, code: code, retry: true, applied: true}
	case "AccessDeniedException", "UnrecognizedClientException", "IncompleteSignatureException", "InvalidSignatureException",
		"MissingAuthenticationTokenException", "ExpiredTokenException", "InvalidClientTokenId", "OptInRequired":
		return fault{class: ErrDenied, code: code}
	case "ResourceNotFoundException", "TableNotFoundException":
		return fault{class: ErrNoTable, code: code}
	}
	if status >= http.StatusInternalServerError || status == 0 {
		return fault{class: ErrTransient, code: awshttp.Code(code), retry: true, applied: true}
	}
	return fault{class: ErrInvalid, code: awshttp.Code(code)}
}

// faultOfReasons judges a cancelled transaction, of which nothing was written:
// a condition that failed outweighs what another attempt might not meet.
func faultOfReasons(reasons []types.CancellationReason) fault {
	worst := fault{class: ErrThrottled, code: "TransactionCanceled", retry: true}
	for i := range reasons {
		if reasons[i].Code == nil {
			continue
		}
		switch code := *reasons[i].Code; code {
		case "ConditionalCheckFailed":
			return fault{class: ErrCondition, code: code}
		case "None", "TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError":
		default:
			worst = fault{class: ErrInvalid, code: awshttp.Code(code)}
		}
	}
	return worst
}

// failed is the error of a call. An ended context is said, so that a caller
// can tell its own deadline from the service's.
func failed(ctx context.Context, op string, f fault) error {
	if err := ctx.Err(); err != nil && f.retry {
		return fmt.Errorf("dynamo: %s: %s: %w: %w", op, f.code, f.class, err)
	}
	return fmt.Errorf("dynamo: %s: %s: %w", op, f.code, f.class)
}
