package awshttp

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// ErrCredentials stands for every failure to get credentials.
var ErrCredentials = errors.New("aws: no credentials")

// Credentials hides why credentials are missing, for a provider's own text is
// not ours to show: it may quote what it read. Every failure is ErrCredentials.
type Credentials struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, ErrCredentials
	}
	return found, nil
}
