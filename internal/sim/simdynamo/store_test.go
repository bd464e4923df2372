package simdynamo_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
)

// between lets a test fail the nth call, or change every item that is read.
type between struct {
	dynamo.Data
	calls atomic.Int64
	fail  int64 // this call, from 1, in a way that is not tried again; 0: none
	twist func(dynamo.Item)
}

func pass[In, Out any](ctx context.Context, b *between, in In, do func(context.Context, In, ...func(*dynamodb.Options)) (Out, error)) (out Out, err error) {
	if b.calls.Add(1) == b.fail {
		return out, &types.ResourceNotFoundException{}
	}
	return do(ctx, in)
}

func (b *between) twisted(items []dynamo.Item) {
	for i := range items {
		if b.twist != nil {
			items[i] = maps.Clone(items[i])
			b.twist(items[i])
		}
	}
}

func (b *between) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return pass(ctx, b, in, b.Data.PutItem)
}

func (b *between) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return pass(ctx, b, in, b.Data.UpdateItem)
}

func (b *between) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	return pass(ctx, b, in, b.Data.TransactWriteItems)
}

func (b *between) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	return pass(ctx, b, in, b.Data.BatchWriteItem)
}

func (b *between) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out, err := pass(ctx, b, in, b.Data.BatchGetItem)
	if err == nil {
		b.twisted(out.Responses["records"])
	}
	return out, err
}

func (b *between) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := pass(ctx, b, in, b.Data.Query)
	if err == nil {
		b.twisted(out.Items)
	}
	return out, err
}

func (b *between) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out, err := pass(ctx, b, in, b.Data.Scan)
	if err == nil {
		b.twisted(out.Items)
	}
	return out, err
}

// records is a store with something for every listing.
type records struct {
	*storedynamo.Store
	*between
}

func stored(id string, g uint32) *store.Record {
	return &store.Record{
		Key: store.Key{Tenant: "tenant", ID: id, Generation: g}, Type: "email", Message: []byte(id), Created: 1, Home: regionName, RingEpoch: 1,
	}
}

// The records: one that a subject has and that misses a copy and is expired,
// one erased and made again, one that was erased and not swept.
func newRecords(t *testing.T) records {
	t.Helper()
	region := simdynamo.New(simdynamo.Config{Name: regionName, Tables: dynamo.NamesWith("").Tables(), Now: time.Now, Page: 50})
	r := records{between: &between{Data: region}}
	r.Store = storedynamo.New(storedynamo.Config{Client: clientOf(t, r.between), Table: "records", Now: func() time.Time { return time.UnixMilli(1000) }})
	plain, again, swept := stored("plain", 0), stored("again", 1), stored("swept", 0)
	plain.Subject, plain.Missing, plain.Expires = "ann", []string{"us-east-1"}, 500
	_, err := r.Insert(t.Context(), []store.New{{Record: plain}, {Record: stored("again", 0)}, {Record: swept, Links: []string{"bob"}}})
	err = errors.Join(err, r.Bury(t.Context(), []store.Key{stored("again", 0).Key, swept.Key}))
	if err == nil {
		_, err = r.Insert(t.Context(), []store.New{{Record: again, Links: []string{"bob"}}})
	}
	err = errors.Join(err, r.Delete(t.Context(), []store.Key{stored("again", 0).Key}), r.Beat(t.Context(), regionName, 1))
	if err != nil {
		t.Fatal(err)
	}
	r.calls.Store(0)
	return r
}

