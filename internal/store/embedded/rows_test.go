package embedded_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"piivault/internal/store"
	"piivault/internal/store/embedded"
	"piivault/internal/wal"
)

type rowVector struct {
	Comment, Row, Value string
	Index               []string
	Record              *struct {
		Tenant, ID                   string
		Generation                   uint32
		Type, Message, Subject, Home string
		Created, Expires             int64
		RingEpoch                    uint64
		Missing                      []string
	}
	Refused bool
}

func vectors(tb testing.TB) (vs []rowVector) {
	tb.Helper()
	b, err := os.ReadFile("testdata/rows.json")
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

func TestRowVectors(t *testing.T) {
	for _, v := range vectors(t) {
		row, value := unhex(t, v.Row), unhex(t, v.Value)
		key, kind, got, index, err := embedded.DecodeRow(row, value)
		if v.Refused {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("%s: %v", v.Comment, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Comment, err)
			continue
		}
		var rows []string
		for _, r := range index {
			rows = append(rows, hex.EncodeToString(r))
		}
		if diff := cmp.Diff(append([]string(nil), v.Index...), rows); diff != "" {
			t.Errorf("%s: derived rows: %s", v.Comment, diff)
		}
		if v.Record == nil {
			continue
		}
		want := &store.Record{
			Key:  store.Key{Tenant: v.Record.Tenant, ID: v.Record.ID, Generation: v.Record.Generation},
			Type: v.Record.Type, Message: unhex(t, v.Record.Message), Created: v.Record.Created, Expires: v.Record.Expires,
			Subject: v.Record.Subject, RingEpoch: v.Record.RingEpoch, Home: v.Record.Home, Missing: v.Record.Missing,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", v.Comment, diff)
		}
		if !bytes.Equal(embedded.Row(key, kind, ""), row) || !bytes.Equal(embedded.EncodeRecord(want), value) {
			t.Errorf("%s: written as %x %x", v.Comment, embedded.Row(key, kind, ""), embedded.EncodeRecord(want))
		}
	}
}

func FuzzRow(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Row), unhex(f, v.Value))
	}
	f.Fuzz(func(t *testing.T, row, value []byte) {
		key, kind, r, _, err := embedded.DecodeRow(row, value)
		if err != nil {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("error without a sentinel: %v", err)
			}
			return
		}
		if r != nil && !bytes.Equal(embedded.EncodeRecord(r), value) {
			t.Errorf("%x has another encoding", value)
		}
		if kind != 'L' && !bytes.Equal(embedded.Row(key, kind, ""), row) {
			t.Errorf("%x has another encoding", row)
		}
	})
}

const recordID = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE"

func aRecord(g uint32) *store.Record {
	return &store.Record{
		Key:  store.Key{Tenant: "tenant-a", ID: recordID, Generation: g},
		Type: "email", Message: []byte("message"), Created: 1, Home: "eu-west-1", RingEpoch: 1,
	}
}

// A row that cannot be read is an error of every call that needs it, never an
// absent record (which would answer "not found", and let an erased value be
// written again).
func TestACorruptRowIsNeverAbsent(t *testing.T) {
	for name, row := range map[string][2]string{
		"record":    {"R", "\x09"},
		"tombstone": {"X", "\x09"},
	} {
		// The table without its index takes the row that the store cannot read.
		fs := vfs.NewMem()
		raw := options("/data", fs)
		raw.Tables = []wal.Table{{ID: embedded.TableID}}
		e, err := wal.Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		key := aRecord(0).Key
		err = e.Submit(func(tx *wal.Tx) error {
			tx.Put(embedded.TableID, embedded.Row(key, row[0][0], ""), []byte(row[1]))
			return nil
		}).Wait(t.Context())
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
		s := embedded.New(engine(t, options("/data", fs)))
		ref := store.Ref{Tenant: key.Tenant, ID: key.ID, Generations: true}
		_, readErr := s.Read(t.Context(), []store.Ref{{Tenant: "t", ID: "x"}, ref})
		_, _, getErr := s.Get(t.Context(), key)
		for call, err := range map[string]error{"read": readErr, "get": getErr} {
			if !errors.Is(err, wal.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

func TestInvalidRecordsAreRefused(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	long := string(bytes.Repeat([]byte("x"), 256))
	for name, n := range map[string]store.New{
		"no record":   {},
		"no tenant":   {Record: &store.Record{Key: store.Key{ID: "x"}}},
		"long id":     {Record: &store.Record{Key: store.Key{Tenant: "t", ID: long}}},
		"long type":   {Record: &store.Record{Key: aRecord(0).Key, Type: long}},
		"unsorted":    {Record: &store.Record{Key: aRecord(0).Key, Missing: []string{"b", "a"}}},
		"no subject":  {Record: aRecord(0), Links: []string{""}},
		"long region": {Record: &store.Record{Key: aRecord(0).Key, Missing: []string{long}}},
	} {
		if _, err := s.Insert(t.Context(), []store.New{{Record: aRecord(1)}, n}); err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, _, err := s.Get(t.Context(), aRecord(1).Key); r != nil || err != nil {
		t.Errorf("a part of a refused batch was written: %v %v", r, err)
	}
	if _, _, err := s.Swept(t.Context(), store.Page{Limit: 1, After: "!"}); err == nil {
		t.Error("a foreign cursor was taken")
	}
	if _, _, err := s.Expired(t.Context(), 1, store.Page{}); err == nil {
		t.Error("a page without a limit was taken")
	}
}

func TestAStoppedEngineIsUnavailable(t *testing.T) {
	e, err := wal.Open(options("/data", vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	s := embedded.New(e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, insert := s.Insert(ctx, []store.New{{Record: aRecord(0)}})
	_, read := s.Read(ctx, []store.Ref{{Tenant: "t", ID: "x"}})
	_, _, count := s.CountDegraded(ctx, 1)
	for name, err := range map[string]error{"insert": insert, "read": read, "count": count, "bury": s.Bury(ctx, []store.Key{aRecord(0).Key})} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
