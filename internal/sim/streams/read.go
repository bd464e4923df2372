package streams

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	streamtypes "github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"piivault/internal/awshttp"
	"piivault/internal/dynamo"
)

const (
	maxConns = 32
	// attempt bounds one call.
	attempt = 10 * time.Second
	// tablePoll is between looks for a table that is not there yet.
	tablePoll = 200 * time.Millisecond
)

// region is one region's clients and streams.
type region struct {
	name    string
	http    *http.Client
	db      *dynamodb.Client
	streams []*stream // in the order of Config.Tables
}

func newRegion(c dynamo.Config, tables []string) (*region, error) {
	if c.Region == "" || c.Credentials == nil {
		return nil, errors.New("streams: a region has a name and credentials")
	}
	if c.Transport == nil {
		c.Transport = awshttp.NewTransport(maxConns)
	}
	client := awshttp.InMemory{Client: &http.Client{Transport: c.Transport, Timeout: attempt}}
	var endpoint *string
	if c.Endpoint != "" {
		endpoint = &c.Endpoint
	}
	one := &region{name: c.Region, http: client.Client}
	one.db = dynamodb.New(dynamodb.Options{
		Region: c.Region, BaseEndpoint: endpoint, Credentials: c.Credentials, HTTPClient: client, Retryer: aws.NopRetryer{},
	})
	api := dynamodbstreams.New(dynamodbstreams.Options{
		Region: c.Region, BaseEndpoint: endpoint, Credentials: c.Credentials, HTTPClient: client, Retryer: aws.NopRetryer{},
	})
	for _, table := range tables {
		one.streams = append(one.streams, &stream{db: one.db, api: api, table: table, shards: map[string]*shard{}})
	}
	return one, nil
}

// stream is what has been read of a table's stream. One goroutine reads it.
type stream struct {
	db    *dynamodb.Client
	api   *dynamodbstreams.Client
	table string
	arn   *string

	shards map[string]*shard
	// empty counts the polls that found nothing.
	empty atomic.Uint64
}

// shard is a part of a stream; its records are in order, and behind its parent's.
type shard struct {
	parent   string
	iterator *string
	last     *string // the last sequence number read
	done     bool
}

// open waits for the table and stands at the end of its stream.
func (s *stream) open(ctx context.Context, poll time.Duration) error {
	for s.arn == nil {
		out, err := s.db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &s.table})
		if err == nil {
			if out.Table.LatestStreamArn == nil {
				return errors.New("the table has no stream")
			}
			s.arn = out.Table.LatestStreamArn
			break
		}
		if missing := (*types.ResourceNotFoundException)(nil); !errors.As(err, &missing) && !passing(err) {
			return err
		}
		if err := pause(ctx, max(poll, tablePoll)); err != nil {
			return err
		}
	}
	// From the beginning, although whatever came before is found by reading the
	// table: DynamoDB Local forgets what LATEST was in a shard without records.
	if err := s.list(ctx); err != nil {
		return err
	}
	for {
		found, err := s.poll(ctx, func(streamtypes.Record) error { return nil })
		if !found || err != nil {
			return err
		}
	}
}

// list finds new shards and stands at their beginning.
func (s *stream) list(ctx context.Context) error {
	var after *string
	for {
		out, err := s.api.DescribeStream(ctx, &dynamodbstreams.DescribeStreamInput{StreamArn: s.arn, ExclusiveStartShardId: after})
		if err != nil {
			return err
		}
		for _, found := range out.StreamDescription.Shards {
			id := aws.ToString(found.ShardId)
			if s.shards[id] != nil {
				continue
			}
			one := &shard{parent: aws.ToString(found.ParentShardId)}
			if err := s.begin(ctx, id, one); err != nil {
				return err
			}
			s.shards[id] = one
		}
		if after = out.StreamDescription.LastEvaluatedShardId; after == nil {
			return nil
		}
	}
}

// begin stands behind the last record read, or before the first there is.
func (s *stream) begin(ctx context.Context, id string, one *shard) error {
	in := &dynamodbstreams.GetShardIteratorInput{StreamArn: s.arn, ShardId: &id, ShardIteratorType: streamtypes.ShardIteratorTypeTrimHorizon}
	if one.last != nil {
		in.ShardIteratorType, in.SequenceNumber = streamtypes.ShardIteratorTypeAfterSequenceNumber, one.last
	}
	out, err := s.api.GetShardIterator(ctx, in)
	if err == nil {
		one.iterator = out.ShardIterator
	}
	return err
}

// poll calls fn for every record that is new, in order. fn must not fail on
// what it could take later: nothing is read twice.
func (s *stream) poll(ctx context.Context, fn func(streamtypes.Record) error) (found bool, err error) {
	ended := false
	for id, one := range s.shards {
		if parent := s.shards[one.parent]; one.done || (parent != nil && !parent.done) {
			continue
		}
		out, err := s.api.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: one.iterator})
		if expired := (*streamtypes.ExpiredIteratorException)(nil); errors.As(err, &expired) {
			return true, s.begin(ctx, id, one)
		}
		if trimmed := (*streamtypes.TrimmedDataAccessException)(nil); errors.As(err, &trimmed) {
			one.last = nil // what is left is newer
			return true, s.begin(ctx, id, one)
		}
		if err != nil {
			return found, err
		}
		one.iterator, one.done = out.NextShardIterator, out.NextShardIterator == nil
		ended = ended || one.done
		for _, record := range out.Records {
			found, one.last = true, record.Dynamodb.SequenceNumber
			if err := fn(record); err != nil {
				return found, err
			}
		}
	}
	if ended {
		return true, s.list(ctx)
	}
	return found, nil
}

// follow tells saw of every write to a table of a region until ctx is done.
func (r *Replicator) follow(ctx context.Context, s *stream, of, table int) {
	for ctx.Err() == nil {
		found, err := s.poll(ctx, func(record streamtypes.Record) error { return r.record(record, of, table) })
		switch {
		case err != nil:
			if ctx.Err() == nil {
				r.cfg.Logger.Warn().Str("region", r.regions[of].name).Str("table", s.table).Err(err).Msg("a stream cannot be read")
			}
			_ = pause(ctx, retryPause)
		case !found:
			s.empty.Add(1)
			_ = pause(ctx, r.cfg.Poll)
		}
	}
}

func (r *Replicator) record(record streamtypes.Record, of, table int) error {
	was, err := fromStream(record.Dynamodb.OldImage)
	if err != nil {
		return err
	}
	is, err := fromStream(record.Dynamodb.NewImage)
	if err != nil {
		return err
	}
	keys, err := fromStream(record.Dynamodb.Keys)
	if err != nil {
		return err
	}
	key, err := keyOf(keys)
	if err != nil {
		return err
	}
	r.saw(itemKey{table, key}, of, normal(was), normal(is))
	return nil
}
