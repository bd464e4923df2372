package embedded_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/store"
	"piivault/internal/store/embedded"
	"piivault/internal/wal"
)

// region is a store with its engine.
type region struct {
	*embedded.Store
	e *wal.Engine
}

func newRegion(t *testing.T, name string) region {
	t.Helper()
	o := options("/data", vfs.NewMem())
	o.Region = name
	e := engine(t, o)
	return region{embedded.New(e), e}
}

// ship applies all that a region has written to another, and forgets it.
func ship(t *testing.T, from, to region) {
	t.Helper()
	changes, err := from.e.Outbox(0, 1000)
	if err != nil || len(changes) == 0 {
		t.Fatal(len(changes), err)
	}
	replicas, err := from.e.Export(t.Context(), changes)
	if err == nil {
		err = to.e.Apply(t.Context(), replicas)
	}
	if err == nil {
		err = from.e.Ack(t.Context(), changes[len(changes)-1].Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r region) wantSwept(t *testing.T, want ...store.Key) {
	t.Helper()
	keys, next, err := r.Swept(t.Context(), store.Page{Limit: 10})
	if err != nil || next != "" || !slices.Equal(keys, want) {
		t.Errorf("to sweep: %v %q %v, want %v", keys, next, err, want)
	}
}

func (r region) wantNotes(t *testing.T, want int) {
	t.Helper()
	if err := r.e.Submit(func(*wal.Tx) error { return nil }).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := embedded.Notes(r.e); n != want || err != nil {
		t.Errorf("%d notes, %v, want %d", n, err, want)
	}
}

// G9: a record, or a link alone, that arrives under a tombstone is found and
// swept, whichever of them came first, and nothing of the search is left.
func TestWhatArrivesUnderATombstoneIsSwept(t *testing.T) {
	a, b := newRegion(t, "eu-west-1"), newRegion(t, "us-east-1")
	r := aRecord(0)
	if err := b.Bury(t.Context(), []store.Key{r.Key}); err != nil {
		t.Fatal(err)
	}
	b.wantSwept(t)
	b.wantNotes(t, 0)
	if _, err := a.Insert(t.Context(), []store.New{{Record: r, Links: []string{"ann"}}}); err != nil {
		t.Fatal(err)
	}
	ship(t, a, b)
	b.wantSwept(t, r.Key)
	ship(t, b, a)
	a.wantSwept(t, r.Key)
	for _, reg := range []region{a, b} {
		if err := reg.Delete(t.Context(), []store.Key{r.Key}); err != nil {
			t.Fatal(err)
		}
		reg.wantSwept(t)
		reg.wantNotes(t, 0)
		states, err := reg.Read(t.Context(), []store.Ref{{Tenant: r.Tenant, ID: r.ID, Generations: true}})
		if err != nil || states[0].Generation != 1 || states[0].Record != nil {
			t.Errorf("after the sweep: %v %v", states, err)
		}
		keys, _, err := reg.BySubject(t.Context(), r.Tenant, "ann", store.Page{Limit: 10})
		if err != nil || len(keys) != 0 {
			t.Errorf("links left: %v %v", keys, err)
		}
	}
}

// A link without its record is seen by an erasure and swept after it.
func TestALoneLink(t *testing.T) {
	a := newRegion(t, "eu-west-1")
	key := aRecord(3).Key
	err := a.e.Submit(func(tx *wal.Tx) error {
		tx.Put(embedded.TableID, embedded.Row(key, 'L', "ann"), []byte{1})
		return nil
	}).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen, err := a.Seen(t.Context(), []store.Ref{{Tenant: key.Tenant, ID: key.ID}})
	if err != nil || !slices.Equal(seen, []store.Key{key}) {
		t.Errorf("seen %v %v", seen, err)
	}
	if err := a.Bury(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	a.wantSwept(t, key)
	if err := a.Delete(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	a.wantSwept(t)
	a.wantNotes(t, 0)
}
