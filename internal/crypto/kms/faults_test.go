package kms_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"piivault/internal/crypto"
	"piivault/internal/crypto/kms"
	"piivault/internal/secret"
	"piivault/internal/sim/kmsserver"
)

// calls makes each of the four calls.
func calls(k crypto.KMS, keyARN string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"GenerateDataKey": func(ctx context.Context) error {
			key, _, err := k.GenerateDataKey(ctx, keyARN, nil)
			return anyway(err, key.IsZero())
		},
		"Encrypt": func(ctx context.Context) error {
			key, err := secret.NewKey(make([]byte, secret.KeySize))
			if err != nil {
				return err
			}
			blob, err := k.Encrypt(ctx, keyARN, key, nil)
			return anyway(err, blob == nil)
		},
		"Decrypt": func(ctx context.Context) error {
			key, err := k.Decrypt(ctx, keyARN, []byte("blob"), nil)
			return anyway(err, key.IsZero())
		},
		"DescribeKey": func(ctx context.Context) error { return k.Check(ctx, keyARN) },
	}
}

// anyway is err, or an error of its own if something came with it.
func anyway(err error, nothing bool) error {
	if err != nil && !nothing {
		return errors.New("an error and a result")
	}
	return err
}

// Each fault reads as one sentinel from every call, and is tried once more if
// another attempt may fare better.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		mode     kmsserver.Mode
		want     error
		attempts int
	}{
		{kmsserver.Down, crypto.ErrUnreachable, 2},
		{kmsserver.Broken, crypto.ErrUnreachable, 2},
		{kmsserver.Throttle, crypto.ErrThrottled, 2},
		{kmsserver.Deny, crypto.ErrDenied, 1},
	} {
		s := newService(t)
		k, arn := client(t, here, s.url), s.key(t, kmsserver.KeySpec{Region: here})
		s.set(t, kmsserver.Fault{Region: here, Mode: test.mode})
		for name, call := range calls(k, arn) {
			err := call(t.Context())
			only(t, string(test.mode)+" "+name, err, test.want)
			if n := s.Calls(here)[name]; n != test.attempts {
				t.Errorf("%s %s: %d attempts, want %d", test.mode, name, n, test.attempts)
			}
		}
	}
}

// only checks that an error wraps one sentinel and no other.
func only(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, sentinel := range []error{
		crypto.ErrUnreachable, crypto.ErrThrottled, crypto.ErrDenied, crypto.ErrDisabled, crypto.ErrInvalidCiphertext,
		context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, sentinel) != (sentinel == want) { //nolint:errorlint // the sentinel itself
			t.Errorf("%s: got %v, want %v", what, err, want)
			return
		}
	}
}

// A fault that is over by the second attempt is not noticed.
func TestOneRetryHelps(t *testing.T) {
	for _, mode := range []kmsserver.Mode{kmsserver.Down, kmsserver.Broken, kmsserver.Throttle} {
		s := newService(t)
		k, arn := client(t, here, s.url), s.key(t, kmsserver.KeySpec{Region: here})
		if err := k.Check(t.Context(), arn); err != nil { // the connection that is closed is an old one
			t.Fatal(err)
		}
		s.set(t, kmsserver.Fault{Region: here, Mode: mode, Times: 1})
		if err := k.Check(t.Context(), arn); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if n := s.total(here); n != 3 {
			t.Errorf("%s: %d requests, want 3", mode, n)
		}
	}
}

