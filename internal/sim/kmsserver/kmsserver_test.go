package kmsserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"piivault/internal/sim/kmsserver"
)

const (
	here  = "eu-west-1"
	there = "us-east-1"
)

type running struct {
	*kmsserver.Server
	url string
	dir string
}

func newServer(t *testing.T) running {
	t.Helper()
	return startServer(t, t.TempDir())
}

func startServer(t *testing.T, dir string) running {
	t.Helper()
	s, err := kmsserver.Open(kmsserver.Config{Dir: dir, Regions: []string{here, there}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(s.Close)
	return running{s, server.URL, dir}
}

func client(url, region string) *kms.Client {
	return kms.New(kms.Options{
		Region: region, BaseEndpoint: &url, Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "example"}, nil
		}),
	})
}

func (r running) key(t *testing.T, spec kmsserver.KeySpec) string {
	t.Helper()
	arn, err := r.CreateKey(spec)
	check(t, err)
	return arn
}

func ec(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// code is an error's code, "ok" of none.
func code(err error) string {
	var answer smithy.APIError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &answer):
		return answer.ErrorCode()
	default:
		return "no answer"
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err error, wanted string) {
	t.Helper()
	if got := code(err); got != wanted {
		t.Errorf("%s: got %s, want %s", what, got, wanted)
	}
}

// Keys that are not enabled are not used, and say why (AWS KMS developer
// guide, "Key states").
func TestStates(t *testing.T) {
	s := newServer(t)
	api, arn := client(s.url, here), aws.String(s.key(t, kmsserver.KeySpec{Region: here}))
	blob, err := api.Encrypt(t.Context(), &kms.EncryptInput{KeyId: arn, Plaintext: []byte("x")})
	check(t, err)
	uses := func(what, code string) {
		t.Helper()
		_, err := api.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: arn, KeySpec: types.DataKeySpecAes256})
		want(t, what+": generate", err, code)
		_, err = api.Encrypt(t.Context(), &kms.EncryptInput{KeyId: arn, Plaintext: []byte("x")})
		want(t, what+": encrypt", err, code)
		_, err = api.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob.CiphertextBlob})
		want(t, what+": decrypt", err, code)
	}
	enable := func() error { _, err := api.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: arn}); return err }
	disable := func() error { _, err := api.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: arn}); return err }
	cancel := func() error {
		_, err := api.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: arn})
		return err
	}
	schedule := func(days int32) error {
		_, err := api.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: arn, PendingWindowInDays: &days})
		return err
	}
	uses("enabled", "ok")
	check(t, disable())
	check(t, disable())
	uses("disabled", "DisabledException")
	check(t, enable())
	uses("enabled again", "ok")
	want(t, "cancel nothing", cancel(), "KMSInvalidStateException")
	want(t, "six days", schedule(6), "ValidationException")
	want(t, "31 days", schedule(31), "ValidationException")
	check(t, schedule(7))
	uses("pending deletion", "KMSInvalidStateException")
	want(t, "schedule twice", schedule(7), "KMSInvalidStateException")
	want(t, "enable", enable(), "KMSInvalidStateException")
	want(t, "disable", disable(), "KMSInvalidStateException")
	check(t, cancel())
	uses("canceled", "DisabledException")
	check(t, enable())
	uses("saved", "ok")
}

// A ciphertext of another key that exists is not opened by the named one.
func TestIncorrectKey(t *testing.T) {
	s := newServer(t)
	api := client(s.url, here)
	a, b := s.key(t, kmsserver.KeySpec{Region: here}), s.key(t, kmsserver.KeySpec{Region: here})
	out, err := api.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &a, Plaintext: []byte("x")})
	check(t, err)
	_, err = api.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &b, CiphertextBlob: out.CiphertextBlob})
	want(t, "another key", err, "IncorrectKeyException")
}

func TestEd25519(t *testing.T) {
	s := newServer(t)
	api := client(s.url, here)
	made, err := api.CreateKey(t.Context(), &kms.CreateKeyInput{
		KeySpec: types.KeySpecEccNistEdwards25519, KeyUsage: types.KeyUsageTypeSignVerify, MultiRegion: aws.Bool(true),
	})
	check(t, err)
	id, message := made.KeyMetadata.KeyId, []byte("a checkpoint")
	_, err = api.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(there)})
	check(t, err)
	var last ed25519.PublicKey
	for _, at := range []*kms.Client{api, client(s.url, there), client(startServer(t, s.dir).url, there)} {
		public := publicKey(t, at, id)
		if last != nil && !public.Equal(last) {
			t.Error("a replica has another key")
		}
		last = public
		out, err := at.Sign(t.Context(), &kms.SignInput{
			KeyId: id, Message: message, MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512,
		})
		check(t, err)
		if !ed25519.Verify(public, message, out.Signature) || ed25519.Verify(public, []byte("another"), out.Signature) {
			t.Error("the signature is not one of this message")
		}
	}
	symmetric := aws.String(s.key(t, kmsserver.KeySpec{Region: here}))
	for code, in := range map[string]kms.SignInput{
		"ValidationException":      {KeyId: id, Message: message, MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512},
		"InvalidKeyUsageException": {KeyId: symmetric, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512},
	} {
		_, err := api.Sign(t.Context(), &in)
		want(t, code, err, code)
	}
	_, err = api.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: message})
	want(t, "encrypt", err, "InvalidKeyUsageException")
	_, err = api.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: symmetric})
	want(t, "public key", err, "InvalidKeyUsageException")
}

