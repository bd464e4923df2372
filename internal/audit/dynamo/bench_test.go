package dynamo_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/sim/dynamolocal"
)

// distant takes every write after the 4 ms that DynamoDB may need, and has
// nothing to read: what is measured is the adapter and the SDK.
type distant struct{ puts atomic.Int64 }

func (d *distant) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	if strings.HasSuffix(req.Header.Get("X-Amz-Target"), "PutItem") {
		d.puts.Add(1)
	}
	time.Sleep(4 * time.Millisecond)
	const body = `{"Items":[],"Count":0}`
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// BenchmarkAppend has 64 requests under way, of one entry each.
func BenchmarkAppend(b *testing.B) {
	transport := new(distant)
	cfg := server.Account().Config("eu-west-1")
	cfg.Transport = transport
	l, err := auditdynamo.Open(b.Context(), auditdynamo.Config{
		Client: dynamolocal.NewClient(b, cfg), Table: tableName, Index: indexName, Instance: "a",
		Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append([]audit.Entry{anEntry("0123456789")}).Wait(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(transport.puts.Load())/float64(b.N), "puts/op")
	l.Close()
}
