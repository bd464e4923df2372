package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpenSmall opens an engine with memtables so small that a few writes rotate
// the log, flush and compact.
func OpenSmall(o Options) (*Engine, error) { return open(o, 64<<10) }

// Break makes Pebble find itself broken, as on a violated invariant.
func (e *Engine) Break() { e.log.Fatalf("%w", errors.New("broken")) }

// Fault is what poisoned the engine.
func (e *Engine) Fault() error { return e.fence.err() }

// CheckLog looks for damage in the bytes of a log.
func CheckLog(b []byte, num uint32) error {
	return logFile{b, num, crc32.MakeTable(crc32.Castagnoli)}.check()
}

// FuzzedItem parses an envelope and encodes it again.
func FuzzedItem(b []byte) ([]byte, error) {
	it, err := parseItem(b)
	if err != nil {
		return nil, err
	}
	return appendItem(nil, it), nil
}

// ItemBytes encodes an envelope.
func ItemBytes(grave bool, stamp uint64, region, value string) []byte {
	return appendItem(nil, item{grave: grave, stamp: stamp, region: []byte(region), value: []byte(value)})
}

// StoredRows writes one row of each kind and prints all that Pebble holds.
func StoredRows(tb testing.TB, fs vfs.FS) string {
	tb.Helper()
	e, err := Open(Options{
		Dir: "/data", FS: fs, Region: "eu-west-1", Outbox: true,
		Now: func() time.Time { return time.Unix(0, 0x1122334455667788) },
		Tables: []Table{{ID: 'T', Index: func(key, value []byte) ([][]byte, error) {
			return [][]byte{append([]byte{value[0], '/'}, key...)}, nil
		}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	}()
	err = e.Submit(func(tx *Tx) error {
		tx.Put('T', []byte("key"), []byte("value"))
		tx.Delete('T', []byte("gone"))
		tx.SetLocal([]byte("local"), []byte("row"))
		return nil
	}).Wait(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	iter, err := e.db.NewIter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	out := new(strings.Builder)
	for ok := iter.First(); ok; ok = iter.Next() {
		fmt.Fprintf(out, "%x %x\n", iter.Key(), iter.Value())
	}
	if err := iter.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}
