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

func TestBodyArrivesWholeAndCanBeSentAgain(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
	}))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, once{strings.NewReader("body")})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 4
	answer, err := awshttp.InMemory{Client: server.Client()}.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	again, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(again); got != "body" || string(b) != "body" {
		t.Error("the body is not what was sent")
	}
	r.Body, r.ContentLength = once{strings.NewReader("bo")}, 4
	if answer, err := (awshttp.InMemory{Client: server.Client()}).Do(r); err == nil {
		_ = answer.Body.Close()
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
