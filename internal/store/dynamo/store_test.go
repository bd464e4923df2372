package dynamo_test

import (
	"os"
	"testing"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
	"piivault/internal/store/storetest"
)

var server *dynamolocal.Server

func TestMain(m *testing.M) { os.Exit(dynamolocal.Main(m, &server)) }

const table = "records"

// region is an empty table with a clock that tests move.
type region struct {
	*storedynamo.Store
	client *dynamo.Client
	faults *dynamolocal.Faults
	clock  time.Time
}

func newRegion(tb testing.TB, ttl bool) *region {
	tb.Helper()
	return newRegionWith(tb, ttl, 20*time.Second) // a busy machine is no fault
}

// newRegionWith also bounds an attempt of a call.
func newRegionWith(tb testing.TB, ttl bool, attempt time.Duration) *region {
	tb.Helper()
	r := &region{faults: dynamolocal.NewFaults(), clock: time.UnixMilli(1_800_000_000_000)}
	cfg := server.Account().Config("eu-west-1")
	cfg.Transport, cfg.Attempt = r.faults, attempt
	r.client = dynamolocal.NewClient(tb, cfg)
	if err := dynamo.CreateTables(tb.Context(), r.client, dynamo.Names{Records: table}); err != nil {
		tb.Fatal(err)
	}
	r.Store = storedynamo.New(storedynamo.Config{Client: r.client, Table: table, TTL: ttl, Now: func() time.Time { return r.clock }})
	r.faults.Calls()
	return r
}

func (r *region) put(tb testing.TB, item dynamo.Item) {
	tb.Helper()
	if err := r.client.BatchWrite(tb.Context(), table, []dynamo.Write{{Put: item}}); err != nil {
		tb.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		return newRegion(t, false)
	})
}

const recordID = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE"

func aRecord(id string, g uint32) *store.Record {
	return &store.Record{
		Key:  store.Key{Tenant: "tenant-a", ID: id, Generation: g},
		Type: "email", Message: []byte("message " + id), Created: 1, Home: "eu-west-1", RingEpoch: 1,
	}
}