// Deadlines are kept, whatever the server does with the request, and a call is
// not tried again when there is no time left.
func TestDeadlines(t *testing.T) {
	for _, mode := range []kmsserver.Mode{kmsserver.Hang, kmsserver.Slow, kmsserver.Late} {
		s := newService(t)
		k, arn := client(t, here, s.url), s.key(t, kmsserver.KeySpec{Region: here})
		if err := k.Check(t.Context(), arn); err != nil {
			t.Fatal(err)
		}
		s.set(t, kmsserver.Fault{Region: here, Mode: mode})
		for name, call := range calls(k, arn) {
			before, start := s.Calls(here)[name], time.Now()
			err := within(t, 50*time.Millisecond, call)
			only(t, string(mode)+" "+name, err, context.DeadlineExceeded)
			if waited := time.Since(start); waited < 50*time.Millisecond || waited > time.Second {
				t.Errorf("%s %s: waited %v", mode, name, waited)
			}
			if n := s.Calls(here)[name] - before; n != 1 {
				t.Errorf("%s %s: %d attempts, want 1", mode, name, n)
			}
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		only(t, string(mode)+" canceled", k.Check(canceled, arn), context.Canceled)
	}
}

// The pause before another attempt ends with the context as well.
func TestNoRetryBeyondTheDeadline(t *testing.T) {
	s := newService(t)
	arn := s.key(t, kmsserver.KeySpec{Region: here})
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		s.ServeHTTP(w, r)
	}), nil)
	k := client(t, here, url)
	s.set(t, kmsserver.Fault{Region: here, Mode: kmsserver.Throttle})
	if err := k.Check(ctx, arn); err == nil {
		t.Error("answered")
	}
	if n := s.total(here); n > 1 {
		t.Errorf("%d attempts", n)
	}
}

