package embedded_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"piivault/internal/store"
	"piivault/internal/store/embedded"
	"piivault/internal/store/storetest"
	"piivault/internal/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(dir string, fs vfs.FS) wal.Options {
	return wal.Options{
		Dir: dir, FS: fs, Region: "eu-west-1", Outbox: true, Logger: zerolog.Nop(),
		Tables: []wal.Table{embedded.Table()},
	}
}

func engine(tb testing.TB, o wal.Options) *wal.Engine {
	tb.Helper()
	e, err := wal.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return e
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		return embedded.New(engine(t, options("/data", vfs.NewMem())))
	})
}
