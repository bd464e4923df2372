package embedded_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"piivault/internal/authz"
	"piivault/internal/authz/authztest"
	"piivault/internal/authz/embedded"
	"piivault/internal/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func engine(t *testing.T) *wal.Engine {
	t.Helper()
	e, err := wal.Open(wal.Options{
		Dir: "/data", FS: vfs.NewMem(), Region: "eu-west-1", Logger: zerolog.Nop(),
		Tables: []wal.Table{embedded.Table()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func TestConformance(t *testing.T) {
	authztest.Run(t, func(t *testing.T) authz.Control {
		t.Helper()
		return embedded.New(engine(t))
	})
}

// Rows are these bytes: the key is the kind with its length, then the ID; the
// value is a version, then the body (format.md §6).
func TestStoredBytes(t *testing.T) {
	e := engine(t)
	c := embedded.New(e)
	for _, it := range []authz.Item{
		{Kind: authz.KindEraseConfirm, ID: "job#eu-west-1", Body: []byte("{}")},
		{Kind: authz.KindKey, ID: "k1", Body: nil},
	} {
		if err := c.Insert(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	got := ""
	err := e.Scan('C', nil, nil, func(key, value []byte) (bool, error) {
		got += fmt.Sprintf("%x %x\n", key, value)
		return true, nil
	})
	want := "036b65796b31 01\n066572617365646a6f622365752d776573742d31 017b7d\n"
	if got != want || err != nil {
		t.Errorf("rows are\n%s%v, want\n%s", got, err, want)
	}
}

// A body that cannot be read is an error, never an absent item: a revocation
// that is not seen would be none.
func TestACorruptRowIsNeverAbsent(t *testing.T) {
	e := engine(t)
	c := embedded.New(e)
	for _, value := range [][]byte{nil, {2}, {0, 1}} {
		err := e.Submit(func(tx *wal.Tx) error { tx.Put('C', []byte("\x03keyk1"), value); return nil }).Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, getErr := c.Get(t.Context(), authz.KindKey, "k1")
		_, listErr := c.List(t.Context(), authz.KindKey, "", 10)
		for call, err := range map[string]error{"get": getErr, "list": listErr} {
			if !errors.Is(err, wal.ErrCorrupt) || errors.Is(err, authz.ErrNotFound) {
				t.Errorf("%s of %x: %v", call, value, err)
			}
		}
	}
}

func TestInvalidItemsAreRefused(t *testing.T) {
	c := embedded.New(engine(t))
	long := authz.Kind(make([]byte, 256))
	for name, it := range map[string]authz.Item{"no kind": {ID: "x"}, "no id": {Kind: authz.KindKey}, "long kind": {Kind: long, ID: "x"}} {
		if err := c.Insert(t.Context(), it); err == nil || errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Replace(t.Context(), authz.Item{Kind: authz.KindKey, ID: "a"}, authz.Item{Kind: authz.KindKey, ID: "b"}); err == nil {
		t.Error("a replace under another id was taken")
	}
	if _, err := c.List(t.Context(), authz.KindKey, "", 0); err == nil {
		t.Error("a list without a limit was taken")
	}
}
