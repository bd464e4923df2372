package kms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/aws/smithy-go"

	"piivault/internal/awshttp"
	"piivault/internal/crypto"
)

// fault is what an SDK error means.
type fault struct {
	sentinel  error
	what      string // a code of the service, or a word of ours
	transient bool   // another attempt may fare better
}

// failed is the error of a call. The answer of a service that came counts,
// even if the context has ended since.
func failed(ctx context.Context, op string, err error) error {
	f := faultOf(err)
	if ctx.Err() != nil && !isAnswer(err) {
		return fmt.Errorf("kms: %s: %w", op, ctx.Err())
	}
	return fmt.Errorf("kms: %s: %s: %w", op, f.what, f.sentinel)
}

// failedDecrypt also knows what to blame a ciphertext for: its content and the
// context it came with are a stored record's, so a request that the service
// finds malformed says nothing about the service or the key, and a forged
// record must not open a region's breaker.
func failedDecrypt(ctx context.Context, op string, err error) error {
	switch f := faultOf(err); f.what {
	case "ValidationException", "InvalidKeyUsageException":
		return fmt.Errorf("kms: %s: %s: %w", op, f.what, crypto.ErrInvalidCiphertext)
	default:
		return failed(ctx, op, err)
	}
}

// unusable is the error of an answer that lacks what was asked for, or names another key.
func unusable(op string) error {
	return fmt.Errorf("kms: %s: not an answer to the request: %w", op, crypto.ErrUnreachable)
}

func isAnswer(err error) bool {
	_, ok := errors.AsType[smithy.APIError](err)
	return ok
}

func faultOf(err error) fault {
	if answer, ok := errors.AsType[smithy.APIError](err); ok {
		return faultOfAnswer(answer.ErrorCode(), awshttp.Status(err))
	}
	if errors.Is(err, awshttp.ErrCredentials) {
		return fault{crypto.ErrUnreachable, "no credentials", false}
	}
	return fault{crypto.ErrUnreachable, network(err), true}
}

// faultOfAnswer sorts the codes of the KMS API reference: each operation's
// errors, and the errors common to all. What is not known here is a fault:
// the ring goes round it, and no reveal is refused for a word we cannot read.
func faultOfAnswer(code string, status int) fault {
	switch code {
	case "ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "SlowDown":
		return fault{crypto.ErrThrottled, code, true}
	case "AccessDeniedException", "AccessDenied", "NotAuthorized", "NotAuthorizedException", "UnauthorizedOperation",
		"UnrecognizedClientException", "InvalidClientTokenId", "OptInRequired", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "InvalidGrantTokenException":
		return fault{crypto.ErrDenied, code, false}
	case "DisabledException", "KMSInvalidStateException", "NotFoundException", "InvalidArnException",
		"InvalidKeyUsageException", "ValidationException", "UnsupportedOperationException":
		return fault{crypto.ErrDisabled, code, false}
	case "InvalidCiphertextException", "IncorrectKeyException":
		return fault{crypto.ErrInvalidCiphertext, code, false}
	}
	if status == http.StatusTooManyRequests {
		return fault{crypto.ErrThrottled, awshttp.Code(code), true}
	}
	// KMSInternalException, DependencyTimeoutException, KeyUnavailableException and their like.
	return fault{crypto.ErrUnreachable, awshttp.Code(code), status >= http.StatusInternalServerError}
}

// network names what failed between here and the service.
func network(err error) string {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &dns):
		return "name not resolved"
	case errors.As(err, &certificate):
		return "certificate refused"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "no answer"
	}
}
