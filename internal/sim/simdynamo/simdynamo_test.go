package simdynamo_test

import (
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	authzdynamo "piivault/internal/authz/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
	"piivault/internal/store/storetest"
)

const regionName = "eu-west-1"

func newClient(t *testing.T) *dynamo.Client { t.Helper(); return newClientAt(t, time.Now) }

func newClientAt(t *testing.T, clock func() time.Time) *dynamo.Client {
	t.Helper()
	tables := dynamo.NamesWith("").Tables()
	region := simdynamo.New(simdynamo.Config{Name: regionName, Tables: tables, Now: time.Now, Page: 3})
	client, err := dynamo.New(dynamo.Config{Region: regionName, Data: region, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestStoreConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		return storedynamo.New(storedynamo.Config{Client: newClient(t), Table: "records", Now: time.Now})
	})
}

func TestControlConformance(t *testing.T) {
	authztest.Run(t, func(t *testing.T) authz.Control {
		t.Helper()
		return authzdynamo.New(newClient(t), "control")
	})
}

func TestCountersConformance(t *testing.T) {
	authztest.RunCounters(t, func(t *testing.T, clock *authztest.Clock) authz.Counters {
		t.Helper()
		return authzdynamo.NewCounters(newClientAt(t, clock.Now), "counters")
	})
}
