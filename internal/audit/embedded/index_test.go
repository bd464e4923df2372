package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/audit"
	"piivault/internal/audit/embedded"
	"piivault/internal/wal"
)

// found follows the cursors of a query to its end.
func found(tb testing.TB, r audit.Reader, q audit.Query) (ids []string) {
	tb.Helper()
	q.Limit = audit.MaxLimit
	for {
		page, next, err := r.Query(tb.Context(), q)
		if err != nil {
			tb.Fatal(err)
		}
		for _, f := range page {
			ids = append(ids, f.Entry.RequestID)
		}
		if next == "" {
			return ids
		}
		q.Cursor = next
	}
}

func newest() audit.Query { return audit.Query{Tenant: "t"} }

// ship copies what from wrote to a region, in a random order, as replication
// may; only items that keep selects.
func ship(tb testing.TB, from, to *wal.Engine, keep func(wal.Change) bool) {
	tb.Helper()
	changes, err := from.Outbox(0, math.MaxInt)
	if err != nil {
		tb.Fatal(err)
	}
	changes = slices.DeleteFunc(changes, func(c wal.Change) bool { return !keep(c) })
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	for c := range slices.Chunk(changes, 7) {
		replicas, err := from.Export(context.Background(), c)
		if err != nil {
			tb.Fatal(err)
		}
		if err := to.Apply(context.Background(), replicas); err != nil {
			tb.Fatal(err)
		}
	}
}

func isBlock(c wal.Change) bool { return c.Key[0] == 'b' }

func everything(wal.Change) bool { return true }

// forget deletes all index rows, as a crash may.
func forget(t *testing.T, e *wal.Engine) {
	t.Helper()
	var rows []wal.KV
	err := e.ScanLocal([]byte{embedded.LocalPrefix}, []byte{embedded.LocalPrefix + 1}, false, func(key, _ []byte) (bool, error) {
		rows = append(rows, wal.KV{Key: slices.Clone(key)})
		return true, nil
	})
	if err == nil {
		err = e.SetLocalBatch(rows)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An entry is visible within a second of being durable: one appended here, one
// that was replicated, and those of an earlier life whose rows a crash lost.
func TestVisibleWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := newTable(t, "eu-west-1"), newTable(t, "us-east-1")
		l, far := here.openLog(t, "a"), there.openLog(t, "a")
		for n := range 30 {
			add(t, l, fmt.Sprint("near.", n))
			add(t, far, fmt.Sprint("far.", n))
		}
		time.Sleep(time.Second)
		if n := len(found(t, l, newest())); n != 30 {
			t.Errorf("%d of 30 entries after a second", n)
		}
		ship(t, there.Engine, here.Engine, everything)
		time.Sleep(time.Second)
		if n := len(found(t, l, newest())); n != 60 {
			t.Errorf("%d of 60 entries a second after replication", n)
		}
		add(t, l, "last")
		l.Close()
		forget(t, here.Engine)
		if n := len(found(t, l, newest())); n != 0 {
			t.Errorf("%d entries without an index", n)
		}
		next := here.openLog(t, "a")
		time.Sleep(time.Second)
		if n := len(found(t, next, newest())); n != 61 {
			t.Errorf("%d of 61 entries a second after the restart", n)
		}
	})
}

// Blocks that arrive before earlier ones are indexed at once, and the earlier
// ones when they come, in however many pieces.
func TestBlocksArriveOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := newTable(t, "eu-west-1"), newTable(t, "us-east-1")
		l, far := here.openLog(t, "a"), there.openLog(t, "a")
		const blocks = 4 * embedded.MaxSpans // every second one missing: more spans than are kept
		for n := range blocks {
			add(t, far, fmt.Sprint(n))
		}
		odd := func(c wal.Change) bool { return !isBlock(c) || binary.BigEndian.Uint64(c.Key[len(c.Key)-8:])%2 == 1 }
		ship(t, there.Engine, here.Engine, odd)
		time.Sleep(time.Second)
		if n := len(found(t, l, newest())); n != blocks/2 {
			t.Errorf("%d entries of the %d blocks that came", n, blocks/2)
		}
		if n, err := embedded.Spans(here.Engine, far.Name()); err != nil || n > embedded.MaxSpans {
			t.Errorf("progress of %d spans, %v", n, err)
		}
		l.Close()
		l = here.openLog(t, "a") // goes on from the stored progress
		ship(t, there.Engine, here.Engine, everything)
		time.Sleep(time.Second)
		if n := len(found(t, l, newest())); n != blocks {
			t.Errorf("%d of %d entries", n, blocks)
		}
	})
}

// What is not durable is not shown, though the engine lets it be read.
func TestOnlyDurableEntriesAreIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTable(t, "eu-west-1")
		l := tab.openLog(t, "a")
		until := make(chan struct{})
		tab.slow.Store(&until)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := l.Append([]audit.Entry{entryOf("x")}).Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Second)
		if _, err := tab.Engine.Get(embedded.TableID, embedded.BlockKey(l.Name(), 1)); err != nil {
			t.Errorf("the block cannot be read: %v", err)
		}
		if got := found(t, l, newest()); len(got) != 0 {
			t.Errorf("found %q during the fsync", got)
		}
		tab.slow.Store(nil)
		close(until)
		<-done
		time.Sleep(time.Second)
		if got := found(t, l, newest()); len(got) != 1 {
			t.Errorf("found %q after it", got)
		}
	})
}

