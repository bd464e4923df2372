package dynamo_test

import (
	"context"
	"crypto/rand"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/audit/audittest"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

var server *dynamolocal.Server

func TestMain(m *testing.M) { os.Exit(dynamolocal.Main(m, &server)) }

const (
	tableName = "audit"
	indexName = "audit-index"
)

// table is a region's audit tables; logs reach them through faults, tests do not.
type table struct {
	auditdynamo.Stored
	account dynamolocal.Account
	faults  *dynamolocal.Faults
	open    []*auditdynamo.Log

	attempt, patience time.Duration // of logs that are opened
}

func newTable(t *testing.T) *table {
	t.Helper()
	tab := &table{account: server.Account(), faults: dynamolocal.NewFaults(), attempt: 2 * time.Second, patience: 4 * time.Second}
	tab.Stored = auditdynamo.Stored{Client: tab.account.Client(t, "eu-west-1"), Table: tableName}
	if err := dynamo.CreateTables(t.Context(), tab.Client, dynamo.Names{Audit: tableName, AuditIndex: indexName}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tab.faults.On(nil)
		for _, l := range tab.open {
			l.Close()
		}
	})
	return tab
}

func (tab *table) config(t *testing.T, instance string) auditdynamo.Config {
	t.Helper()
	cfg := tab.account.Config("eu-west-1")
	cfg.Transport, cfg.Attempt = tab.faults, tab.attempt
	return auditdynamo.Config{
		Client: dynamolocal.NewClient(t, cfg), Table: tableName, Index: indexName, Instance: instance,
		Random: rand.Reader, Now: time.Now, Logger: zerolog.Nop(), Patience: tab.patience,
	}
}

func (tab *table) openLog(t *testing.T, instance string) *auditdynamo.Log {
	t.Helper()
	tab.faults.On(nil)
	l, err := auditdynamo.Open(t.Context(), tab.config(t, instance))
	if err != nil {
		t.Fatal(err)
	}
	tab.open = append(tab.open, l)
	return l
}

func (tab *table) Open(t *testing.T, instance string) audittest.Instance {
	t.Helper()
	return tab.openLog(t, instance)
}

func (tab *table) Close(_ *testing.T, i audittest.Instance) {
	if l, ok := i.(*auditdynamo.Log); ok {
		l.Close()
	}
}

// Fail lasts until a log is opened: one fault is retried unseen.
func (tab *table) Fail(applied bool) {
	fault := dynamolocal.Refused
	if applied {
		fault = dynamolocal.Lost
	}
	tab.faults.On(func(op string) dynamolocal.Fault {
		if op == "PutItem" {
			return fault
		}
		return dynamolocal.None
	})
}

func (tab *table) Rewrite(t *testing.T, log audit.LogName, number uint64, change func([]byte) []byte) {
	t.Helper()
	key := auditdynamo.BlockKey(log, number)
	item, err := tab.Client.Get(t.Context(), tableName, key)
	if err != nil {
		t.Fatal(err)
	}
	var next []byte
	if item != nil {
		next = change(slices.Clone(dynamo.Read(item).Bytes("block")))
	}
	tab.write(t, key, next)
}

func (tab *table) write(t *testing.T, key dynamo.Key, block []byte) {
	t.Helper()
	write(t, tab.Stored, key, block)
}

// write puts a block in a place, or removes what is there.
func write(t *testing.T, s auditdynamo.Stored, key dynamo.Key, block []byte) {
	t.Helper()
	w := dynamo.Write{Delete: key}
	if block != nil {
		w.Put = key.Item()
		w.Put["block"] = dynamo.Bytes(block)
	}
	if err := s.Client.BatchWrite(context.Background(), tableName, []dynamo.Write{w}); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	audittest.Run(t, func(t *testing.T) audittest.Table {
		t.Helper()
		return newTable(t)
	})
}
