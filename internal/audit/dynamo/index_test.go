package dynamo_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/dynamo"
)

// replicate copies what a region's audit table has of a log to another's,
// blocks in the order given, as replication does: without conditions.
func replicate(t *testing.T, from, to *table, log audit.LogName, numbers ...uint64) {
	t.Helper()
	err := from.Blocks(t.Context(), log, func(number uint64, block []byte) error {
		if slices.Contains(numbers, number) {
			to.write(t, auditdynamo.BlockKey(log, number), slices.Clone(block))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = from.Claims(t.Context(), func(of audit.LogName, claim []byte) error {
		if of != log {
			return nil
		}
		item := dynamo.Item{"pk": dynamo.String("claims"), "sk": dynamo.String(fmt.Sprintf("%s/%s/%020d", of.Region, of.Instance, of.Epoch)), "claim": dynamo.Bytes(claim)}
		return to.Client.BatchWrite(t.Context(), tableName, []dynamo.Write{{Put: item}})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func found(t *testing.T, l *auditdynamo.Log) (ids []string) {
	t.Helper()
	all, next, err := l.Query(t.Context(), audit.Query{Tenant: "t", Limit: 100})
	if err != nil || next != "" {
		t.Fatalf("query: %q %v", next, err)
	}
	for _, f := range all {
		ids = append(ids, f.Entry.RequestID)
	}
	slices.Sort(ids)
	return ids
}

func eventually(t *testing.T, l *auditdynamo.Log, want ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for diff := "?"; diff != ""; time.Sleep(10 * time.Millisecond) {
		if diff = cmp.Diff(want, found(t, l)); diff != "" && time.Now().After(deadline) {
			t.Fatal(diff)
		}
	}
}

// Logs of other regions are indexed as their blocks arrive, in any order: what
// is behind a hole shows once the hole is filled.
func TestReplicatedLogsAreIndexed(t *testing.T) {
	home, away := newTable(t), newTable(t)
	writer := home.openLog(t, "b")
	for n := range 4 {
		if err := appendOne(t.Context(), writer, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	replicate(t, home, away, writer.Name(), 0, 1, 2, 4)
	reader := away.openLog(t, "a")
	eventually(t, reader, "0", "1")
	replicate(t, home, away, writer.Name(), 3)
	eventually(t, reader, "0", "1", "2", "3")
}

// What a process left unindexed its successor indexes, once its lease is over.
func TestACrashedIndexIsCompleted(t *testing.T) {
	tab := newTable(t)
	first := tab.openLog(t, "a")
	if err := appendOne(t.Context(), first, "0"); err != nil {
		t.Fatal(err)
	}
	first.Close()
	// As if it had crashed before its index was written.
	progress := auditdynamo.ProgressKey(first.Name()).Item()
	progress["next"], progress["holder"], progress["until"] = dynamo.Uint(0), dynamo.String("gone"), dynamo.Int(time.Now().Add(time.Second).UnixMilli())
	var writes []dynamo.Write
	err := tab.Client.Query(t.Context(), dynamo.Query{
		Table: indexName, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(dynamo.Read(auditdynamo.IndexRow(first.Name(), "t", "a", [3]uint64{1, 1, 1})).String("pk"))},
	}, func(item dynamo.Item) (bool, error) {
		writes = append(writes, dynamo.Write{Delete: dynamo.Read(item).Key()})
		return true, nil
	})
	if err != nil || len(writes) == 0 {
		t.Fatal(len(writes), err)
	}
	if err := tab.Client.BatchWrite(t.Context(), indexName, append(writes, dynamo.Write{Put: progress})); err != nil {
		t.Fatal(err)
	}
	second := tab.openLog(t, "a")
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, _, err := second.Query(t.Context(), audit.Query{Tenant: "t", Actor: "a", Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 1 && got[0].Log == first.Name().String() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %v", got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Index rows are believed nothing: forged ones show no entry that is not there
// or not asked for.
func TestForgedRowsShowNothing(t *testing.T) {
	tab := newTable(t)
	l := tab.openLog(t, "a")
	if err := appendOne(t.Context(), l, "0"); err != nil {
		t.Fatal(err)
	}
	for _, forged := range [][3]uint64{{1, 1, 1}, {1, 0, 0}, {1, 7, 1}, {1, 1, 9}, {2, 1, 1}} {
		row := auditdynamo.IndexRow(l.Name(), "u", "a", forged)
		if err := tab.Client.BatchWrite(t.Context(), indexName, []dynamo.Write{{Put: row}}); err != nil {
			t.Fatal(err)
		}
		got, _, err := l.Query(t.Context(), audit.Query{Tenant: "u", Actor: "a", Limit: 10})
		if err != nil || len(got) != 0 {
			t.Errorf("forged %v: %v %v", forged, got, err)
		}
	}
}

func TestIndexRowProperty(t *testing.T) {
	log := audit.LogName{Region: "eu-west-1", Instance: "a", Epoch: 1 << 63}
	rapid.Check(t, func(t *rapid.T) {
		sec := rapid.Int64Range(-1<<40, 1<<40).Draw(t, "second")
		var places [][3]uint64
		index, block := rapid.Uint64Max(1<<60).Draw(t, "index"), rapid.Uint64Max(1<<60).Draw(t, "block")
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			ms := rapid.Int64Range(0, 999).Draw(t, "ms")
			places = append(places, [3]uint64{uint64(sec*1000 + ms), index, block})
			index += 1 + rapid.Uint64Max(1000).Draw(t, "index")
			block += rapid.Uint64Max(2).Draw(t, "block")
		}
		got, err := auditdynamo.ParseRow(auditdynamo.IndexRow(log, "t", "a", places...))
		if diff := cmp.Diff(places, got); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}

func FuzzIndexRow(f *testing.F) {
	row := dynamo.Read(auditdynamo.IndexRow(audit.LogName{Region: "r", Instance: "i", Epoch: 1}, "t", "a", [3]uint64{1, 2, 3}, [3]uint64{1, 4, 3}))
	f.Add(row.String("sk"), row.Bytes("p"))
	f.Add("8000000000000000#r/i/1#2", []byte("x"))
	f.Fuzz(func(t *testing.T, sk string, b []byte) {
		item := dynamo.Item{"pk": dynamo.String("a#x"), "sk": dynamo.String(sk), "p": dynamo.Bytes(b)}
		places, err := auditdynamo.ParseRow(item)
		if err != nil {
			if !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("error without a sentinel: %v", err)
			}
			return
		}
		if want := (len(b) - 8) / 4; len(places) > want {
			t.Errorf("%d places of %d bytes, first block %d", len(places), len(b), binary.BigEndian.Uint64(b))
		}
	})
}

// A span that ends seconds before it begins holds nothing, and DynamoDB, which
// refuses such a condition, is not asked.
func TestAReversedSpanHoldsNothing(t *testing.T) {
	tab := newTable(t)
	l := tab.openLog(t, "a")
	if err := appendOne(t.Context(), l, "0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, l, "0")
	page, next, err := l.Query(t.Context(), audit.Query{Tenant: "t", From: 9_000, To: 1, Limit: 10})
	if err != nil || len(page) != 0 || next != "" {
		t.Errorf("%+v, cursor %q, %v", page, next, err)
	}
}