// reads are calls that change nothing that anybody reads.
func reads() map[string]func(context.Context, records) error {
	page := store.Page{Limit: 5}
	refs := []store.Ref{{Tenant: "tenant", ID: "plain"}, {Tenant: "tenant", ID: "again", Generations: true}}
	return map[string]func(context.Context, records) error{
		"read": func(ctx context.Context, r records) error { _, err := r.Read(ctx, refs); return err },
		"get": func(ctx context.Context, r records) error {
			_, _, err := r.Get(ctx, stored("plain", 0).Key)
			return err
		},
		"seen": func(ctx context.Context, r records) error { _, err := r.Seen(ctx, refs); return err },
		"by subject": func(ctx context.Context, r records) error {
			_, _, err := r.BySubject(ctx, "tenant", "bob", page)
			return err
		},
		"degraded": func(ctx context.Context, r records) error {
			_, _, err := r.Degraded(ctx, "us-east-1", page)
			return err
		},
		"count":   func(ctx context.Context, r records) error { _, _, err := r.CountDegraded(ctx, 5); return err },
		"expired": func(ctx context.Context, r records) error { _, _, err := r.Expired(ctx, 1000, page); return err },
		"swept":   func(ctx context.Context, r records) error { _, _, err := r.Swept(ctx, page); return err },
		"scan": func(ctx context.Context, r records) error {
			_, _, err := r.Store.Scan(ctx, store.Part{Segments: 1}, page)
			return err
		},
		"beats": func(ctx context.Context, r records) error { _, err := r.Beats(ctx); return err },
	}
}

func writes() map[string]func(context.Context, records) error {
	fresh := func(id string) store.New { return store.New{Record: stored(id, 0), Fresh: true} }
	return map[string]func(context.Context, records) error{
		"insert": func(ctx context.Context, r records) error {
			_, err := r.Insert(ctx, []store.New{{Record: stored("new", 0), Links: []string{"ann"}}, fresh("a"), fresh("b")})
			return err
		},
		"insert one": func(ctx context.Context, r records) error {
			_, err := r.Insert(ctx, []store.New{fresh("a")})
			return err
		},
		"bury": func(ctx context.Context, r records) error { return r.Bury(ctx, []store.Key{stored("plain", 0).Key}) },
		"replace": func(ctx context.Context, r records) error {
			old := stored("again", 1)
			next := *old
			next.Message = []byte("next")
			return r.Replace(ctx, old, &next)
		},
		"delete": func(ctx context.Context, r records) error { return r.Delete(ctx, []store.Key{stored("swept", 0).Key}) },
		"beat":   func(ctx context.Context, r records) error { return r.Beat(ctx, "us-east-1", 2) },
	}
}

// G1, G9: whichever call fails, the operation does, and is not taken for one
// that found nothing or wrote everything.
func TestStoreSaysWhenACallFails(t *testing.T) {
	for _, ops := range []map[string]func(context.Context, records) error{reads(), writes()} {
		for name, op := range ops {
			r := newRecords(t)
			if err := op(t.Context(), r); err != nil || r.calls.Load() == 0 {
				t.Fatalf("%s: %d calls, %v", name, r.calls.Load(), err)
			}
			for n := range r.calls.Load() {
				r := newRecords(t)
				r.fail = n + 1
				if err := op(t.Context(), r); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s: call %d failed: %v", name, n+1, err)
				}
			}
		}
	}
}

