package dynamo_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/rs/zerolog"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
)

// memory is a region's audit tables in memory: logs reach them each through
// hooks of its own, tests without any. Time may be synctest's.
type memory struct {
	auditdynamo.Stored
	t      *testing.T
	region *simdynamo.Region
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	m := &memory{t: t, region: simdynamo.New(simdynamo.Config{Name: "eu-west-1", Tables: dynamo.NamesWith("").Tables(), Now: time.Now, Page: 7})}
	m.Stored = auditdynamo.Stored{Client: m.client(m.region), Table: tableName}
	return m
}

func (m *memory) client(data dynamo.Data) *dynamo.Client {
	m.t.Helper()
	c, err := dynamo.New(dynamo.Config{Region: "eu-west-1", Data: data})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// config is that of a log whose calls meet the hook first; what it says of any
// trouble goes to logger.
func (m *memory) config(instance string, h hook, logger *warnings) auditdynamo.Config {
	m.t.Helper()
	c := auditdynamo.Config{
		Client: m.client(hooked{m.region, h}), Table: tableName, Index: indexName, Instance: instance,
		Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(),
	}
	if logger != nil {
		c.Logger = zerolog.New(logger)
	}
	return c
}

// open begins a log, which the test closes, with hooks or without.
func (m *memory) open(instance string, h hook) *auditdynamo.Log {
	m.t.Helper()
	l, err := auditdynamo.Open(m.t.Context(), m.config(instance, h, nil))
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// ids are those of the tenant's entries that the index shows, sorted.
func (m *memory) ids(l *auditdynamo.Log) (ids []string) {
	m.t.Helper()
	for q := (audit.Query{Tenant: "t", Limit: 100}); ; {
		page, next, err := l.Query(m.t.Context(), q)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, f := range page {
			ids = append(ids, f.Entry.RequestID)
		}
		if q.Cursor = next; next == "" {
			slices.Sort(ids)
			return ids
		}
	}
}

func (m *memory) wantIDs(l *auditdynamo.Log, want ...string) {
	m.t.Helper()
	if got := m.ids(l); !slices.Equal(got, want) {
		m.t.Errorf("the index shows %q, want %q", got, want)
	}
}

func (m *memory) append(l *auditdynamo.Log, ids ...string) {
	m.t.Helper()
	for _, id := range ids {
		if err := appendOne(m.t.Context(), l, id); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *memory) wantVerified(logs int) []audit.Verified {
	m.t.Helper()
	all, err := audit.Verify(m.t.Context(), m)
	if err != nil || len(all) != logs {
		m.t.Errorf("verified %d logs, want %d: %v", len(all), logs, err)
	}
	return all
}

// call is one of a log's.
type call struct{ op, table string }

// hook may fail a call before it is made.
type hook func(call) error

// errFatal is a fault that no client tries again.
var errFatal = &types.ResourceNotFoundException{}

type hooked struct {
	*simdynamo.Region
	hook hook
}

func (h hooked) meet(op string, table *string) error {
	if h.hook == nil {
		return nil
	}
	return h.hook(call{op: op, table: aws.ToString(table)})
}

func (h hooked) PutItem(ctx context.Context, in *dynamodb.PutItemInput, o ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if err := h.meet("put", in.TableName); err != nil {
		return nil, err
	}
	return h.Region.PutItem(ctx, in, o...)
}

func (h hooked) GetItem(ctx context.Context, in *dynamodb.GetItemInput, o ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if err := h.meet("get", in.TableName); err != nil {
		return nil, err
	}
	return h.Region.GetItem(ctx, in, o...)
}

func (h hooked) Query(ctx context.Context, in *dynamodb.QueryInput, o ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if err := h.meet("query", in.TableName); err != nil {
		return nil, err
	}
	return h.Region.Query(ctx, in, o...)
}

func (h hooked) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, o ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	for table := range in.RequestItems {
		if err := h.meet("batch get", &table); err != nil {
			return nil, err
		}
	}
	return h.Region.BatchGetItem(ctx, in, o...)
}

func (h hooked) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, o ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	for table := range in.RequestItems {
		if err := h.meet("batch write", &table); err != nil {
			return nil, err
		}
	}
	return h.Region.BatchWriteItem(ctx, in, o...)
}

// counter counts calls, of one table or of all, and fails one of them, from 1.
type counter struct {
	mu    sync.Mutex // guards what follows
	n     int
	fail  int
	table string
	all   error // of every call from now on
}

func (c *counter) hook(of call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all != nil {
		return c.all
	}
	if c.table != "" && of.table != c.table {
		return errFatal
	}
	if c.n++; c.n == c.fail {
		return errFatal
	}
	return nil
}

func (c *counter) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// failAfter fails the call that comes as the n-th from now on.
func (c *counter) failAfter(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = c.n + n
}

func (c *counter) set(all error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = all
}

// warnings collects what a log says, from any goroutine.
type warnings struct {
	mu sync.Mutex // guards what follows
	b  bytes.Buffer
}

// Write implements io.Writer.
func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *warnings) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.b.String(), text)
}
