package wal_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"piivault/internal/wal"
)

// regional opens an engine of a region in memory, with a clock of its own.
func regional(tb testing.TB, fs vfs.FS, region string, now func() time.Time) *wal.Engine {
	tb.Helper()
	o := memOptions(fs)
	o.Region, o.Now = region, now
	e, err := wal.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// world is a few regions that write at will and ship when told to.
type world struct {
	t       *rapid.T
	now     int64
	engines []*wal.Engine
	cursor  []uint64
	flying  []flight // exported, not applied yet
}

type flight struct {
	to       int
	replicas []wal.Replica
}

func (w *world) region() int { return rapid.IntRange(0, len(w.engines)-1).Draw(w.t, "region") }

// write changes one of a few keys; the clock may stand still or step back.
func (w *world) write() {
	w.now += rapid.Int64Range(-3, 3).Draw(w.t, "step")
	key := []byte(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "key"))
	value := rapid.SampledFrom([]string{"", "x1", "x2", "y", "delete"}).Draw(w.t, "value")
	err := w.engines[w.region()].Submit(func(tx *wal.Tx) error {
		if value == "delete" {
			tx.Delete(table, key)
		} else {
			tx.Put(table, key, []byte(value))
		}
		return nil
	}).Wait(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
}

// export ships a part of a region's outbox to all others; what was written
// twice meanwhile travels once, as it is now.
func (w *world) export(from, limit int) (n int) {
	changes, err := w.engines[from].Outbox(w.cursor[from], limit)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(changes) == 0 {
		return 0
	}
	replicas, err := w.engines[from].Export(w.t.Context(), changes)
	if err != nil {
		w.t.Fatal(err)
	}
	w.cursor[from] = changes[len(changes)-1].Seq
	for to := range w.engines {
		if to != from {
			w.flying = append(w.flying, flight{to, replicas})
		}
	}
	return len(changes)
}

// land applies any shipment, perhaps not for the last time.
func (w *world) land() {
	if len(w.flying) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.flying)-1).Draw(w.t, "flight")
	f := w.flying[i]
	replicas := rapid.Permutation(f.replicas).Draw(w.t, "order")
	if err := w.engines[f.to].Apply(w.t.Context(), replicas); err != nil {
		w.t.Fatal(err)
	}
	if rapid.Bool().Draw(w.t, "once") {
		w.flying = slices.Delete(w.flying, i, i+1)
	}
}

// quiesce ships and lands all there is.
func (w *world) quiesce() {
	for from := range w.engines {
		for w.export(from, 100) > 0 {
		}
	}
	for _, f := range w.flying {
		if err := w.engines[f.to].Apply(w.t.Context(), f.replicas); err != nil {
			w.t.Fatal(err)
		}
	}
}

// G2, G9: whatever order writes travel in, regions end with the same items
// and derived rows, and the rows are those of the items.
func TestRegionsConverge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: rt, now: 1_700_000_000}
		for _, region := range []string{"eu-west-1", "us-east-1", "ap-south-1"} {
			e := regional(t, vfs.NewMem(), region, func() time.Time { return time.Unix(0, w.now) })
			defer func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}()
			w.engines = append(w.engines, e)
		}
		w.cursor = make([]uint64, len(w.engines))
		rt.Repeat(map[string]func(*rapid.T){
			"write":  func(*rapid.T) { w.write() },
			"write2": func(*rapid.T) { w.write() },
			"export": func(*rapid.T) { w.export(w.region(), rapid.IntRange(1, 5).Draw(rt, "limit")) },
			"land":   func(*rapid.T) { w.land() },
		})
		w.quiesce()
		items, rows := dump(t, w.engines[0])
		var want []string
		for k, v := range items {
			if v != "" {
				want = append(want, fmt.Sprintf("%c/%s", v[0], k))
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, rows); diff != "" {
			rt.Errorf("derived rows: %s", diff)
		}
		for _, e := range w.engines[1:] {
			i, r := dump(t, e)
			if diff := cmp.Diff(items, i) + cmp.Diff(rows, r); diff != "" {
				rt.Errorf("regions differ: %s", diff)
			}
		}
	})
}

func TestApply(t *testing.T) {
	clock := func(ns int64) func() time.Time { return func() time.Time { return time.Unix(0, ns) } }
	a, b := regional(t, vfs.NewMem(), "a", clock(1000)), regional(t, vfs.NewMem(), "b", clock(10))
	defer func() {
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}()
	do(t, a, put("k", "x"))
	select {
	case <-a.Changed():
	default:
		t.Error("a commit with outbox rows was not signalled")
	}
	changes, err := a.Outbox(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	replicas, err := a.Export(t.Context(), append(changes, changes...))
	if err != nil || len(replicas) != 1 {
		t.Fatalf("%d replicas, %v", len(replicas), err)
	}
	if err := b.Apply(t.Context(), replicas); err != nil {
		t.Fatal(err)
	}
	if left, err := b.Outbox(0, 10); err != nil || len(left) != 0 {
		t.Errorf("an applied item is exported again: %v %v", left, err)
	}
	select {
	case <-b.Changed():
		t.Error("an applied item was signalled")
	default:
	}
	// b's clock is far behind, yet what it writes after it saw a's item wins.
	do(t, b, put("k", "y"))
	back, err := b.Outbox(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	replicas, err = b.Export(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Apply(t.Context(), replicas); err != nil {
		t.Fatal(err)
	}
	if v, err := a.Get(table, []byte("k")); string(v) != "y" || err != nil {
		t.Errorf("the later write lost: %q %v", v, err)
	}
}

func TestApplyRefusesAsAWhole(t *testing.T) {
	e := regional(t, vfs.NewMem(), "a", time.Now)
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	good := wal.Replica{Table: table, Key: []byte("k"), Item: wal.ItemBytes(false, 1, "b", "x")}
	for name, c := range map[string]struct {
		bad  wal.Replica
		want error
	}{
		"unknown table": {wal.Replica{Table: 'Q', Key: []byte("k"), Item: good.Item}, wal.ErrTable},
		"not an item":   {wal.Replica{Table: table, Key: []byte("l"), Item: []byte{9}}, wal.ErrCorrupt},
		"bad for index": {wal.Replica{Table: table, Key: []byte("l"), Item: wal.ItemBytes(false, 1, "b", "unindexable")}, errUnindexable},
	} {
		if err := e.Apply(t.Context(), []wal.Replica{good, c.bad}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if items, rows := dump(t, e); len(items)+len(rows) > 0 {
		t.Errorf("a part was applied: %v %v", items, rows)
	}
}

func TestAckDropsOutboxRows(t *testing.T) {
	e := open(t, options(t.TempDir()))
	for _, k := range []string{"a", "b", "c"} {
		do(t, e, put(k, "1"))
	}
	if err := e.Ack(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	changes, err := e.Outbox(0, 10)
	if err != nil || len(changes) != 1 || changes[0].Seq != 3 {
		t.Errorf("left %v, %v", changes, err)
	}
	if err := e.Ack(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if _, err := e.Export(t.Context(), []wal.Change{{Table: table, Key: []byte("nothing")}}); !errors.Is(err, wal.ErrNotFound) {
		t.Errorf("export of nothing: %v", err)
	}
}