// Blocks past what the next epoch's claim lets count are void.
func TestVoidBlocksAreNotIndexed(t *testing.T) {
	here, there := newTable(t, "eu-west-1"), newTable(t, "us-east-1")
	l, far := here.openLog(t, "a"), there.openLog(t, "a")
	add(t, far, "kept")
	head, err := audit.VerifyLog(t.Context(), there, far.Name())
	if err != nil {
		t.Fatal(err)
	}
	add(t, far, "void")
	claim := audit.Claim{Log: far.Name(), PreviousBlocks: head.Blocks, PreviousSize: head.Size, PreviousRoot: head.Root}
	claim.Log.Epoch++
	item, err := audit.AppendClaim(nil, &claim)
	if err != nil {
		t.Fatal(err)
	}
	put(t, there.Engine, embedded.ClaimKey(claim.Log), item)
	ship(t, there.Engine, here.Engine, everything)
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	if got := found(t, l, newest()); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("found %q", got)
	}
}

// Reindex builds the same rows from the blocks alone, whatever was there.
func TestReindex(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	for n := range 20 {
		add(t, l, fmt.Sprint(n), fmt.Sprint(n, "'"))
	}
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	want, err := embedded.Rows(tab.Engine)
	if err != nil || want['t'] != 1 || want['a'] != 1 || want['r'] != 1 || want['s'] != 1 || want['p'] != 1 {
		t.Fatalf("rows by kind: %v, %v", want, err)
	}
	if n, err := embedded.Postings(tab.Engine, 'r', "t", "r"); n != 40 || err != nil {
		t.Fatalf("%d postings of the record, %v", n, err)
	}
	forget(t, tab.Engine)
	nonsense := []wal.KV{{Key: []byte{embedded.LocalPrefix, 't', 1}, Value: []byte("nonsense")}}
	if err := tab.Engine.SetLocalBatch(nonsense); err != nil {
		t.Fatal(err)
	}
	if n := len(found(t, l, audit.Query{Tenant: "t", Record: "r"})); n != 0 {
		t.Fatalf("%d entries by an index without rows", n)
	}
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	if got, err := embedded.Rows(tab.Engine); err != nil || !maps.Equal(got, want) {
		t.Errorf("rows by kind: %v, %v; want %v", got, err, want)
	}
	if n := len(found(t, l, audit.Query{Tenant: "t", Record: "r"})); n != 40 {
		t.Errorf("%d of 40 entries", n)
	}
}

// A row is never believed: one that points to another entry, to none, or to
// another tenant's adds nothing.
func TestForgedRowsShowNothing(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	secret := entryOf("secret")
	secret.Tenant, secret.Actor = "u", "key_2"
	r, err := l.Append([]audit.Entry{entryOf("x"), secret}).Wait(t.Context())
	if err == nil {
		err = l.Reindex()
	}
	if err != nil {
		t.Fatal(err)
	}
	forged := embedded.ActorRows(l.Name(), "t", "key_1",
		embedded.Claimed{Time: 1, Index: 0, Block: 0},              // the claim
		embedded.Claimed{Time: 1, Index: r.First + 1, Block: 1},    // the other tenant's entry
		embedded.Claimed{Time: 7, Index: r.First, Block: 1},        // the entry at another time
		embedded.Claimed{Time: 1000, Index: r.First, Block: 1},     // the entry in another second
		embedded.Claimed{Time: 1, Index: 98, Block: 1},             // no leaf
		embedded.Claimed{Time: 1, Index: 99, Block: math.MaxInt64}, // no block
	)
	forged = append(forged, embedded.ActorRows(l.Name(), "t", "key_3", embedded.Claimed{Time: 1, Index: r.First, Block: 1})...)
	if len(forged) != 3 {
		t.Fatalf("%d rows", len(forged))
	}
	if err := tab.Engine.SetLocalBatch(forged); err != nil {
		t.Fatal(err)
	}
	if got := found(t, l, audit.Query{Tenant: "t", Actor: "key_1"}); !slices.Equal(got, []string{"x"}) {
		t.Errorf("found %q", got)
	}
	if got := found(t, l, audit.Query{Tenant: "t", Actor: "key_3"}); len(got) != 0 {
		t.Errorf("found %q", got)
	}
}

// A call that has looked at enough rows gives a cursor, and the cursors lead
// to what there is.
func TestAQueryIsBounded(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	needle := entryOf("needle")
	needle.Purpose = "rare"
	entries := []audit.Entry{needle}
	for n := range embedded.MaxExamined {
		e := entryOf("hay")
		e.Time = int64(2 + n)
		entries = append(entries, e)
	}
	if _, err := l.Append(entries).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	q := audit.Query{Tenant: "t", Purpose: "rare", Limit: 1}
	page, next, err := l.Query(t.Context(), q)
	if err != nil || len(page) != 0 || next == "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
	if got := found(t, l, q); !slices.Equal(got, []string{"needle"}) {
		t.Errorf("found %q", got)
	}
}