func publicKey(t *testing.T, api *kms.Client, id *string) ed25519.PublicKey {
	t.Helper()
	out, err := api.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: id})
	check(t, err)
	parsed, err := x509.ParsePKIXPublicKey(out.PublicKey)
	check(t, err)
	public, ok := parsed.(ed25519.PublicKey)
	if !ok || out.KeySpec != types.KeySpecEccNistEdwards25519 || out.KeyUsage != types.KeyUsageTypeSignVerify {
		t.Fatalf("a %T, %s for %s", parsed, out.KeySpec, out.KeyUsage)
	}
	return public
}

func TestCreateAndReplicateRefuse(t *testing.T) {
	s := newServer(t)
	api := client(s.url, here)
	for name, in := range map[string]kms.CreateKeyInput{
		"UnsupportedOperationException a spec":      {KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify},
		"UnsupportedOperationException an origin":   {Origin: types.OriginTypeExternal},
		"ValidationException usage of a spec":       {KeyUsage: types.KeyUsageTypeSignVerify},
		"ValidationException a signing key without": {KeySpec: types.KeySpecEccNistEdwards25519},
	} {
		_, err := api.CreateKey(t.Context(), &in)
		code, _, _ := strings.Cut(name, " ")
		want(t, name, err, code)
	}
	single, primary := s.key(t, kmsserver.KeySpec{Region: here}), s.key(t, kmsserver.KeySpec{Region: here, MultiRegion: true})
	replicate := func(at *kms.Client, arn, to string) error {
		_, err := at.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &arn, ReplicaRegion: &to})
		return err
	}
	want(t, "a key of one region", replicate(api, single, there), "UnsupportedOperationException")
	want(t, "to itself", replicate(api, primary, here), "ValidationException")
	want(t, "to nowhere", replicate(api, primary, "mars-1"), "ValidationException")
	want(t, "once", replicate(api, primary, there), "ok")
	want(t, "twice", replicate(api, primary, there), "AlreadyExistsException")
	replica := kmsserver.ARN(there, primary[strings.LastIndexByte(primary, '/')+1:])
	want(t, "a replica", replicate(client(s.url, there), replica, here), "UnsupportedOperationException")
	out, err := client(s.url, there).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &replica})
	check(t, err)
	family := out.KeyMetadata.MultiRegionConfiguration
	if family.MultiRegionKeyType != types.MultiRegionKeyTypeReplica || *family.PrimaryKey.Arn != primary || *family.ReplicaKeys[0].Arn != replica {
		t.Errorf("%+v", family)
	}
}

// Replicas open each other's ciphertexts, each under its own ARN.
func TestReplicas(t *testing.T) {
	s := newServer(t)
	primary := s.key(t, kmsserver.KeySpec{Region: here, MultiRegion: true})
	replica, err := s.Replicate(primary, there)
	check(t, err)
	sides := map[string]*kms.Client{primary: client(s.url, here), replica: client(s.url, there)}
	for maker, at := range sides {
		out, err := at.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &maker, Plaintext: []byte("shared"), EncryptionContext: ec("a", "b")})
		check(t, err)
		for opener, at := range sides {
			for _, keyID := range []*string{&opener, nil} {
				opened, err := at.Decrypt(t.Context(), &kms.DecryptInput{KeyId: keyID, CiphertextBlob: out.CiphertextBlob, EncryptionContext: ec("a", "b")})
				if err != nil || string(opened.Plaintext) != "shared" || *opened.KeyId != opener {
					t.Errorf("made by %s, opened by %s: %v", maker, opener, err)
				}
			}
			_, err := at.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &maker, CiphertextBlob: out.CiphertextBlob, EncryptionContext: ec("a", "b")})
			if (err == nil) != (maker == opener) {
				t.Errorf("the other region's ARN: %v", err)
			}
		}
	}
	check(t, s.SetEnabled(primary, false)) // the replica's state is its own
	_, err = sides[replica].Encrypt(t.Context(), &kms.EncryptInput{KeyId: &replica, Plaintext: []byte("x")})
	check(t, err)
}

