package dynamo_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
)

type vector struct {
	Comment string
	Item    json.RawMessage
	TTL     bool `json:",omitempty"`
	Record  *struct {
		Tenant, ID                   string
		Generation                   uint32
		Type, Message, Subject, Home string
		Created, Expires             int64
		RingEpoch                    uint64
		Missing                      []string
	} `json:",omitempty"`
	Key     *store.Key `json:",omitempty"`
	Subject string     `json:",omitempty"`
	Refused bool       `json:",omitempty"`
}

func vectors(tb testing.TB) (vs []vector) {
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

func TestItemVectors(t *testing.T) {
	r := newRegion(t, false)
	withTTL := storedynamo.New(storedynamo.Config{TTL: true})
	for _, v := range vectors(t) {
		item := dynamolocal.ParseItem(t, v.Item)
		key, kind, got, subject, at, err := storedynamo.DecodeRow(item)
		switch {
		case v.Refused:
			if !errors.Is(err, dynamo.ErrCorrupt) {
				t.Errorf("%s: %v", v.Comment, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", v.Comment, err)
			continue
		}
		var encoded dynamo.Item
		switch kind {
		case 'L':
			encoded = storedynamo.EncodeLink(key, subject)
		case 'X':
			if at != r.clock.UnixMilli() {
				t.Errorf("%s: written at %d", v.Comment, at)
			}
			encoded = r.EncodeTombstone(key)
		default:
			want := &store.Record{
				Key:  store.Key{Tenant: v.Record.Tenant, ID: v.Record.ID, Generation: v.Record.Generation},
				Type: v.Record.Type, Message: []byte(v.Record.Message), Created: v.Record.Created, Expires: v.Record.Expires,
				Subject: v.Record.Subject, RingEpoch: v.Record.RingEpoch, Home: v.Record.Home, Missing: v.Record.Missing,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", v.Comment, diff)
			}
			encoded = r.EncodeRecord(want)
			if v.TTL {
				encoded = withTTL.EncodeRecord(want)
			}
		}
		if kind != 'R' && (v.Key == nil || *v.Key != key || v.Subject != subject) {
			t.Errorf("%s: read as %v %q", v.Comment, key, subject)
		}
		if diff := cmp.Diff(dynamolocal.FormatItem(t, item), dynamolocal.FormatItem(t, encoded)); diff != "" {
			t.Errorf("%s: written as %s", v.Comment, diff)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("tenant-a#"+recordID, "R#00000000")
	f.Add("tenant-a#"+recordID, "L#000000ff#subject")
	f.Add("#", "X#0000000G")
	f.Fuzz(func(t *testing.T, pk, sk string) {
		key, subject, err := storedynamo.ParseKey(dynamo.Key{PK: pk, SK: sk})
		if err != nil {
			if !errors.Is(err, dynamo.ErrCorrupt) {
				t.Errorf("error without a sentinel: %v", err)
			}
			return
		}
		again := storedynamo.RowKey(key, sk[0])
		if subject != "" {
			again.SK += "#" + subject
		}
		if again != (dynamo.Key{PK: pk, SK: sk}) {
			t.Errorf("%q %q has another encoding: %q", pk, sk, again)
		}
	})
}

// Sort keys are in order of generation, as readOn needs them.
func TestSortKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		if (a < b) != (storedynamo.SortKey('X', a) < storedynamo.SortKey('X', b)) || storedynamo.SortKey('R', a) > storedynamo.SortKey('X', b) {
			t.Errorf("%d and %d", a, b)
		}
	})
}

func TestInvalidRecordsAreRefused(t *testing.T) {
	r := newRegion(t, false)
	long := strings.Repeat("x", 256)
	bad := func(change func(*store.Record)) store.New {
		rec := aRecord(recordID, 0)
		change(rec)
		return store.New{Record: rec}
	}
	for name, n := range map[string]store.New{
		"no record":  {},
		"no tenant":  bad(func(r *store.Record) { r.Tenant = "" }),
		"long id":    bad(func(r *store.Record) { r.ID = long }),
		"id with #":  bad(func(r *store.Record) { r.ID = "a#b" }),
		"no message": bad(func(r *store.Record) { r.Message = nil }),
		"long type":  bad(func(r *store.Record) { r.Type = long }),
		"unsorted":   bad(func(r *store.Record) { r.Missing = []string{"b", "a"} }),
		"region":     bad(func(r *store.Record) { r.Missing = []string{"a,b"} }),
		"subject":    bad(func(r *store.Record) { r.Subject = "a#b" }),
		"no link":    {Record: aRecord(recordID, 0), Links: []string{""}},
	} {
		if _, err := r.Insert(t.Context(), []store.New{{Record: aRecord("x", 0)}, n}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, _, err := r.Swept(t.Context(), store.Page{Limit: 1, After: "!"}); err == nil {
		t.Error("a foreign cursor was taken")
	}
	if _, _, err := r.BySubject(t.Context(), "tenant-a", "ann", store.Page{}); err == nil {
		t.Error("a page without a limit was taken")
	}
	if calls := r.faults.Calls(); len(calls) > 0 {
		t.Errorf("calls %v", calls)
	}
}
