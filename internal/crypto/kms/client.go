package kms

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	defaultMaxConns = 128
	maxAttempts     = 2
	retryDelay      = 20 * time.Millisecond
)

// Config is one region's client.
type Config struct {
	// Region is the name of the AWS region that signs and, without Endpoint, serves.
	Region string
	// Endpoint is the URL of a KMS-compatible server or a VPC endpoint; "": AWS's own for the region.
	Endpoint string
	// FIPS asks for AWS's FIPS 140 endpoint; not together with Endpoint.
	FIPS bool
	// Credentials sign the requests, of all regions if so wished: DefaultCredentials.
	Credentials aws.CredentialsProvider
	// MaxConns bounds the connections, all of which are kept while idle; a call
	// beyond waits for one within its context. 0: 128, some 10,000 calls a second.
	MaxConns int
	// Transport replaces the pool of connections: benchmarks measure without a network.
	Transport http.RoundTripper
}

func (c Config) validate() error {
	if c.Region == "" || c.Credentials == nil || c.MaxConns < 0 {
		return errors.New("a region, credentials and a number of connections are needed")
	}
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return errors.New("the endpoint is not the URL of a server")
	}
	if c.FIPS {
		return errors.New("an endpoint of one's own cannot be AWS's FIPS endpoint")
	}
	return nil
}

func fips(on bool) aws.FIPSEndpointState {
	if on {
		return aws.FIPSEndpointStateEnabled
	}
	return aws.FIPSEndpointStateDisabled
}

// conns is the bound on connections.
func (c Config) conns() int {
	if c.MaxConns == 0 {
		return defaultMaxConns
	}
	return c.MaxConns
}

// onceMore retries a fault once, after a pause; routing around it is the
// ring's business. A pause that does not fit into the context ends with it.
type onceMore struct{ aws.NopRetryer }

// IsErrorRetryable reports a fault that another attempt may not meet.
// Credentials have retries of their own.
func (onceMore) IsErrorRetryable(err error) bool { return faultOf(err).transient }

// MaxAttempts counts the first.
func (onceMore) MaxAttempts() int { return maxAttempts }

// RetryDelay is short: the deadline is about a second.
func (onceMore) RetryDelay(int, error) (time.Duration, error) { return retryDelay, nil }
