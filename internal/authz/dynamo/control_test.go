package dynamo_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	authzdynamo "piivault/internal/authz/dynamo"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

var server *dynamolocal.Server

func TestMain(m *testing.M) { os.Exit(dynamolocal.Main(m, &server)) }

const table = "control"

// patient is how long an attempt of a call may take: a busy machine is no fault.
const patient = 20 * time.Second

// open makes an empty table, and the transport through which it is reached.
func open(t *testing.T, attempt time.Duration) (*authzdynamo.Control, *dynamo.Client, *dynamolocal.Faults) {
	t.Helper()
	faults := dynamolocal.NewFaults()
	cfg := server.Account().Config("eu-west-1")
	cfg.Transport, cfg.Attempt = faults, attempt
	client := dynamolocal.NewClient(t, cfg)
	if err := dynamo.CreateTables(t.Context(), client, dynamo.Names{Control: table}); err != nil {
		t.Fatal(err)
	}
	return authzdynamo.New(client, table), client, faults
}

func TestConformance(t *testing.T) {
	authztest.Run(t, func(t *testing.T) authz.Control {
		t.Helper()
		c, _, _ := open(t, patient)
		return c
	})
}

func wantBody(t *testing.T, c authz.Control, want string) {
	t.Helper()
	got, err := c.Get(t.Context(), authz.KindKey, "k")
	if err != nil || string(got.Body) != want {
		t.Errorf("body %q, %v, want %q", got.Body, err, want)
	}
}

// Every write meets every fault once, and the caller learns what is so.
func TestAFaultThatPasses(t *testing.T) {
	first := authz.Item{Kind: authz.KindKey, ID: "k", Body: []byte("first")}
	second := authz.Item{Kind: authz.KindKey, ID: "k", Body: []byte("second")}
	for name, fault := range map[string]dynamolocal.Fault{
		"refused": dynamolocal.Refused, "lost": dynamolocal.Lost, "throttled": dynamolocal.Throttled,
		"broken": dynamolocal.Broken, "hanging": dynamolocal.Hanging,
	} {
		t.Run(name, func(t *testing.T) {
			c, _, faults := open(t, 500*time.Millisecond)
			faults.Once("PutItem", fault)
			if err := c.Insert(t.Context(), first); err != nil {
				t.Fatal("insert:", err)
			}
			wantBody(t, c, "first")
			faults.Once("PutItem", fault)
			if err := c.Insert(t.Context(), second); !errors.Is(err, authz.ErrExists) {
				t.Error("insert over another body:", err)
			}
			faults.Once("PutItem", fault)
			if err := c.Replace(t.Context(), first, second); err != nil {
				t.Error("replace:", err)
			}
			wantBody(t, c, "second")
			faults.Once("PutItem", fault)
			if err := c.Replace(t.Context(), first, first); !errors.Is(err, authz.ErrConflict) {
				t.Error("replace of what is not there:", err)
			}
			wantBody(t, c, "second")
			for _, op := range []string{"GetItem", "Query"} {
				faults.Once(op, fault)
				wantBody(t, c, "second")
				if items, err := c.List(t.Context(), authz.KindKey, "", 10); err != nil || len(items) != 1 {
					t.Errorf("list: %v %v", items, err)
				}
			}
		})
	}
}

// A fault that lasts ends with the caller's deadline, and says that the table
// is unavailable.
func TestAFaultThatLasts(t *testing.T) {
	c, _, faults := open(t, patient)
	item := authz.Item{Kind: authz.KindKey, ID: "k", Body: []byte("body")}
	for _, fault := range []dynamolocal.Fault{dynamolocal.Refused, dynamolocal.Throttled, dynamolocal.Broken, dynamolocal.Hanging, dynamolocal.Lost} {
		faults.On(func(string) dynamolocal.Fault { return fault })
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := c.Insert(ctx, item)
		_, getErr := c.Get(ctx, item.Kind, item.ID)
		cancel()
		if !errors.Is(err, authz.ErrUnavailable) || !errors.Is(getErr, authz.ErrUnavailable) || !errors.Is(getErr, context.DeadlineExceeded) {
			t.Errorf("fault %d: %v, %v", fault, err, getErr)
		}
		faults.On(nil)
	}
	wantBody(t, c, "body") // the last one was applied
}

// A row that cannot be read is an error, never an absent item: a revocation
// that is not seen would be none.
func TestACorruptRowIsNeverAbsent(t *testing.T) {
	c, client, _ := open(t, patient)
	for name, row := range map[string]dynamo.Item{
		"no body":         {"v": dynamo.Int(1)},
		"body of text":    {"v": dynamo.Int(1), "body": dynamo.String("x")},
		"no version":      {"body": dynamo.Bytes([]byte("x"))},
		"another version": {"v": dynamo.Int(2), "body": dynamo.Bytes([]byte("x"))},
		"version of text": {"v": dynamo.String("1"), "body": dynamo.Bytes([]byte("x"))},
	} {
		row["pk"], row["sk"] = dynamo.String("key"), dynamo.String(name)
		if _, _, err := client.PutNew(t.Context(), table, row); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), authz.KindKey, name); !errors.Is(err, dynamo.ErrCorrupt) || errors.Is(err, authz.ErrNotFound) {
			t.Errorf("get, %s: %v", name, err)
		}
		if _, err := c.List(t.Context(), authz.KindKey, "", 10); !errors.Is(err, dynamo.ErrCorrupt) {
			t.Errorf("list, %s: %v", name, err)
		}
	}
}

// Rows are these attributes (format.md §6).
func TestStoredItem(t *testing.T) {
	c, client, _ := open(t, patient)
	if err := c.Insert(t.Context(), authz.Item{Kind: authz.KindEraseConfirm, ID: "job#eu-west-1", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	row, err := client.Get(t.Context(), table, dynamo.Key{PK: "erased", SK: "job#eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	dynamolocal.WantItem(t, row, `{"body":{"B":"e30="},"pk":{"S":"erased"},"sk":{"S":"job#eu-west-1"},"v":{"N":"1"}}`)
}

func TestInvalidItemsAreRefused(t *testing.T) {
	c, _, faults := open(t, patient)
	faults.Calls()
	long := string(make([]byte, 1025))
	for name, err := range map[string]error{
		"no kind":     c.Insert(t.Context(), authz.Item{ID: "x"}),
		"no id":       c.Insert(t.Context(), authz.Item{Kind: authz.KindKey}),
		"long id":     c.Insert(t.Context(), authz.Item{Kind: authz.KindKey, ID: long}),
		"another key": c.Replace(t.Context(), authz.Item{Kind: authz.KindKey, ID: "a"}, authz.Item{Kind: authz.KindKey, ID: "b"}),
	} {
		if err == nil || errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.List(t.Context(), authz.KindKey, "", 0); err == nil {
		t.Error("a list without a limit was taken")
	}
	if calls := faults.Calls(); len(calls) > 0 {
		t.Errorf("calls %v", calls)
	}
}
