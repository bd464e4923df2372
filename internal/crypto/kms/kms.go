// Package kms is crypto.KMS over AWS KMS, one client per region, or over a
// server that speaks its protocol.
//
// A call ends soon after its context does, is retried once at most and within
// it, and fails as exactly one of crypto's sentinels. Every key is named by
// its ARN in every request, and the ARN in the answer must be the same: a
// multi-Region key is used by the ARN of the region's own replica. Errors carry
// the service's code and never its text.
//
// The bytes of data keys that the SDK hands over are wiped once they are
// copied; those in its buffers and in net/http's are not within reach.
package kms

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"piivault/internal/awshttp"
	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// maxCiphertext is the longest CiphertextBlob that KMS takes (API reference,
// Decrypt). A stored record decides what is sent, so what KMS would not even
// parse is refused here.
const maxCiphertext = 6144

// KMS implements crypto.KMS for one region.
type KMS struct {
	api       *kms.Client
	closeIdle func()
}

// New checks c and returns a client; it connects to nothing yet.
func New(c Config) (*KMS, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	if c.Transport == nil {
		c.Transport = awshttp.NewTransport(c.conns())
	}
	return over(c, awshttp.NewClient(c.Transport)), nil
}

func over(c Config, client *http.Client) *KMS {
	options := kms.Options{
		Region:           c.Region,
		Credentials:      awshttp.Credentials{CredentialsProvider: c.Credentials},
		HTTPClient:       awshttp.InMemory{Client: client},
		Retryer:          onceMore{},
		EndpointOptions:  kms.EndpointResolverOptions{UseFIPSEndpoint: fips(c.FIPS)},
		RetryMaxAttempts: maxAttempts,
	}
	if c.Endpoint != "" {
		options.BaseEndpoint = aws.String(c.Endpoint)
	}
	return &KMS{api: kms.New(options), closeIdle: client.CloseIdleConnections}
}

// DefaultCredentials finds credentials as AWS's tools do (environment, shared
// files, web identity, container and instance roles) and refreshes them as
// they expire. Clients of all regions can share what it returns.
func DefaultCredentials(ctx context.Context) (aws.CredentialsProvider, error) {
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, errors.New("kms: the environment's AWS settings cannot be read")
	}
	return c.Credentials, nil
}

// Close closes the connections that no call uses.
func (k *KMS) Close() { k.closeIdle() }

// GenerateDataKey implements crypto.KMS.
func (k *KMS) GenerateDataKey(ctx context.Context, keyARN string, encryptionContext map[string]string) (secret.Key, []byte, error) {
	const op = "generate a data key"
	awshttp.Deepen()
	out, err := k.api.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &keyARN, KeySpec: types.DataKeySpecAes256, EncryptionContext: encryptionContext,
	})
	if err != nil {
		return secret.Key{}, nil, failed(ctx, op, err)
	}
	defer clear(out.Plaintext)
	if aws.ToString(out.KeyId) != keyARN || len(out.CiphertextBlob) == 0 {
		return secret.Key{}, nil, unusable(op)
	}
	key, err := secret.NewKey(out.Plaintext)
	if err != nil {
		return secret.Key{}, nil, unusable(op)
	}
	return key, out.CiphertextBlob, nil
}

// Encrypt implements crypto.KMS.
func (k *KMS) Encrypt(ctx context.Context, keyARN string, key secret.Key, encryptionContext map[string]string) ([]byte, error) {
	const op = "encrypt"
	awshttp.Deepen()
	if key.IsZero() {
		return nil, errors.New("kms: no key to encrypt")
	}
	out, err := k.api.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &keyARN, Plaintext: key.Bytes(), EncryptionContext: encryptionContext,
	})
	if err != nil {
		return nil, failed(ctx, op, err)
	}
	if aws.ToString(out.KeyId) != keyARN || len(out.CiphertextBlob) == 0 {
		return nil, unusable(op)
	}
	return out.CiphertextBlob, nil
}

// Decrypt implements crypto.KMS.
func (k *KMS) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, encryptionContext map[string]string) (secret.Key, error) {
	const op = "decrypt"
	awshttp.Deepen()
	if len(ciphertext) == 0 || len(ciphertext) > maxCiphertext {
		return secret.Key{}, fmt.Errorf("kms: %s: no length of a ciphertext: %w", op, crypto.ErrInvalidCiphertext)
	}
	out, err := k.api.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &keyARN, CiphertextBlob: ciphertext, EncryptionContext: encryptionContext,
	})
	if err != nil {
		return secret.Key{}, failedDecrypt(ctx, op, err)
	}
	defer clear(out.Plaintext)
	if aws.ToString(out.KeyId) != keyARN {
		return secret.Key{}, fmt.Errorf("kms: %s: another key answered: %w", op, crypto.ErrInvalidCiphertext)
	}
	key, err := secret.NewKey(out.Plaintext)
	if err != nil {
		return secret.Key{}, fmt.Errorf("kms: %s: not a data key of 256 bits: %w", op, crypto.ErrInvalidCiphertext)
	}
	return key, nil
}

// Check implements crypto.KMS.
func (k *KMS) Check(ctx context.Context, keyARN string) error {
	const op = "describe the key"
	out, err := k.api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &keyARN})
	if err != nil {
		return failed(ctx, op, err)
	}
	key := out.KeyMetadata
	if key == nil || aws.ToString(key.Arn) != keyARN {
		return unusable(op)
	}
	// Servers that are not AWS leave either out.
	if (key.KeyUsage != "" && key.KeyUsage != types.KeyUsageTypeEncryptDecrypt) ||
		(key.KeySpec != "" && key.KeySpec != types.KeySpecSymmetricDefault) {
		return fmt.Errorf("kms: %s: not a symmetric encryption key: %w", op, crypto.ErrDisabled)
	}
	switch key.KeyState {
	case types.KeyStateEnabled, types.KeyStateUpdating:
		return nil
	case types.KeyStateUnavailable: // its custom key store is disconnected
		return fmt.Errorf("kms: %s: unavailable: %w", op, crypto.ErrUnreachable)
	default:
		return fmt.Errorf("kms: %s: not enabled: %w", op, crypto.ErrDisabled)
	}
}
