package wal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/wal"
)

// itemVector is a stored envelope in testdata/items.json; Refused ones have no fields.
type itemVector struct {
	Comment string `json:"comment"`
	Hex     string `json:"hex"`
	Refused bool   `json:"refused,omitempty"`
	Grave   bool   `json:"grave,omitempty"`
	Stamp   uint64 `json:"stamp,omitempty"`
	Region  string `json:"region,omitempty"`
	Value   string `json:"value,omitempty"` // hex
}

func vectors(tb testing.TB) (vs []itemVector) {
	tb.Helper()
	b, err := os.ReadFile("testdata/items.json")
	if err == nil {
		err = json.Unmarshal(b, &vs)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return vs
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestItemVectors(t *testing.T) {
	for _, v := range vectors(t) {
		b := unhex(t, v.Hex)
		again, err := wal.FuzzedItem(b)
		if v.Refused {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("%s: %v", v.Comment, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: read and written again: %x %v", v.Comment, again, err)
		}
		if got := wal.ItemBytes(v.Grave, v.Stamp, v.Region, string(unhex(t, v.Value))); !bytes.Equal(got, b) {
			t.Errorf("%s: written as %x", v.Comment, got)
		}
	}
}

func FuzzItem(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := wal.FuzzedItem(b)
		if err == nil && !bytes.Equal(again, b) {
			t.Errorf("%x has another encoding %x", b, again)
		}
		if err != nil && !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("error without a sentinel: %v", err)
		}
	})
}

// The rows of a small engine, with every keyspace, are these bytes.
func TestStoredRows(t *testing.T) {
	want, err := os.ReadFile("testdata/rows.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := wal.StoredRows(t, vfs.NewMem()); got != string(want) {
		t.Errorf("stored rows are\n%s\nwant\n%s", got, want)
	}
}

func FuzzLogCheck(f *testing.F) {
	fs := vfs.NewCrashableMem()
	e, err := wal.Open(memOptions(fs))
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := e.Submit(put(key, key)).Wait(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
	im := imageOf(f, fs)
	if err := e.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(im[im.log()], uint32(4))
	f.Fuzz(func(t *testing.T, b []byte, num uint32) {
		if err := wal.CheckLog(b, num); err != nil && !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("error without a sentinel: %v", err)
		}
	})
}
