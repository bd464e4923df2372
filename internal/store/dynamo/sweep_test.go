package dynamo_test

import (
	"slices"
	"testing"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
)

func (r *region) wantSwept(t *testing.T, want ...store.Key) {
	t.Helper()
	keys, _, err := r.Swept(t.Context(), store.Page{Limit: 10})
	if err != nil || !slices.Equal(keys, want) {
		t.Errorf("to sweep after %v: %v %v, want %v", r.clock, keys, err, want)
	}
}

// G9: a record or a lone link that replication brings long after its tombstone
// is found and swept, for as long as one may still be on its way; after that
// nobody looks any more, and the tombstone stays.
func TestWhatArrivesLateIsSwept(t *testing.T) {
	r := newRegion(t, false)
	rec := aRecord(recordID, 0)
	if err := r.Bury(t.Context(), []store.Key{rec.Key}); err != nil {
		t.Fatal(err)
	}
	r.wantSwept(t)
	for age := time.Minute; age < 35*24*time.Hour; age *= 5 {
		r.put(t, r.EncodeRecord(rec)) // as replication does, without a condition
		r.put(t, storedynamo.EncodeLink(rec.Key, "ann"))
		r.clock = r.clock.Add(age)
		r.wantSwept(t, rec.Key)
		if err := r.Delete(t.Context(), []store.Key{rec.Key}); err != nil {
			t.Fatal(err)
		}
		r.wantSwept(t)
		r.wantGetKey(t, rec.Key, nil, true)
	}
	// One look is left, after which the tombstone leaves the index.
	r.clock = r.clock.Add(365 * 24 * time.Hour)
	r.wantSwept(t)
	x, err := r.client.Get(t.Context(), table, storedynamo.RowKey(rec.Key, 'X'))
	if err != nil || x == nil || x["sweep"] != nil || x["due"] != nil {
		t.Errorf("tombstone %v %v", x, err)
	}
	r.faults.Calls()
	r.wantSwept(t)
	if calls := r.faults.Calls(); calls["Query"] != 16 || len(calls) != 1 {
		t.Errorf("calls for nothing to look at: %v", calls)
	}
	if states, err := r.Read(t.Context(), []store.Ref{{Tenant: rec.Tenant, ID: rec.ID}}); err != nil || !states[0].Erased() {
		t.Errorf("state %v %v", states, err)
	}
}

// With TTL on, expired records are the table's to remove, not before they
// expire, and the sweeper is not shown them.
func TestTTL(t *testing.T) {
	r := newRegion(t, true)
	rec := aRecord(recordID, 0)
	rec.Expires = 4_000_000_000_001 // far ahead: the server has a TTL, too
	if _, err := r.Insert(t.Context(), []store.New{{Record: rec, Fresh: true}}); err != nil {
		t.Fatal(err)
	}
	row, err := r.client.Get(t.Context(), table, storedynamo.RowKey(rec.Key, 'R'))
	f := dynamo.Read(row)
	if ttl := f.Int("ttl"); err != nil || ttl != 4_000_000_001 || f.Err() != nil {
		t.Errorf("ttl %v %v %v", ttl, f.Err(), err)
	}
	keys, next, err := r.Expired(t.Context(), rec.Expires, store.Page{Limit: 10})
	if len(keys) != 0 || next != "" || err != nil {
		t.Errorf("expired: %v %q %v", keys, next, err)
	}
	r.wantGet(t, rec, false)
	if err := r.Replace(t.Context(), rec, with(rec, "repaired")); err != nil {
		t.Errorf("replace: %v", err)
	}
}