// G9: an item that cannot be read is an error of every operation that meets
// it, and not an outage.
func TestStoreSaysWhenAnItemCannotBeRead(t *testing.T) {
	without := func(attribute string) func(dynamo.Item) {
		return func(item dynamo.Item) { delete(item, attribute) }
	}
	renamed := func(attribute, to string) func(dynamo.Item) {
		return func(item dynamo.Item) { item[attribute] = dynamo.String(to) }
	}
	all := slices.Sorted(maps.Keys(reads()))
	for _, c := range []struct {
		what  string
		twist func(dynamo.Item)
		of    []string
	}{
		{"no sort key", without("sk"), all},
		{"another kind", renamed("sk", "Z#00000000"), all},
		{"a short sort key", renamed("sk", "R#0"), all},
		{"another's generation", renamed("sk", "R#0000000g"), all},
		{"no tenant", renamed("pk", "x"), all},
		{"no record id", renamed("pk", "tenant#"), all},
		{"another record", renamed("pk", "tenant#other"), []string{"read"}},
		{"another generation", renamed("sk", "R#00000007"), []string{"read"}},
		{"a tombstone without its time", without("at"), []string{"seen", "swept", "beats"}},
		{"no version", without("v"), []string{"get", "read", "beats"}},
		{"another version", func(item dynamo.Item) { item["v"] = dynamo.Int(2) }, []string{"get", "read", "beats"}},
		{"another's heartbeat", renamed("pk", "#beat"), []string{"beats"}},
		{"a nameless heartbeat", renamed("sk", "H#"), []string{"beats"}},
		{"no epoch", without("epoch"), []string{"get", "read", "scan"}},
		{"no home", without("home"), []string{"get", "read"}},
		{"no gap", without("gap"), []string{"degraded", "count"}},
		{"a gap without its shard", renamed("gap", "us-east-1"), []string{"get"}},
		{"gaps that are not sorted", renamed("gap", "b,a#00"), []string{"get"}},
		{"another tenant's subject", renamed("subject", "other#ann"), []string{"get"}},
		{"no subject", renamed("subject", "tenant#"), []string{"get"}},
		{"an end that is no time", renamed("expires", "x"), []string{"get", "read", "expired", "scan"}},
		{"no time to look", without("due"), []string{"swept"}},
	} {
		for _, name := range c.of {
			r := newRecords(t)
			r.twist = c.twist
			if err := reads()[name](t.Context(), r); !errors.Is(err, dynamo.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %s: %v", c.what, name, err)
			}
		}
	}
	r := newRecords(t)
	r.twist = without("sk")
	for name, err := range map[string]error{
		"delete": r.Delete(t.Context(), []store.Key{stored("swept", 0).Key}),
		"insert": func() error { _, err := r.Insert(t.Context(), []store.New{{Record: stored("swept", 0)}}); return err }(),
	} {
		if !errors.Is(err, dynamo.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What has no encoding, and what was not given out as a cursor, is refused
// before anything is asked; what is just short enough is taken.
func TestStoreRefuses(t *testing.T) {
	r := newRecords(t)
	ctx, long, full := t.Context(), strings.Repeat("x", 256), strings.Repeat("x", 255)
	page := store.Page{Limit: 1}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) || r.calls.Load() != 0 {
			t.Errorf("%s: %v, after %d calls", what, err, r.calls.Load())
		}
		r.calls.Store(0)
	}
	for _, bad := range []string{"", long, "a#b"} {
		for _, key := range []store.Key{{Tenant: bad, ID: "x"}, {Tenant: "tenant", ID: bad}} {
			ref := []store.Ref{{Tenant: key.Tenant, ID: key.ID}}
			_, err := r.Read(ctx, ref)
			refused("read", err)
			_, err = r.Seen(ctx, ref)
			refused("seen", err)
			_, _, err = r.Get(ctx, key)
			refused("get", err)
			refused("bury", r.Bury(ctx, []store.Key{key}))
			refused("delete", r.Delete(ctx, []store.Key{key}))
			record := stored("x", 0)
			record.Key = key
			_, err = r.Insert(ctx, []store.New{{Record: record}})
			refused("insert", err)
		}
		_, _, err := r.BySubject(ctx, bad, "ann", page)
		refused("by subject", err)
		_, _, err = r.BySubject(ctx, "tenant", bad, page)
		refused("by subject", err)
		refused("beat", r.Beat(ctx, bad, 1))
		_, err = r.Insert(ctx, []store.New{{Record: stored("x", 0), Links: []string{bad}}})
		refused("link", err)
	}
	for name, change := range map[string]func(*store.Record){
		"type": func(r *store.Record) { r.Type = "" }, "home": func(r *store.Record) { r.Home = "" }, "message": func(r *store.Record) { r.Message = nil },
		"subject": func(r *store.Record) { r.Subject = "a#b" }, "regions": func(r *store.Record) { r.Missing = []string{"b", "a"} },
		"region twice": func(r *store.Record) { r.Missing = []string{"a", "a"} }, "no region": func(r *store.Record) { r.Missing = []string{""} },
		"two in one": func(r *store.Record) { r.Missing = []string{"a,b"} }, "17 regions": func(r *store.Record) { r.Missing = strings.Split("abcdefghijklmnopq", "") },
	} {
		bad := stored("x", 0)
		change(bad)
		_, err := r.Insert(ctx, []store.New{{Record: bad}})
		refused(name, err)
		refused(name, r.Replace(ctx, stored("x", 0), bad))
		refused(name, r.Replace(ctx, bad, stored("x", 0)))
	}
	_, err := r.Insert(ctx, []store.New{{}})
	refused("no record", err)
	refused("another's key", r.Replace(ctx, stored("x", 0), stored("x", 1)))

	part := store.Part{Segments: 1}
	foreign := map[string]bool{"": true, "!": true, "eA": true, "eAB4AHgAeA": true, "AHgAeAB4": true, "eAAA": true}
	for cursor := range foreign {
		after := store.Page{Limit: 1, After: cursor}
		if cursor == "" {
			after.Limit = 0
		}
		_, _, err := r.BySubject(ctx, "tenant", "ann", after)
		refused("by subject "+cursor, err)
		_, _, err = r.Degraded(ctx, "us-east-1", after)
		refused("degraded "+cursor, err)
		_, _, err = r.Expired(ctx, 1000, after)
		refused("expired "+cursor, err)
		_, _, err = r.Swept(ctx, after)
		refused("swept "+cursor, err)
		_, _, err = r.Store.Scan(ctx, part, after)
		refused("scan "+cursor, err)
	}
	for _, part := range []store.Part{{}, {Segment: -1, Segments: 1}, {Segment: 1, Segments: 1}} {
		_, _, err := r.Store.Scan(ctx, part, page)
		refused("segment", err)
	}

	whole := stored(full, 0)
	whole.Tenant, whole.Type, whole.Home, whole.Subject, whole.Missing = full, full, full, full, strings.Split("abcdefghijklmnop", "")
	if _, err := r.Insert(ctx, []store.New{{Record: whole, Links: []string{full}}}); err != nil {
		t.Errorf("255 bytes, 16 regions: %v", err)
	}
	if got, _, err := r.Get(ctx, whole.Key); err != nil || got.Subject != full || len(got.Missing) != 16 {
		t.Errorf("255 bytes, 16 regions: %v %v", got, err)
	}
}

// A page may have one row, and the next begins behind it.
func TestStorePagesOfOne(t *testing.T) {
	r := newRecords(t)
	for _, id := range []string{"p", "q"} {
		n := stored(id, 0)
		n.Missing, n.Expires, n.Subject = []string{"us-east-1"}, 500, "ann"
		if _, err := r.Insert(t.Context(), []store.New{{Record: n}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Bury(t.Context(), []store.Key{n.Key}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		want int
		list func(store.Page) ([]store.Key, string, error)
	}{
		"by subject": {3, func(p store.Page) ([]store.Key, string, error) { return r.BySubject(t.Context(), "tenant", "ann", p) }},
		"degraded":   {3, func(p store.Page) ([]store.Key, string, error) { return r.Degraded(t.Context(), "us-east-1", p) }},
		"expired":    {3, func(p store.Page) ([]store.Key, string, error) { return r.Expired(t.Context(), 1000, p) }},
		"swept":      {3, func(p store.Page) ([]store.Key, string, error) { return r.Swept(t.Context(), p) }},
	} {
		seen := map[store.Key]bool{}
		page := store.Page{Limit: 1}
		for range 10 {
			keys, next, err := c.list(page)
			if err != nil || len(keys) > 1 {
				t.Fatalf("%s: %v %v", name, keys, err)
			}
			for _, k := range keys {
				if seen[k] {
					t.Errorf("%s: %v twice", name, k)
				}
				seen[k] = true
			}
			if page.After = next; next == "" {
				break
			}
		}
		if len(seen) != c.want || page.After != "" {
			t.Errorf("%s: %d keys, want %d", name, len(seen), c.want)
		}
	}
}
