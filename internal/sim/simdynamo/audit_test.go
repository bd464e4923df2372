package simdynamo_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/audit/audittest"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
)

// failing fails puts, applied or not.
type failing struct {
	dynamo.Data
	fails, applied atomic.Bool
}

var errNoAnswer = errors.New("no answer")

func (f *failing) PutItem(ctx context.Context, in *dynamodb.PutItemInput, o ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if !f.fails.Load() {
		return f.Data.PutItem(ctx, in, o...)
	}
	if f.applied.Load() {
		_, _ = f.Data.PutItem(ctx, in, o...) // nobody hears how that went
	}
	return nil, errNoAnswer
}

// table is a region's audit tables; logs reach them through faults, tests do not.
type table struct {
	auditdynamo.Stored
	region *simdynamo.Region
	faults *failing
	open   []*auditdynamo.Log
}

func newAuditTable(t *testing.T) audittest.Table {
	t.Helper()
	region := simdynamo.New(simdynamo.Config{Name: regionName, Tables: dynamo.NamesWith("").Tables(), Now: time.Now, Page: 7})
	tab := &table{region: region, faults: &failing{Data: region}}
	tab.Stored = auditdynamo.Stored{Client: clientOf(t, region), Table: "audit"}
	t.Cleanup(func() {
		tab.faults.fails.Store(false)
		for _, l := range tab.open {
			l.Close()
		}
	})
	return tab
}

func clientOf(t *testing.T, data dynamo.Data) *dynamo.Client {
	t.Helper()
	client, err := dynamo.New(dynamo.Config{Region: regionName, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (tab *table) Open(t *testing.T, instance string) audittest.Instance {
	t.Helper()
	tab.faults.fails.Store(false)
	l, err := auditdynamo.Open(t.Context(), auditdynamo.Config{
		Client: clientOf(t, tab.faults), Table: "audit", Index: "audit-index", Instance: instance,
		Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(), Patience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	tab.open = append(tab.open, l)
	return l
}

func (tab *table) Close(_ *testing.T, i audittest.Instance) {
	if l, ok := i.(*auditdynamo.Log); ok {
		l.Close()
	}
}

func (tab *table) Fail(applied bool) {
	tab.faults.applied.Store(applied)
	tab.faults.fails.Store(true)
}

func (tab *table) Rewrite(t *testing.T, log audit.LogName, number uint64, change func([]byte) []byte) {
	t.Helper()
	const perPartition = 1000 // docs/design/format.md §7
	key := dynamo.Key{PK: fmt.Sprintf("%v#%d", log, number/perPartition), SK: fmt.Sprintf("%020d", number)}
	item := tab.region.Row("audit", key).Item
	var next []byte
	if item != nil {
		next = change(slices.Clone(dynamo.Read(item).Bytes("block")))
	}
	if next == nil {
		tab.region.Put("audit", key, nil)
		return
	}
	changed := key.Item()
	changed["block"] = dynamo.Bytes(next)
	tab.region.Put("audit", key, changed)
}

func TestAuditConformance(t *testing.T) { audittest.Run(t, newAuditTable) }
