package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/store"
	"piivault/internal/store/embedded"
	"piivault/internal/wal"
)

// calls are all reads of a store about one record, subject and region.
func calls(ctx context.Context, s *embedded.Store, tenant, id, subject, region string) map[string]error {
	ref := store.Ref{Tenant: tenant, ID: id}
	page := store.Page{Limit: 1}
	_, read := s.Read(ctx, []store.Ref{ref})
	_, _, get := s.Get(ctx, store.Key{Tenant: tenant, ID: id})
	_, seen := s.Seen(ctx, []store.Ref{ref})
	_, _, bySubject := s.BySubject(ctx, tenant, subject, page)
	_, _, degraded := s.Degraded(ctx, region, page)
	return map[string]error{"read": read, "get": get, "seen": seen, "by subject": bySubject, "degraded": degraded}
}

// more are the calls that name no record.
func more(ctx context.Context, s *embedded.Store, page store.Page) map[string]error {
	_, _, swept := s.Swept(ctx, page)
	_, _, expired := s.Expired(ctx, 1, page)
	_, _, scan := s.Scan(ctx, store.Part{Segments: 1}, page)
	return map[string]error{"swept": swept, "expired": expired, "scan": scan}
}

// A call that was given up answers nothing, rather than "there is none".
func TestACallThatWasGivenUp(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all := calls(ctx, s, "t", "x", "ann", "eu-west-1")
	maps.Copy(all, more(ctx, s, store.Page{Limit: 1}))
	_, all["beats"] = s.Beats(ctx)
	_, _, all["count"] = s.CountDegraded(ctx, 1)
	for name, err := range all {
		if !errors.Is(err, context.Canceled) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What has no encoding is refused by every call, and not as an outage; what is
// just short enough is not.
func TestNamesAreBounded(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	long, full := strings.Repeat("x", 256), strings.Repeat("x", 255)
	refused := func(what string, all map[string]error) {
		t.Helper()
		for name, err := range all {
			if !errors.Is(err, embedded.ErrInvalid) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %s: %v", what, name, err)
			}
		}
	}
	only := func(all map[string]error, names ...string) map[string]error {
		maps.DeleteFunc(all, func(name string, _ error) bool { return !slices.Contains(names, name) })
		return all
	}
	ctx := t.Context()
	for _, tenant := range []string{"", long} {
		refused("tenant", only(calls(ctx, s, tenant, "x", "ann", "r"), "read", "get", "seen", "by subject"))
	}
	for _, bad := range []string{"", long} {
		refused("id", only(calls(ctx, s, "t", bad, "ann", "r"), "read", "get", "seen"))
		refused("subject", only(calls(ctx, s, "t", "x", bad, "r"), "by subject"))
		refused("region", only(calls(ctx, s, "t", "x", "ann", bad), "degraded"))
		key := store.Key{Tenant: "t", ID: bad}
		refused("key", map[string]error{"beat": s.Beat(ctx, bad, 1), "bury": s.Bury(ctx, []store.Key{key}), "delete": s.Delete(ctx, []store.Key{key})})
	}
	refused("page", more(ctx, s, store.Page{}))
	refused("cursor", more(ctx, s, store.Page{Limit: 1, After: "!"}))
	for name, n := range map[string]store.New{
		"type":         {Record: &store.Record{Key: aRecord(0).Key, Type: long}},
		"subject":      {Record: &store.Record{Key: aRecord(0).Key, Subject: long}},
		"home":         {Record: &store.Record{Key: aRecord(0).Key, Home: long}},
		"region":       {Record: &store.Record{Key: aRecord(0).Key, Missing: []string{long}}},
		"region twice": {Record: &store.Record{Key: aRecord(0).Key, Missing: []string{"a", "a"}}},
		"no link":      {Record: aRecord(0), Links: []string{""}},
		"long link":    {Record: aRecord(0), Links: []string{long}},
	} {
		_, err := s.Insert(ctx, []store.New{n})
		refused("insert", map[string]error{name: err})
	}

	for name, err := range calls(ctx, s, full, full, full, full) {
		if err != nil {
			t.Errorf("255 bytes: %s: %v", name, err)
		}
	}
	whole := store.New{Record: &store.Record{
		Key: store.Key{Tenant: full, ID: full}, Type: full, Subject: full, Home: full, Missing: []string{full}, RingEpoch: 1,
	}, Links: []string{full}}
	if _, err := s.Insert(ctx, []store.New{whole}); err != nil {
		t.Errorf("255 bytes: %v", err)
	}
	if err := s.Beat(ctx, full, 1); err != nil {
		t.Errorf("255 bytes: %v", err)
	}
	if r, _, err := s.Get(ctx, whole.Record.Key); err != nil || r == nil || !slices.Equal(r.Missing, whole.Record.Missing) || len(r.Message) != 0 {
		t.Errorf("255 bytes: %v %v", r, err)
	}
}

// A conflict is not an outage: who gets it need not try again.
func TestAConflictIsNoOutage(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	if err := s.Replace(t.Context(), aRecord(0), aRecord(0)); !errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
}

// G9: a value made again after its erasure is found behind its links.
func TestALaterGenerationIsFoundBehindItsLinks(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	if err := s.Bury(t.Context(), []store.Key{aRecord(0).Key}); err != nil {
		t.Fatal(err)
	}
	r := aRecord(1)
	if _, err := s.Insert(t.Context(), []store.New{{Record: r, Links: []string{"ann", "bob"}}}); err != nil {
		t.Fatal(err)
	}
	states, err := s.Read(t.Context(), []store.Ref{{Tenant: r.Tenant, ID: r.ID, Generations: true}})
	if err != nil || states[0].Record == nil || states[0].Generation != 1 {
		t.Errorf("%+v %v", states, err)
	}
}

// The end of a range whose first keys end in 0xff lies behind them.
func TestASubjectThatEndsInTheLastByte(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	r := aRecord(0)
	r.Subject = "\xff\xff"
	if _, err := s.Insert(t.Context(), []store.New{{Record: r}}); err != nil {
		t.Fatal(err)
	}
	keys, _, err := s.BySubject(t.Context(), r.Tenant, r.Subject, store.Page{Limit: 2})
	if err != nil || !slices.Equal(keys, []store.Key{r.Key}) {
		t.Errorf("%v %v", keys, err)
	}
}

// G9: a record that arrives when its tombstone was looked at long ago is swept
// though it has no link.
func TestALateRecordWithoutLinksIsSwept(t *testing.T) {
	a, b := newRegion(t, "eu-west-1"), newRegion(t, "us-east-1")
	r := aRecord(0)
	if err := b.Bury(t.Context(), []store.Key{r.Key}); err != nil {
		t.Fatal(err)
	}
	b.wantSwept(t)
	b.wantNotes(t, 0)
	if _, err := a.Insert(t.Context(), []store.New{{Record: r}}); err != nil {
		t.Fatal(err)
	}
	ship(t, a, b)
	b.wantSwept(t, r.Key)
	b.wantNotes(t, 1)
	b.wantSwept(t, r.Key)
}

// Rows that have no meaning are refused before anything is derived from them.
func TestRowsWithoutMeaningAreRefused(t *testing.T) {
	key := aRecord(0).Key
	record, smallest := embedded.Row(key, 'R', ""), string(embedded.EncodeRecord(&store.Record{}))
	for name, row := range map[string][2]string{
		"no region":        {"\x00H", "\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
		"short generation": {"\x01t\x01x\x00\x00\x00", smallest},
		"kind":             {string(embedded.Row(key, 'Z', "")), smallest},
		"too much":         {string(record) + "x", smallest},
		"record":           {string(record), "\x09"},
		"missing regions":  {string(record), smallest[:28]},
		"half a region":    {string(record), string(embedded.EncodeRecord(&store.Record{Missing: []string{"region"}}))[:31]},
	} {
		if err := embedded.CheckBeat([]byte(row[0]), []byte(row[1])); !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := embedded.CheckBeat(record, []byte(smallest)); err != nil {
		t.Errorf("the smallest record: %v", err)
	}
}

// junk are derived rows that nobody can read, and rows that have none.
func junk(t *testing.T, row, value, derived string) *embedded.Store {
	t.Helper()
	fs := vfs.NewMem()
	raw := options("/data", fs)
	raw.Tables = []wal.Table{{ID: embedded.TableID, Index: func(_, _ []byte) ([][]byte, error) {
		if derived == "" {
			return nil, nil
		}
		return [][]byte{[]byte(derived)}, nil
	}}}
	e, err := wal.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	err = e.Submit(func(tx *wal.Tx) error {
		tx.Put(embedded.TableID, []byte(row), []byte(value))
		return nil
	}).Wait(t.Context())
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	return embedded.New(engine(t, options("/data", fs)))
}

// Nothing that cannot be read counts as absent, in no listing either (G9: an
// erasure must not overlook a generation).
func TestWhatCannotBeReadIsNoEmptyListing(t *testing.T) {
	corrupt := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, wal.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, key := t.Context(), aRecord(0).Key
	foreign := junk(t, string(embedded.Row(key, 'Z', "")), "\x01", "")
	_, err := foreign.Seen(ctx, []store.Ref{{Tenant: key.Tenant, ID: key.ID}})
	corrupt("seen", err)
	_, _, err = foreign.Scan(ctx, store.Part{Segments: 1}, store.Page{Limit: 1})
	corrupt("scan", err)
	_, err = junk(t, "\x00Heu-west-1", "\x02", "").Beats(ctx)
	corrupt("beats", err)
	tombstone := junk(t, string(embedded.Row(key, 'X', "")), "\x09", "")
	corrupt("delete", tombstone.Delete(ctx, []store.Key{key}))
	unreadable := string(embedded.Row(key, 'R', ""))
	_, _, err = junk(t, unreadable, "\x01", "g\xff").CountDegraded(ctx, 1)
	corrupt("count", err)
	_, _, err = junk(t, unreadable, "\x01", "g\x01a").Degraded(ctx, "a", store.Page{Limit: 1})
	corrupt("degraded", err)
}

// A page may have one row.
func TestAPageOfOne(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	r := aRecord(0)
	if _, err := s.Insert(t.Context(), []store.New{{Record: r}}); err != nil {
		t.Fatal(err)
	}
	rows, _, err := s.Scan(t.Context(), store.Part{Segments: 1}, store.Page{Limit: 1})
	if err != nil || len(rows) != 1 || rows[0].Key != r.Key {
		t.Errorf("%v %v", rows, err)
	}
}

// What is there already is not written again: it would replicate for nothing.
func TestWhatIsThereIsNotWrittenAgain(t *testing.T) {
	a, b := newRegion(t, "eu-west-1"), newRegion(t, "us-east-1")
	r := store.New{Record: aRecord(0), Links: []string{"ann"}}
	for range 2 {
		if _, err := a.Insert(t.Context(), []store.New{r}); err != nil {
			t.Fatal(err)
		}
	}
	a.wantWritten(t, 2)
	ship(t, a, b)
	for range 2 {
		if err := a.Bury(t.Context(), []store.Key{r.Record.Key}); err != nil {
			t.Fatal(err)
		}
	}
	a.wantWritten(t, 1)
	ship(t, a, b)
	for range 2 {
		if err := a.Delete(t.Context(), []store.Key{r.Record.Key}); err != nil {
			t.Fatal(err)
		}
	}
	a.wantWritten(t, 2)
}

// wantWritten counts what a region has written since it was last shipped.
func (r region) wantWritten(t *testing.T, want int) {
	t.Helper()
	if changes, err := r.e.Outbox(0, 1000); len(changes) != want || err != nil {
		t.Errorf("%d rows to replicate, %v, want %d", len(changes), err, want)
	}
}

func TestReplaceRefuses(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	for name, pair := range map[string][2]*store.Record{
		"nothing by a record": {nil, aRecord(0)}, "a record by nothing": {aRecord(0), nil}, "another record's key": {aRecord(0), aRecord(1)},
	} {
		if err := s.Replace(t.Context(), pair[0], pair[1]); !errors.Is(err, embedded.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A row counts its missing regions in one byte.
func TestManyMissingRegions(t *testing.T) {
	s := embedded.New(engine(t, options("/data", vfs.NewMem())))
	r := aRecord(0)
	for i := range 255 {
		r.Missing = append(r.Missing, fmt.Sprintf("%03d", i))
	}
	if _, err := s.Insert(t.Context(), []store.New{{Record: r}}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Get(t.Context(), r.Key); err != nil || !slices.Equal(got.Missing, r.Missing) {
		t.Errorf("%v %v", got, err)
	}
	r.Missing = append(r.Missing, "255")
	if _, err := s.Insert(t.Context(), []store.New{{Record: r}}); !errors.Is(err, embedded.ErrInvalid) {
		t.Error(err)
	}
}
