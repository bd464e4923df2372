package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/store"
)

var faults = map[string]dynamolocal.Fault{
	"refused": dynamolocal.Refused, "lost": dynamolocal.Lost, "throttled": dynamolocal.Throttled,
	"broken": dynamolocal.Broken, "hanging": dynamolocal.Hanging,
}

// Every write meets every fault once, before and after it is applied, and the
// caller learns what is so.
func TestAFaultThatPasses(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			r := newRegionWith(t, false, 500*time.Millisecond)
			once := func(op string) { r.faults.Once(op, fault) }
			must := func(doing string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", doing, err)
				}
			}
			old := aRecord(recordID, 0)
			next := aRecord(recordID, 0)
			next.Message = []byte("repaired")
			for i, op := range []string{"BatchGetItem", "BatchWriteItem", "PutItem"} {
				n := store.New{Record: aRecord(fmt.Sprint(i), 0), Links: []string{"ann"}}
				once(op)
				outcomes, err := r.Insert(t.Context(), []store.New{n})
				must("insert", err)
				if outcomes[0] != store.Inserted {
					t.Errorf("insert with a fault of %s: %v", op, outcomes)
				}
				once(op)
				outcomes, err = r.Insert(t.Context(), []store.New{{Record: with(n.Record, "another")}})
				must("insert", err)
				if outcomes[0] != store.Exists {
					t.Errorf("insert of another with a fault of %s: %v", op, outcomes)
				}
				r.wantGet(t, n.Record, false)
			}
			_, err := r.Insert(t.Context(), []store.New{{Record: old}})
			must("insert", err)
			once("TransactWriteItems")
			must("replace", r.Replace(t.Context(), old, next))
			r.wantGet(t, next, false)
			once("TransactWriteItems")
			if err := r.Replace(t.Context(), old, next); !errors.Is(err, store.ErrConflict) {
				t.Errorf("replace of what is not there: %v", err)
			}
			once("BatchWriteItem")
			must("bury", r.Bury(t.Context(), []store.Key{old.Key}))
			r.wantGet(t, next, true)
			for _, op := range []string{"Query", "BatchWriteItem"} {
				once(op)
				must("delete", r.Delete(t.Context(), []store.Key{old.Key}))
			}
			r.wantGetKey(t, old.Key, nil, true)
		})
	}
}

func with(r *store.Record, message string) *store.Record {
	c := *r
	c.Message = []byte(message)
	return &c
}

func (r *region) wantGet(t *testing.T, want *store.Record, buried bool) {
	t.Helper()
	r.wantGetKey(t, want.Key, want, buried)
}

func (r *region) wantGetKey(t *testing.T, key store.Key, want *store.Record, buried bool) {
	t.Helper()
	got, b, err := r.Get(t.Context(), key)
	if diff := cmp.Diff(want, got); diff != "" || b != buried || err != nil {
		t.Errorf("buried %v, %v: %s", b, err, diff)
	}
}

