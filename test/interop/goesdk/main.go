// Command goesdk opens messages with AWS's Encryption SDK for Go. It is a
// module of its own: a second opinion for the tests of test/interop, and
// nothing that the vault depends on.
//
// Standard input holds a question a line: {"region", "endpoint", "arn",
// "message"}; each is answered by a line: {"plaintext"} or {"error"}, which
// says no more than that there was one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	"github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

type question struct {
	Region   string `json:"region"`
	Endpoint string `json:"endpoint"`
	ARN      string `json:"arn"`
	Message  []byte `json:"message"`
}

type answer struct {
	Plaintext []byte `json:"plaintext,omitempty"`
	Error     bool   `json:"error,omitempty"`
}

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	sdk, err := awscryptographyencryptionsdksmithygenerated.NewClient(esdk.AwsEncryptionSdkConfig{})
	if err != nil {
		return err
	}
	providers, err := awscryptographymaterialproviderssmithygenerated.NewClient(mpl.MaterialProvidersConfig{})
	if err != nil {
		return err
	}
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q question
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		// For a key of one region this keyring is the strict one.
		keyring, err := providers.CreateAwsKmsMrkKeyring(ctx, mpl.CreateAwsKmsMrkKeyringInput{KmsClient: client(q), KmsKeyId: q.ARN})
		if err != nil {
			return err
		}
		var a answer
		opened, err := sdk.Decrypt(ctx, esdk.DecryptInput{Ciphertext: q.Message, Keyring: keyring})
		if a.Error = err != nil; err == nil {
			a.Plaintext = opened.Plaintext
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

func client(q question) *kms.Client {
	return kms.New(kms.Options{
		Region: q.Region, BaseEndpoint: aws.String(q.Endpoint),
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("interop", "secret", "")),
	})
}
