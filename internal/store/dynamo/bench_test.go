package dynamo_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
)

// canned answers every call at once: what is measured is the adapter and the
// SDK, to be compared with internal/dynamo's benchmarks of bare calls.
type canned struct{ get string }

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	body := "{}"
	if strings.HasSuffix(req.Header.Get("X-Amz-Target"), "BatchGetItem") {
		body = c.get
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func benchStore(b *testing.B, get string) *storedynamo.Store {
	b.Helper()
	cfg := server.Account().Config("eu-west-1")
	cfg.Transport = canned{get}
	return storedynamo.New(storedynamo.Config{Client: dynamolocal.NewClient(b, cfg), Table: table, Now: time.Now})
}

func BenchmarkInsert(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := benchStore(b, "")
			news := make([]store.New, n)
			for i := range news {
				news[i] = store.New{Record: aRecord(fmt.Sprint(recordID[:40], i), 0), Fresh: true}
				news[i].Record.Message = make([]byte, 700)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Insert(b.Context(), news); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var items []string
			refs := make([]store.Ref, n)
			for i := range refs {
				r := aRecord(fmt.Sprint(recordID[:40], i), 0)
				r.Message = make([]byte, 700)
				refs[i] = store.Ref{Tenant: r.Tenant, ID: r.ID}
				items = append(items, dynamolocal.FormatItem(b, new(storedynamo.Store).EncodeRecord(r)))
			}
			s := benchStore(b, `{"Responses":{"records":[`+strings.Join(items, ",")+`]},"UnprocessedKeys":{}}`)
			b.ReportAllocs()
			for b.Loop() {
				states, err := s.Read(b.Context(), refs)
				if err != nil || states[n-1].Record == nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBatchGet is the call that BenchmarkRead makes, and nothing else.
func BenchmarkBatchGet(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var items []string
			var keys []dynamo.Key
			for i := range n {
				r := aRecord(fmt.Sprint(recordID[:40], i), 0)
				r.Message = make([]byte, 700)
				keys = append(keys, storedynamo.RowKey(r.Key, 'R'), storedynamo.RowKey(r.Key, 'X'))
				items = append(items, dynamolocal.FormatItem(b, new(storedynamo.Store).EncodeRecord(r)))
			}
			cfg := server.Account().Config("eu-west-1")
			cfg.Transport = canned{`{"Responses":{"records":[` + strings.Join(items, ",") + `]},"UnprocessedKeys":{}}`}
			c := dynamolocal.NewClient(b, cfg)
			b.ReportAllocs()
			for b.Loop() {
				if err := c.BatchGet(b.Context(), table, keys, "", func(dynamo.Item) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