// A fault that lasts ends with the caller's deadline; what it left behind is
// completed by calling again (store.Store, Insert).
func TestAFaultThatLasts(t *testing.T) {
	r := newRegionWith(t, false, 500*time.Millisecond)
	for name, fault := range faults {
		news := make([]store.New, 60) // three calls, the last of which fails
		for i := range news {
			news[i] = store.New{Record: aRecord(fmt.Sprint(name, i), 0), Fresh: true}
		}
		key := news[0].Record.Key
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		n := 0
		r.faults.On(func(string) dynamolocal.Fault {
			if n++; n <= 2 {
				return dynamolocal.None
			}
			return fault
		})
		_, insert := r.Insert(ctx, news)
		_, read := r.Read(ctx, []store.Ref{{Tenant: key.Tenant, ID: key.ID}})
		bury := r.Bury(ctx, []store.Key{key})
		replace := r.Replace(ctx, news[1].Record, news[1].Record)
		cancel()
		r.faults.On(nil)
		for call, err := range map[string]error{"insert": insert, "read": read, "bury": bury, "replace": replace} {
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
		outcomes, err := r.Insert(t.Context(), news)
		if err != nil || slices.ContainsFunc(outcomes, func(o store.Outcome) bool { return o != store.Inserted && o != store.Exists }) {
			t.Errorf("%s: insert again: %v %v", name, outcomes, err)
		}
		for _, n := range news {
			if got, _, err := r.Get(t.Context(), n.Record.Key); err != nil || got == nil || !slices.Equal(got.Message, n.Record.Message) {
				t.Errorf("%s: after all: %v %v", name, got, err)
			}
		}
	}
}

// A row that cannot be read is an error of every call that needs it, never an
// absent record.
func TestACorruptRowIsNeverAbsent(t *testing.T) {
	for name, change := range map[string]func(dynamo.Item){
		"version": func(i dynamo.Item) { i["v"] = dynamo.Int(9) },
		"message": func(i dynamo.Item) { delete(i, "message") },
		"epoch":   func(i dynamo.Item) { i["epoch"] = dynamo.String("1") },
	} {
		r := newRegion(t, false)
		rec := aRecord(recordID, 0)
		item := r.EncodeRecord(rec)
		change(item)
		r.put(t, item)
		_, read := r.Read(t.Context(), []store.Ref{{Tenant: rec.Tenant, ID: rec.ID}})
		_, _, get := r.Get(t.Context(), rec.Key)
		for call, err := range map[string]error{"read": read, "get": get} {
			if !errors.Is(err, dynamo.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

// What an operation calls, and nothing more (design §5).
func TestCalls(t *testing.T) {
	r := newRegion(t, false)
	news := func(prefix string, n int, change func(*store.New)) []store.New {
		out := make([]store.New, n)
		for i := range out {
			out[i].Record = aRecord(fmt.Sprint(prefix, i), 0)
			change(&out[i])
		}
		return out
	}
	fresh := func(n *store.New) { n.Fresh = true }
	linked := func(n *store.New) { n.Links = []string{"ann"} }
	refs := func(prefix string, n int, deep bool) []store.Ref {
		out := make([]store.Ref, n)
		for i := range out {
			out[i] = store.Ref{Tenant: "tenant-a", ID: fmt.Sprint(prefix, i), Generations: deep}
		}
		return out
	}
	insert := func(news []store.New) func() error {
		return func() error { _, err := r.Insert(t.Context(), news); return err }
	}
	read := func(refs []store.Ref) func() error {
		return func() error { _, err := r.Read(t.Context(), refs); return err }
	}
	first := aRecord("a0", 0)
	for _, c := range []struct {
		name string
		call func() error
		want map[string]int
	}{
		{"insert one", insert(news("a", 1, fresh)), map[string]int{"PutItem": 1}},
		{"insert 100", insert(news("b", 100, fresh)), map[string]int{"BatchWriteItem": 4}},
		{"insert 26", insert(news("g", 26, fresh)), map[string]int{"BatchWriteItem": 2}},
		{"insert two", insert(news("h", 2, fresh)), map[string]int{"BatchWriteItem": 1}},
		{"insert 10 fresh and 10 others", insert(append(news("i", 10, fresh), news("j", 10, func(n *store.New) { n.Unburied = true })...)), map[string]int{"BatchWriteItem": 1, "PutItem": 10}},
		{"insert 100 of whom a tombstone may be there", insert(news("c", 100, func(*store.New) {})), map[string]int{"BatchGetItem": 1, "PutItem": 100}},
		{"insert one with a link", insert(news("d", 1, linked)), map[string]int{"BatchGetItem": 1, "BatchWriteItem": 1, "PutItem": 1}},
		{"insert one with a link after a read", insert(news("f", 1, func(n *store.New) { linked(n); n.Unburied = true })), map[string]int{"BatchWriteItem": 1, "PutItem": 1}},
		{"insert 100 with a link", insert(news("e", 100, linked)), map[string]int{"BatchGetItem": 1, "BatchWriteItem": 4, "PutItem": 100}},
		{"read one", read(refs("a", 1, true)), map[string]int{"BatchGetItem": 1}},
		{"read 50", read(refs("b", 50, true)), map[string]int{"BatchGetItem": 1}},
		{"read 100", read(refs("b", 100, true)), map[string]int{"BatchGetItem": 2}},
		{"read one 100 times", read(slices.Repeat(refs("b", 1, true), 100)), map[string]int{"BatchGetItem": 1}},
		{"get", func() error { _, _, err := r.Get(t.Context(), first.Key); return err }, map[string]int{"BatchGetItem": 1}},
		{"replace", func() error { return r.Replace(t.Context(), first, first) }, map[string]int{"TransactWriteItems": 1}},
		{"bury", func() error { return r.Bury(t.Context(), []store.Key{first.Key}) }, map[string]int{"BatchWriteItem": 1}},
		{"read one erased", read(refs("a", 1, false)), map[string]int{"BatchGetItem": 1}},
		{"read one erased and made again", read(refs("a", 1, true)), map[string]int{"BatchGetItem": 1, "Query": 1}},
		{"delete", func() error { return r.Delete(t.Context(), []store.Key{first.Key}) }, map[string]int{"Query": 1, "BatchWriteItem": 1}},
		{"seen", func() error { _, err := r.Seen(t.Context(), refs("b", 3, true)); return err }, map[string]int{"Query": 3}},
		{"degraded, none", func() error { _, _, err := r.CountDegraded(t.Context(), 10); return err }, map[string]int{"Scan": 1}},
	} {
		r.faults.Calls()
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := r.faults.Calls(); !maps.Equal(got, c.want) {
			t.Errorf("%s: calls %v, want %v", c.name, got, c.want)
		}
	}
}

// A batch of fresh records that is put off is not written until it is: it is
// asked for again, and past the deadline that is an error.
func TestUnprocessedRecordsAreNotWritten(t *testing.T) {
	r := newRegion(t, false)
	news := make([]store.New, 5)
	for i := range news {
		news[i] = store.New{Record: aRecord(fmt.Sprint(i), 0), Fresh: true}
	}
	r.faults.Once("BatchWriteItem", dynamolocal.PutOff)
	outcomes, err := r.Insert(t.Context(), news)
	if calls := r.faults.Calls(); err != nil || outcomes[4] != store.Inserted || calls["BatchWriteItem"] != 2 {
		t.Errorf("%v %v with calls %v", outcomes, err, calls)
	}
	for _, n := range news {
		r.wantGet(t, n.Record, false)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r.faults.On(func(string) dynamolocal.Fault { return dynamolocal.PutOff })
	if _, err := r.Insert(ctx, news); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing of it is ever processed: %v", err)
	}
}

// G3, G9: an attempt that was given up may land after its rows were repaired or
// erased. What repair had added is found missing again; what was erased stays
// erased, and is swept.
func TestABatchThatLandsLate(t *testing.T) {
	r := newRegion(t, false)
	degraded, erased := aRecord("degraded", 0), aRecord("erased", 0)
	degraded.Missing = []string{"us-east-1"}
	news := []store.New{{Record: degraded, Fresh: true}, {Record: erased, Fresh: true}}
	insert := func() {
		t.Helper()
		if _, err := r.Insert(t.Context(), news); err != nil {
			t.Fatal(err)
		}
	}
	repair := func() {
		t.Helper()
		if err := r.Replace(t.Context(), degraded, with(aRecord("degraded", 0), "repaired")); err != nil {
			t.Fatal(err)
		}
	}
	insert()
	repair()
	if err := errors.Join(r.Bury(t.Context(), []store.Key{erased.Key}), r.Delete(t.Context(), []store.Key{erased.Key})); err != nil {
		t.Fatal(err)
	}
	insert() // the same bytes, after all
	if keys, _, err := r.Degraded(t.Context(), "us-east-1", store.Page{Limit: 10}); err != nil || !slices.Equal(keys, []store.Key{degraded.Key}) {
		t.Errorf("degraded: %v %v", keys, err)
	}
	repair()
	if states, err := r.Read(t.Context(), []store.Ref{{Tenant: erased.Tenant, ID: erased.ID}}); err != nil || states[0].Record != nil || !states[0].Erased() {
		t.Errorf("an erased record came back: %v %v", states, err)
	}
	r.clock = r.clock.Add(time.Hour)
	r.wantSwept(t, erased.Key)
}
