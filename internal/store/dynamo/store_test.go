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

// open makes an empty table of its own; change may alter client and store.
func open(t testing.TB, change func(*dynamo.Config, *storedynamo.Config)) *storedynamo.Store {
	t.Helper()
	client := server.Account().Config("eu-west-1")
	config := storedynamo.Config{Table: table, Now: time.Now}
	if change != nil {
		change(&client, &config)
	}
	config.Client = dynamolocal.NewClient(t, client)
	if err := dynamo.CreateTables(t.Context(), config.Client, dynamo.Names{Records: table}); err != nil {
		t.Fatal(err)
	}
	return storedynamo.New(config)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, nil) })
}