// Keys, states and replicas outlive the server; its own files hold no seed in clear.
func TestReopen(t *testing.T) {
	s := newServer(t)
	first := s.key(t, kmsserver.KeySpec{Region: here, ID: "mrk-chosen"})
	_, err := s.Replicate(first, there)
	check(t, err)
	disabled, doomed := s.key(t, kmsserver.KeySpec{Region: here}), s.key(t, kmsserver.KeySpec{Region: here, Spec: kmsserver.Ed25519})
	check(t, s.SetEnabled(disabled, false))
	check(t, s.ScheduleDeletion(doomed, 24*time.Hour))
	out, err := client(s.url, here).Encrypt(t.Context(), &kms.EncryptInput{KeyId: &first, Plaintext: []byte("kept")})
	check(t, err)

	again := startServer(t, s.dir)
	states := make(map[string]string)
	for _, r := range again.Regions() {
		for _, k := range r.Keys {
			states[k.ARN] = k.State
		}
	}
	if len(states) != 4 || states[first] != "Enabled" || states[disabled] != "Disabled" || states[doomed] != "PendingDeletion" {
		t.Errorf("states %v", states)
	}
	opened, err := client(again.url, there).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
	check(t, err)
	if string(opened.Plaintext) != "kept" || *opened.KeyId != kmsserver.ARN(there, "mrk-chosen") {
		t.Errorf("%q by %s", opened.Plaintext, *opened.KeyId)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, regions := range map[string][]string{"none": nil, "empty": {""}, "twice": {here, here}, "a path": {"../x"}} {
		if _, err := kmsserver.Open(kmsserver.Config{Dir: t.TempDir(), Regions: regions}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	s := newServer(t)
	s.key(t, kmsserver.KeySpec{Region: here})
	state := filepath.Join(s.dir, here, "state.json")
	text, err := os.ReadFile(state)
	check(t, err)
	for name, bad := range map[string][]byte{"torn": text[:len(text)/2], "of other keys": bytes.ReplaceAll(text, []byte("key/"), []byte("key/x"))} {
		check(t, os.WriteFile(state, bad, 0o600))
		if _, err := kmsserver.Open(kmsserver.Config{Dir: s.dir, Regions: []string{here}}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// post sends a request by hand.
func post(t *testing.T, url string, headers map[string]string, body string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	check(t, err)
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	raw, err := io.ReadAll(response.Body)
	check(t, err)
	return response.StatusCode, string(raw)
}

// Errors have AWS's shape, whatever is sent.
func TestShapes(t *testing.T) {
	s := newServer(t)
	scope := func(s string) string {
		return "AWS4-HMAC-SHA256 Credential=AKID/" + s + ", SignedHeaders=host, Signature=00"
	}
	good := scope("20260101/" + here + "/kms/aws4_request")
	for _, test := range []struct {
		authorization, target, body string
		status                      int
		code                        string
	}{
		{"", "TrentService.DescribeKey", "{}", 400, "MissingAuthenticationTokenException"},
		{"Bearer x", "TrentService.DescribeKey", "{}", 400, "MissingAuthenticationTokenException"},
		{"AWS4-HMAC-SHA256 x", "TrentService.DescribeKey", "{}", 400, "IncompleteSignatureException"},
		{scope("20260101/" + here + "/s3/aws4_request"), "TrentService.DescribeKey", "{}", 400, "IncompleteSignatureException"},
		{scope("20260101/mars-1/kms/aws4_request"), "TrentService.DescribeKey", "{}", 400, "UnrecognizedClientException"},
		{good, "", "{}", 400, "UnknownOperationException"},
		{good, "TrentService.Nothing", "{}", 400, "UnknownOperationException"},
		{good, "DynamoDB.DescribeKey", "{}", 400, "UnknownOperationException"},
		{good, "TrentService.DescribeKey", "{", 400, "SerializationException"},
		{good, "TrentService.DescribeKey", `{"KeyId":1}`, 400, "SerializationException"},
		{good, "TrentService.DescribeKey", "{}", 400, "ValidationException"},
		{good, "TrentService.DescribeKey", `{"KeyId":"nobody"}`, 400, "NotFoundException"},
		{good, "TrentService.DescribeKey", `{"KeyId":"kmsserver-root"}`, 400, "NotFoundException"},
		{good, "TrentService.DescribeKey", strings.Repeat(" ", 300<<10), 413, "RequestEntityTooLargeException"},
	} {
		status, text := post(t, s.url, map[string]string{"Authorization": test.authorization, "X-Amz-Target": test.target}, test.body)
		if status != test.status || !strings.Contains(text, `"__type":"`+test.code+`"`) || !strings.Contains(text, `"message":"`) {
			t.Errorf("%s %s: %d %s, want %d %s", test.target, test.code, status, text, test.status, test.code)
		}
	}
}

func TestRoutes(t *testing.T) {
	s := newServer(t)
	arn := s.key(t, kmsserver.KeySpec{Region: there})
	for path, want := range map[string]string{"/_health": "", "/_keys": `{"name":"` + there + `","keys":[{"arn":"` + arn + `"`} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		check(t, err)
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		check(t, err)
		text, err := io.ReadAll(response.Body)
		check(t, errors.Join(err, response.Body.Close()))
		if response.StatusCode > 204 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d %s", path, response.StatusCode, text)
		}
	}
}

// Faults can be ordered over HTTP too, for a number of requests or for good,
// in one region and no other.
func TestFaultsToOrder(t *testing.T) {
	s := newServer(t)
	arn, elsewhere := s.key(t, kmsserver.KeySpec{Region: here}), s.key(t, kmsserver.KeySpec{Region: there})
	order := func(body string) int {
		t.Helper()
		status, _ := post(t, s.url+"/_faults", map[string]string{"Content-Type": "application/json"}, body)
		return status
	}
	describe := func(region, arn string) string {
		t.Helper()
		_, err := client(s.url, region).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
		return code(err)
	}
	for mode, want := range map[string]string{
		"down": "no answer", "throttle": "ThrottlingException", "deny": "AccessDeniedException", "broken": "KMSInternalException", "up": "ok",
		`slow","delay_ms":1,"x":"`: "", `late","delay_ms":"1`: "",
	} {
		status := order(`{"region":"` + here + `","mode":"` + mode + `"}`)
		if want == "" {
			if status != http.StatusBadRequest {
				t.Errorf("%s: %d", mode, status)
			}
			continue
		}
		if got := describe(here, arn); status != http.StatusNoContent || got != want {
			t.Errorf("%s: %d, then %s", mode, status, got)
		}
		if got := describe(there, elsewhere); got != "ok" {
			t.Errorf("%s in another region: %s", mode, got)
		}
	}
	for _, mode := range []string{"slow", "late"} {
		if status := order(`{"region":"` + here + `","mode":"` + mode + `","delay_ms":20}`); status != http.StatusNoContent {
			t.Error(status)
		}
		start := time.Now()
		if got := describe(here, arn); got != "ok" || time.Since(start) < 20*time.Millisecond {
			t.Errorf("%s: %s after %v", mode, got, time.Since(start))
		}
	}
	order(`{"region":"` + here + `","mode":"deny","times":2}`)
	for i, want := range []string{"AccessDeniedException", "AccessDeniedException", "ok"} {
		if got := describe(here, arn); got != want {
			t.Errorf("request %d: %s", i, got)
		}
	}
	for _, bad := range []string{`{"region":"mars-1","mode":"up"}`, `{"region":"` + here + `","mode":"odd"}`, `{"region":"` + here + `","mode":"slow","delay_ms":-1}`} {
		if status := order(bad); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if status, _ := post(t, s.url+"/_faults", nil, `{"region":"`+here+`","mode":"down"}`); status != http.StatusUnsupportedMediaType {
		t.Errorf("another media type: %d", status)
	}
	if n := s.Calls(there)["DescribeKey"]; n != 5 {
		t.Errorf("%d calls counted", n)
	}
	if s.Calls("mars-1") != nil {
		t.Error("counted for a region that is not there")
	}
}

// Slow applies after the wait, late before it: a caller who left is told apart.
func TestSlowAndLate(t *testing.T) {
	for mode, want := range map[kmsserver.Mode]int{kmsserver.Slow: 0, kmsserver.Late: 1, kmsserver.Hang: 0} {
		s := newServer(t)
		check(t, s.SetFault(kmsserver.Fault{Region: here, Mode: mode, Delay: time.Hour}))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := client(s.url, here).CreateKey(ctx, &kms.CreateKeyInput{})
		cancel()
		if err == nil {
			t.Fatalf("%s: answered", mode)
		}
		if n := len(s.Regions()[0].Keys); n != want {
			t.Errorf("%s: %d keys, want %d", mode, n, want)
		}
	}
}

// Close lets go of the requests that are held back.
func TestCloseEndsHeldRequests(t *testing.T) {
	for _, mode := range []kmsserver.Mode{kmsserver.Slow, kmsserver.Late, kmsserver.Hang} {
		s := newServer(t)
		arn := s.key(t, kmsserver.KeySpec{Region: here})
		check(t, s.SetFault(kmsserver.Fault{Region: here, Mode: mode, Delay: time.Hour}))
		done := make(chan error, 1)
		go func() {
			_, err := client(s.url, here).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
			done <- err
		}()
		for s.Calls(here)["DescribeKey"] == 0 {
			runtime.Gosched()
		}
		s.Close()
		if err := <-done; err == nil {
			t.Errorf("%s: answered", mode)
		}
	}
}
