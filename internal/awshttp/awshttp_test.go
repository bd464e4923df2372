package awshttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"piivault/internal/awshttp"
)

// once is a body that net/http cannot see through, and that is gone when closed.
type once struct{ io.Reader }

func (once) Close() error { return nil }

// observed sees what net/http is given.
type observed struct {
	http.RoundTripper
	see func(*http.Request)
}

func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	o.see(r)
	return o.RoundTripper.RoundTrip(r)
}

func read(t *testing.T, body func() (io.ReadCloser, error)) string {
	t.Helper()
	r, err := body()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// send sends a body that is announced to be of four bytes.
func send(t *testing.T, transport http.RoundTripper, url, body string) (*http.Request, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, once{strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 4
	answer, err := awshttp.InMemory{Client: awshttp.NewClient(transport)}.Do(r)
	if err == nil {
		_ = answer.Body.Close() // it is empty
	}
	return r, err
}

// A body arrives whole, and can be sent again while there is no answer. G4: the
// copy of it is wiped once it was answered, unless it may still be under way.
func TestBodyArrivesWholeAndIsWiped(t *testing.T) {
	status, got := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what is missing shows below
		got = string(b)
		w.WriteHeader(status)
	}))
	defer server.Close()
	plain := observed{server.Client().Transport, func(*http.Request) {}}
	sendsAgain := func(r *http.Request) {
		if again := read(t, r.GetBody); again != "body" {
			t.Errorf("sent again, it would be %q", again)
		}
	}
	for name, c := range map[string]struct {
		status    int
		transport observed
		left      string
	}{
		"answered":       {http.StatusOK, plain, "\x00\x00\x00\x00"},
		"refused":        {http.StatusBadRequest, plain, "body"},
		"on a second go": {http.StatusOK, observed{plain.RoundTripper, sendsAgain}, "body"},
	} {
		status, got = c.status, ""
		r, err := send(t, c.transport, server.URL, "body")
		if err != nil || got != "body" {
			t.Errorf("%s: %q arrived, %v", name, got, err)
		}
		if left := read(t, r.GetBody); left != c.left {
			t.Errorf("%s: %q is left of it", name, left)
		}
	}
	if _, err := send(t, plain, server.URL, "bo"); err == nil {
		t.Error("a body that ends early was sent")
	}
}

// A provider's own text, which may quote a file or a variable, is not passed on.
func TestMissingCredentialsAreNotExplained(t *testing.T) {
	provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{SecretAccessKey: "s3cret"}, errors.New("s3cret is not a key")
	})
	found, err := awshttp.Credentials{CredentialsProvider: provider}.Retrieve(t.Context())
	if !errors.Is(err, awshttp.ErrCredentials) || strings.Contains(err.Error(), "s3cret") || found.SecretAccessKey != "" {
		t.Errorf("%v, %v", found, err)
	}
}