// A call whose answer comes too late has been applied: what it made is lost, and harms nothing.
func TestLateAnswersWereApplied(t *testing.T) {
	s := newService(t)
	k, arn := client(t, here, s.url), s.key(t, kmsserver.KeySpec{Region: here})
	s.set(t, kmsserver.Fault{Region: here, Mode: kmsserver.Late, Delay: 100 * time.Millisecond, Times: 1})
	err := within(t, 20*time.Millisecond, func(ctx context.Context) error {
		_, _, err := k.GenerateDataKey(ctx, arn, nil)
		return err
	})
	only(t, "late", err, context.DeadlineExceeded)
	key, blob, err := k.GenerateDataKey(t.Context(), arn, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := k.Decrypt(t.Context(), arn, blob, nil)
	if err != nil || !opened.Equal(key) {
		t.Errorf("another key came out: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	for url, want := range map[string]string{
		server.URL:                            "connection refused",
		"http://no-such-host.invalid":         "name not resolved",
		serveTLS(t):                           "certificate refused",
		serve(t, http.NotFoundHandler(), nil): "",
	} {
		err := client(t, here, url).Check(t.Context(), kmsserver.ARN(here, "x"))
		only(t, url, err, crypto.ErrUnreachable)
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// serveTLS has a certificate that nobody trusts.
func serveTLS(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestNoCredentials(t *testing.T) {
	s := newService(t)
	k, err := kms.New(kms.Config{Region: here, Endpoint: s.url, Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("at http://169.254.169.254: s3cret")
		})})
	if err != nil {
		t.Fatal(err)
	}
	err = k.Check(t.Context(), s.key(t, kmsserver.KeySpec{Region: here}))
	only(t, "check", err, crypto.ErrUnreachable)
	if text := err.Error(); !strings.Contains(text, "no credentials") || strings.Contains(text, "s3cret") {
		t.Error(text)
	}
	if s.total(here) != 0 {
		t.Error("asked without credentials")
	}
}

// stub answers every request alike, and counts.
type stub struct {
	status int
	body   string
	asked  atomic.Int32
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	_, _ = io.Copy(io.Discard, r.Body) // so that the connection is kept
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
}

// Every code of the API reference has its meaning, for Decrypt some another;
// no text of the service is repeated.
func TestCodes(t *testing.T) {
	for _, test := range []struct {
		status        int
		code          string
		want, decrypt error // decrypt: the same if nil
		attempts      int32
	}{
		{400, "ThrottlingException", crypto.ErrThrottled, nil, 2},
		{400, "LimitExceededException", crypto.ErrThrottled, nil, 2},
		{429, "Whatever", crypto.ErrThrottled, nil, 2},
		{503, "SlowDown", crypto.ErrThrottled, nil, 2},
		{400, "AccessDeniedException", crypto.ErrDenied, nil, 1},
		{400, "com.amazonaws.kms#AccessDeniedException", crypto.ErrDenied, nil, 1},
		{403, "UnrecognizedClientException", crypto.ErrDenied, nil, 1},
		{400, "DisabledException", crypto.ErrDisabled, nil, 1},
		{400, "KMSInvalidStateException", crypto.ErrDisabled, nil, 1},
		{400, "NotFoundException", crypto.ErrDisabled, nil, 1},
		{400, "InvalidArnException", crypto.ErrDisabled, nil, 1},
		{400, "InvalidKeyUsageException", crypto.ErrDisabled, crypto.ErrInvalidCiphertext, 1},
		{400, "ValidationException", crypto.ErrDisabled, crypto.ErrInvalidCiphertext, 1},
		{400, "InvalidCiphertextException", crypto.ErrInvalidCiphertext, nil, 1},
		{400, "IncorrectKeyException", crypto.ErrInvalidCiphertext, nil, 1},
		{500, "KMSInternalException", crypto.ErrUnreachable, nil, 2},
		{503, "DependencyTimeoutException", crypto.ErrUnreachable, nil, 2},
		{500, "KeyUnavailableException", crypto.ErrUnreachable, nil, 2},
		{400, "ExpiredTokenException", crypto.ErrUnreachable, nil, 1},
		{400, "InvalidSignatureException", crypto.ErrUnreachable, nil, 1},
		{400, "SomethingNew", crypto.ErrUnreachable, nil, 1},
		{502, "", crypto.ErrUnreachable, nil, 2},
		{400, "x y\n" + strings.Repeat("z", 100), crypto.ErrUnreachable, nil, 1},
	} {
		s := &stub{status: test.status, body: fmt.Sprintf(`{"__type":%q,"message":"s3cret"}`, test.code)}
		for name, call := range calls(client(t, here, serve(t, s, nil)), kmsserver.ARN(here, "x")) {
			want := test.want
			if name == "Decrypt" && test.decrypt != nil {
				want = test.decrypt
			}
			s.asked.Store(0)
			err := call(t.Context())
			only(t, test.code+" "+name, err, want)
			if n := s.asked.Load(); n != test.attempts {
				t.Errorf("%s %s: %d attempts, want %d", test.code, name, n, test.attempts)
			}
			if text := err.Error(); strings.Contains(text, "s3cret") || strings.ContainsAny(text, "\n#") || len(text) > 200 {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

// An answer that is not what was asked for is none, and gives no key.
func TestAnswersThatDoNotFit(t *testing.T) {
	arn := kmsserver.ARN(here, "x")
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	answer := func(keyID string, plaintext int, blob string) string {
		return fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q,"CiphertextBlob":%q}`, keyID, b64(plaintext), blob)
	}
	for name, test := range map[string]struct {
		body string
		want map[string]error // nil: no error
	}{
		"fits":        {answer(arn, 32, b64(9)), map[string]error{"GenerateDataKey": nil, "Encrypt": nil, "Decrypt": nil}},
		"another key": {answer(kmsserver.ARN(here, "y"), 32, b64(9)), refusals(true, true, true)},
		"a replica":   {answer(kmsserver.ARN(there, "x"), 32, b64(9)), refusals(true, true, true)},
		"no key id":   {answer("", 32, b64(9)), refusals(true, true, true)},
		"a short key": {answer(arn, 16, b64(9)), refusals(true, false, true)},
		"a long key":  {answer(arn, 33, b64(9)), refusals(true, false, true)},
		"no blob":     {answer(arn, 32, ""), refusals(true, true, false)},
		"empty":       {`{}`, refusals(true, true, true)},
	} {
		s := &stub{status: http.StatusOK, body: test.body}
		for operation, call := range calls(client(t, here, serve(t, s, nil)), arn) {
			if operation == "DescribeKey" {
				continue
			}
			if err := call(t.Context()); !errors.Is(err, test.want[operation]) {
				t.Errorf("%s, %s: got %v, want %v", name, operation, err, test.want[operation])
			}
		}
	}
	for _, text := range []string{`{`, `[]`, `<html>`, ""} {
		s := &stub{status: http.StatusOK, body: text}
		for operation, call := range calls(client(t, here, serve(t, s, nil)), arn) {
			if err := call(t.Context()); err == nil {
				t.Errorf("%q, %s: accepted", text, operation)
			}
		}
	}
}

// refusals are the errors of answers that do not fit, for the calls that are refused.
func refusals(generate, encrypt, decrypt bool) map[string]error {
	want := make(map[string]error)
	if generate {
		want["GenerateDataKey"] = crypto.ErrUnreachable
	}
	if encrypt {
		want["Encrypt"] = crypto.ErrUnreachable
	}
	if decrypt {
		want["Decrypt"] = crypto.ErrInvalidCiphertext
	}
	return want
}

// Check says what the key's state and kind mean.
func TestCheck(t *testing.T) {
	arn := kmsserver.ARN(here, "x")
	describe := func(arn, usage, spec, state string) string {
		return fmt.Sprintf(`{"KeyMetadata":{"Arn":%q,"KeyId":"x","KeyUsage":%q,"KeySpec":%q,"KeyState":%q}}`, arn, usage, spec, state)
	}
	for body, want := range map[string]error{
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Enabled"):                             nil,
		describe(arn, "", "", "Enabled"):                                                             nil,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Updating"):                            nil,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Disabled"):                            crypto.ErrDisabled,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "PendingDeletion"):                     crypto.ErrDisabled,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "PendingReplicaDeletion"):              crypto.ErrDisabled,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "PendingImport"):                       crypto.ErrDisabled,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Creating"):                            crypto.ErrDisabled,
		describe(arn, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Unavailable"):                         crypto.ErrUnreachable,
		describe(arn, "ENCRYPT_DECRYPT", "RSA_2048", "Enabled"):                                      crypto.ErrDisabled,
		describe(arn, "SIGN_VERIFY", "ECC_NIST_EDWARDS25519", "Enabled"):                             crypto.ErrDisabled,
		describe(kmsserver.ARN(there, "x"), "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Enabled"):       crypto.ErrUnreachable,
		describe("arn:aws:kms:eu-west-1:1:key/x", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "Enabled"): crypto.ErrUnreachable,
		`{}`: crypto.ErrUnreachable,
	} {
		s := &stub{status: http.StatusOK, body: body}
		if err := client(t, here, serve(t, s, nil)).Check(t.Context(), arn); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", body, err, want)
		}
	}
}

// What KMS would not parse is refused without asking; so is no key at all.
func TestNothingToAsk(t *testing.T) {
	s := newService(t)
	k, arn := client(t, here, s.url), s.key(t, kmsserver.KeySpec{Region: here})
	for _, n := range []int{0, 6145} {
		_, err := k.Decrypt(t.Context(), arn, make([]byte, n), nil)
		only(t, fmt.Sprint(n), err, crypto.ErrInvalidCiphertext)
	}
	if _, err := k.Encrypt(t.Context(), arn, secret.Key{}, nil); err == nil {
		t.Error("encrypted nothing")
	}
	if s.total(here) != 0 {
		t.Error("asked")
	}
}

// A body may hold a data key: it goes nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := &stub{status: http.StatusOK, body: `{}`}
	url := serve(t, elsewhere, nil)
	for _, status := range []int{301, 307, 308} {
		k := client(t, here, serve(t, http.RedirectHandler(url, status), nil))
		for name, call := range calls(k, kmsserver.ARN(here, "x")) {
			only(t, fmt.Sprint(status, name), call(t.Context()), crypto.ErrUnreachable)
		}
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}