// A call that went through enough of an index gives a cursor too, though it
// found nothing to read.
func TestAQueryScansABoundedIndex(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	add(t, l, "x")
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	others := make([]byte, 8+10*(embedded.MaxScanned*2/3/10)) // postings of another value
	for _, ms := range []uint64{5000, 6000} {
		row := embedded.ActorRows(l.Name(), "t", "key_1", embedded.Claimed{Time: ms, Index: ms})[0]
		if err := tab.Engine.SetLocalBatch([]wal.KV{{Key: row.Key, Value: others}}); err != nil {
			t.Fatal(err)
		}
	}
	q := audit.Query{Tenant: "t", Actor: "key_1", Limit: 1}
	page, next, err := l.Query(t.Context(), q)
	if err != nil || len(page) != 0 || next == "" {
		t.Errorf("%d entries, cursor %q, %v", len(page), next, err)
	}
	if got := found(t, l, q); !slices.Equal(got, []string{"x"}) {
		t.Errorf("found %q", got)
	}
}

func TestQueryFaults(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	add(t, l, "x")
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	q := audit.Query{Tenant: "t", Limit: 1}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Query(ctx, q); !errors.Is(err, context.Canceled) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("with a cancelled context: %v", err)
	}
	tab.Rewrite(t, l.Name(), 1, func(b []byte) []byte { return b[:len(b)-1] })
	if _, _, err := l.Query(t.Context(), q); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("of a corrupt block: %v", err)
	}
	if err := tab.Engine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Query(t.Context(), q); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("of a closed engine: %v", err)
	}
}

// Indexing what is indexed already shows nothing twice.
func TestIndexingTwiceShowsEntriesOnce(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	add(t, l, "x", "y", "z")
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	again := embedded.ActorRows(l.Name(), "t", "key_1", embedded.Claimed{Time: 1, Index: 2, Block: 1})
	if err := tab.Engine.SetLocalBatch(again); err != nil {
		t.Fatal(err)
	}
	if n, err := embedded.Postings(tab.Engine, 'a', "t", "key_1"); n != 4 || err != nil {
		t.Fatalf("%d postings, %v", n, err)
	}
	if got := found(t, l, audit.Query{Tenant: "t", Actor: "key_1"}); !slices.Equal(got, []string{"z", "y", "x"}) {
		t.Errorf("found %q", got)
	}
}

// Entries whose values share a bucket, or a second, are told apart.
func TestManyValues(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	const values = 5000
	entries := make([]audit.Entry, values)
	for n := range entries {
		entries[n] = entryOf(fmt.Sprint(n))
		entries[n].Time = int64(n%7) - 3
		entries[n].Actor, entries[n].Record, entries[n].Subject = fmt.Sprint("a", n), fmt.Sprint("r", n), fmt.Sprint("s", n)
	}
	if _, err := l.Append(entries).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Reindex(); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < values; n += 97 {
		for _, q := range []audit.Query{
			{Tenant: "t", Actor: fmt.Sprint("a", n)}, {Tenant: "t", Record: fmt.Sprint("r", n)}, {Tenant: "t", Subject: fmt.Sprint("s", n)},
		} {
			if got := found(t, l, q); !slices.Equal(got, []string{fmt.Sprint(n)}) {
				t.Fatalf("%+v found %q", q, got)
			}
		}
	}
	if n := len(found(t, l, newest())); n != values {
		t.Errorf("%d of %d entries", n, values)
	}
}

func FuzzRow(f *testing.F) {
	log := audit.LogName{Region: "r", Instance: "i", Epoch: 1}
	for _, row := range embedded.ActorRows(log, "t", "a", embedded.Claimed{Time: 1, Index: 2, Block: 3}, embedded.Claimed{Time: 2, Index: 4, Block: 5}) {
		f.Add(row.Key, row.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if err := embedded.FuzzedRow(key, value); err != nil && !errors.Is(err, audit.ErrCorrupt) {
			t.Error(err)
		}
	})
}

// Whatever a progress row holds, indexing goes on: from there, or from the
// start.
func FuzzProgress(f *testing.F) {
	f.Add([]byte{})
	_, fresh := embedded.FuzzedProgress(nil)
	f.Add(fresh)
	f.Add(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9}, fresh[9:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		spans, encoded := embedded.FuzzedProgress(b)
		if string(encoded) != string(b) && string(encoded) != string(fresh) {
			t.Errorf("%x is read as %v", b, spans)
		}
		last := uint64(0)
		for i, s := range spans {
			if s[0] >= s[1] || i > 0 && s[0] <= last {
				t.Errorf("%x has spans out of order: %v", b, spans)
			}
			last = s[1]
		}
		if last != math.MaxUint64 {
			t.Errorf("%x leaves out the rest of the log: %v", b, spans)
		}
	})
}
