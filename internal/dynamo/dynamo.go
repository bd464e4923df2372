// Package dynamo is the DynamoDB client of the adapters: one per region, with
// a pool of connections that is kept, deadlines that hold, retries that know
// whether a write may have been applied, and errors told apart. Items are
// hand-built attribute maps; nothing reflects.
//
// No error carries a text of the service's: it may repeat what was sent.
package dynamo

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"piivault/internal/awshttp"
)

const (
	defaultMaxConns = 256
	defaultAttempt  = time.Second
)

// Config is one region's client.
type Config struct {
	// Region is the AWS region that signs and, without Endpoint, serves.
	Region string
	// Endpoint is the URL of a compatible server or a VPC endpoint; "": AWS's own for the region.
	Endpoint string
	// Credentials sign the requests.
	Credentials aws.CredentialsProvider
	// MaxConns bounds the connections, all of which are kept while idle; a call
	// beyond waits for one within its context. Default 256, some 50,000 calls a second.
	MaxConns int
	// Attempt bounds one attempt of a call, so that a server that hangs leaves
	// time for another. Default 1 s.
	Attempt time.Duration
	// Transport replaces the pool of connections: tests inject faults here.
	Transport http.RoundTripper
	// Data replaces the service as far as rows go: the simulation's tables.
	// Nothing else of the service is called then, and only Region, Attempt and Clock count.
	Data Data
	// Clock is, with Data, the service's clock, of which no answer tells then.
	Clock func() time.Time
}

// Data is the part of the service's API that reads and writes rows. Besides
// the SDK's client, internal/sim/simulation implements it.
type Data interface {
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

func (c *Config) complete() error {
	if c.Region == "" || c.Credentials == nil || c.MaxConns < 0 || c.Attempt < 0 {
		return errors.New("dynamo: a region, credentials, and no negative bounds are needed")
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
			return errors.New("dynamo: the endpoint is not the URL of a server")
		}
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.Attempt == 0 {
		c.Attempt = defaultAttempt
	}
	if c.Transport == nil {
		c.Transport = awshttp.NewTransport(c.MaxConns)
	}
	return nil
}

// Client calls DynamoDB in one region. It is safe for concurrent use.
type Client struct {
	db      *dynamodb.Client // tables as such
	data    Data             // rows: db, unless Config says otherwise
	http    *http.Client
	region  string
	attempt time.Duration
	jitter  func(time.Duration) time.Duration
	told    atomic.Pointer[told] // the service's clock, as of its last answer
	clock   func() time.Time     // the service's, simulated
}

// New returns a region's client. It does not call anything.
func New(c Config) (*Client, error) {
	if c.Data != nil {
		return newSimulated(c), nil
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	client := &Client{
		http:   awshttp.NewClient(c.Transport),
		region: c.Region, attempt: c.Attempt, jitter: jitter,
	}
	options := dynamodb.Options{
		Region: c.Region, Credentials: awshttp.Credentials{CredentialsProvider: c.Credentials}, HTTPClient: clocked{awshttp.InMemory{Client: client.http}, &client.told},
		Retryer: aws.NopRetryer{}, // call retries, which must know what an earlier attempt may have done
		// TLS protects answers; the checksum would cost every answer a pass.
		DisableValidateResponseChecksum: true,
	}
	if c.Endpoint != "" {
		options.BaseEndpoint = aws.String(c.Endpoint)
	}
	client.db = dynamodb.New(options)
	client.data = client.db
	return client, nil
}

// newSimulated draws no jitter: a simulation repeats itself.
func newSimulated(c Config) *Client {
	if c.Attempt == 0 {
		c.Attempt = defaultAttempt
	}
	return &Client{
		data: c.Data, http: &http.Client{}, region: c.Region, attempt: c.Attempt,
		jitter: func(d time.Duration) time.Duration { return d },
		clock:  c.Clock,
	}
}

// Region is the client's.
func (c *Client) Region() string { return c.region }

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// jitter draws a pause of up to d.
func jitter(d time.Duration) time.Duration {
	return rand.N(d) //nolint:gosec // spreads retries; nothing secret
}
