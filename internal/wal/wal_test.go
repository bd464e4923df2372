package wal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"piivault/internal/wal"
)

// alone is set for a test that runs in a process of its own.
const alone = "WAL_TEST_ALONE"

func TestMain(m *testing.M) {
	if os.Getenv(alone) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// byFirst indexes items of table T by the first byte of their value.
func byFirst(key, value []byte) ([][]byte, error) {
	if string(value) == "unindexable" {
		return nil, errUnindexable
	}
	if len(value) == 0 {
		return nil, nil
	}
	return [][]byte{append([]byte{value[0], '/'}, key...)}, nil
}

var (
	errUnindexable = errors.New("unindexable")
	errRefused     = errors.New("refused")
)

const table = 'T'

func options(dir string) wal.Options {
	return wal.Options{
		Dir:    dir,
		Region: "eu-west-1",
		Tables: []wal.Table{{ID: table, Index: byFirst}, {ID: 'U'}},
		Outbox: true,
		Logger: zerolog.Nop(),
	}
}

func open(tb testing.TB, o wal.Options) *wal.Engine {
	tb.Helper()
	e, err := wal.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, wal.ErrPoisoned) {
			tb.Errorf("close: %v", err)
		}
	})
	return e
}

func put(key, value string) wal.Op {
	return func(tx *wal.Tx) error { tx.Put(table, []byte(key), []byte(value)); return nil }
}

func do(tb testing.TB, e *wal.Engine, op wal.Op) {
	tb.Helper()
	if err := e.Submit(op).Wait(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// dump lists the table's items and derived rows.
func dump(tb testing.TB, e *wal.Engine) (items map[string]string, rows []string) {
	tb.Helper()
	items = map[string]string{}
	err := errors.Join(
		e.Scan(table, nil, nil, func(k, v []byte) (bool, error) { items[string(k)] = string(v); return true, nil }),
		e.ScanIndex(table, nil, nil, func(row []byte) (bool, error) { rows = append(rows, string(row)); return true, nil }),
	)
	if err != nil {
		tb.Fatal(err)
	}
	return items, rows
}

func TestOpsSeeTheGroupAndFailAlone(t *testing.T) {
	e := open(t, options(t.TempDir()))
	first := e.Submit(put("a", "x1"))
	failed := e.Submit(func(tx *wal.Tx) error {
		if v, ok, err := tx.Get(table, []byte("a")); string(v) != "x1" || !ok || err != nil {
			t.Errorf("an op does not see the op before it: %q %v %v", v, ok, err)
		}
		tx.Put(table, []byte("a"), []byte("y"))
		tx.Put(table, []byte("b"), []byte("y"))
		tx.SetLocal([]byte("l"), []byte("y"))
		if v, _, _ := tx.Get(table, []byte("a")); string(v) != "y" {
			t.Errorf("an op does not see its own write: %q", v)
		}
		return errRefused
	})
	unindexable := e.Submit(func(tx *wal.Tx) error {
		tx.Put(table, []byte("c"), []byte("z"))
		tx.Put(table, []byte("d"), []byte("unindexable"))
		return nil
	})
	last := e.Submit(func(tx *wal.Tx) error {
		if v, _, _ := tx.Get(table, []byte("a")); string(v) != "x1" {
			t.Errorf("a failed op's write is seen: %q", v)
		}
		for _, k := range []string{"b", "c", "d"} {
			if _, ok, _ := tx.Get(table, []byte(k)); ok {
				t.Errorf("a failed op's item %s is seen", k)
			}
		}
		if _, ok, _ := tx.GetLocal([]byte("l")); ok {
			t.Error("a failed op's local row is seen")
		}
		tx.Delete(table, []byte("nothing"))
		return nil
	})
	ctx := t.Context()
	for _, c := range []struct {
		p    *wal.Pending
		want error
	}{{last, nil}, {first, nil}, {failed, errRefused}, {unindexable, errUnindexable}} {
		if err := c.p.Wait(ctx); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	items, rows := dump(t, e)
	if diff := cmp.Diff(map[string]string{"a": "x1"}, items); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x/a"}, rows); diff != "" {
		t.Error(diff)
	}
	changes, err := e.Outbox(0, 10)
	if err != nil || len(changes) != 2 || string(changes[0].Key) != "a" || changes[1].Seq != 2 {
		t.Errorf("outbox: %v %v", changes, err)
	}
	if _, err := e.GetLocal([]byte("l")); !errors.Is(err, wal.ErrNotFound) {
		t.Errorf("local row of a failed op: %v", err)
	}
}

func TestIndexRowsFollowTheItem(t *testing.T) {
	e := open(t, options(t.TempDir()))
	steps := []struct {
		op   wal.Op
		rows []string
	}{
		{put("k", "a"), []string{"a/k"}},
		{put("k", "a2"), []string{"a/k"}},
		{put("k", "b"), []string{"b/k"}},
		{put("k", ""), nil},
		{put("k", "c"), []string{"c/k"}},
		{func(tx *wal.Tx) error { tx.Delete(table, []byte("k")); return nil }, nil},
		{func(tx *wal.Tx) error {
			tx.Put(table, []byte("k"), []byte("d"))
			tx.Put(table, []byte("k"), []byte("e"))
			tx.Delete(table, []byte("k"))
			tx.Put(table, []byte("k"), []byte("f"))
			return nil
		}, []string{"f/k"}},
	}
	for i, s := range steps {
		do(t, e, s.op)
		if _, rows := dump(t, e); !slices.Equal(rows, s.rows) {
			t.Errorf("step %d: rows %q, want %q", i, rows, s.rows)
		}
	}
}

func TestReads(t *testing.T) {
	e := open(t, options(t.TempDir()))
	do(t, e, func(tx *wal.Tx) error {
		for i := range 9 {
			tx.Put(table, fmt.Append(nil, "k", i), fmt.Append(nil, i))
			tx.Put('U', fmt.Append(nil, "k", i), nil)
			tx.SetLocal(fmt.Append(nil, "l", i), fmt.Append(nil, i))
		}
		tx.Delete(table, []byte("k4"))
		tx.DeleteLocal([]byte("l4"))
		return nil
	})
	if v, err := e.Get(table, []byte("k3")); string(v) != "3" || err != nil {
		t.Errorf("get: %q %v", v, err)
	}
	if v, err := e.Get('U', []byte("k3")); len(v) != 0 || err != nil {
		t.Errorf("an empty value: %q %v", v, err)
	}
	for _, k := range []string{"k4", "k9", ""} {
		if _, err := e.Get(table, []byte(k)); !errors.Is(err, wal.ErrNotFound) {
			t.Errorf("get %q: %v", k, err)
		}
	}
	if _, err := e.Get('X', nil); !errors.Is(err, wal.ErrTable) {
		t.Errorf("unknown table: %v", err)
	}
	var many []string
	err := e.GetMany(table, [][]byte{[]byte("k8"), []byte("k4"), []byte("k1"), []byte("k8")}, func(_ int, v []byte) error {
		many = append(many, string(v))
		return nil
	})
	if err != nil || !slices.Equal(many, []string{"8", "", "1", "8"}) {
		t.Errorf("get many: %q %v", many, err)
	}
	if err := e.GetMany(table, [][]byte{{1}, {2}}, func(int, []byte) error { return errRefused }); !errors.Is(err, errRefused) {
		t.Errorf("get many swallows the callback's error: %v", err)
	}
	var local []string
	collect := func(k, _ []byte) (bool, error) { local = append(local, string(k)); return len(local) < 3, nil }
	if err := e.ScanLocal([]byte("l2"), []byte("l7"), true, collect); err != nil || !slices.Equal(local, []string{"l6", "l5", "l3"}) {
		t.Errorf("reverse scan: %q %v", local, err)
	}
	local = nil
	if err := e.ScanLocal([]byte("l3"), []byte("l6"), false, collect); err != nil || !slices.Equal(local, []string{"l3", "l5"}) {
		t.Errorf("scan: %q %v", local, err)
	}
}

// Absent spares a lookup; what the group has written itself stays seen.
func TestAbsentDoesNotHideTheGroup(t *testing.T) {
	e := open(t, options(t.TempDir()))
	e.Submit(put("a", "x"))
	do(t, e, func(tx *wal.Tx) error {
		tx.Absent(table, []byte("a"))
		tx.Absent(table, []byte("b"))
		if v, ok, err := tx.Get(table, []byte("a")); string(v) != "x" || !ok || err != nil {
			t.Errorf("the group's item: %q %v %v", v, ok, err)
		}
		if _, ok, err := tx.Get(table, []byte("b")); ok || err != nil {
			t.Errorf("an absent item: %v %v", ok, err)
		}
		tx.Put(table, []byte("b"), []byte("y"))
		return nil
	})
	if items, rows := dump(t, e); len(items) != 2 || len(rows) != 2 {
		t.Errorf("items %v, rows %v", items, rows)
	}
}

func TestSetLocalBatchSetsAndDeletes(t *testing.T) {
	e := open(t, options(t.TempDir()))
	if err := e.SetLocalBatch([]wal.KV{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	if err := e.SetLocalBatch([]wal.KV{{Key: []byte("a")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.GetLocal([]byte("a")); !errors.Is(err, wal.ErrNotFound) {
		t.Errorf("deleted row: %v", err)
	}
	if v, err := e.GetLocal([]byte("b")); string(v) != "2" || err != nil {
		t.Errorf("row: %q %v", v, err)
	}
}

// One wait commits all that is queued, in one group: a request's audit append
// and record insert cost one fsync.
func TestOneWaitCommitsTheQueueOnce(t *testing.T) {
	e := open(t, options(t.TempDir()))
	groups := 0
	e.BeforeCommit(func(*wal.Tx) func(error) { groups++; return nil })
	ran := 0
	count := func(*wal.Tx) error { ran++; return nil }
	e.Submit(count)
	e.Submit(count)
	p := e.Submit(count)
	if ran != 0 {
		t.Fatal("an op ran before anybody waited")
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if groups != 1 || ran != 3 {
		t.Errorf("%d ops in %d groups, want 3 in 1", ran, groups)
	}
}

// A queue too large for one commit is committed in parts, in order, though
// only the last op is waited for; a small one is not, whatever it says.
func TestALargeQueueIsCommittedInParts(t *testing.T) {
	for _, c := range []struct{ size, groups int }{{300 << 10, 3}, {100 << 10, 1}, {2 << 20, 6}} {
		e := open(t, options(t.TempDir()))
		groups, order := 0, []int{}
		e.BeforeCommit(func(*wal.Tx) func(error) { groups++; return nil })
		var last *wal.Pending
		for i := range 6 {
			last = e.SubmitSized(c.size, func(*wal.Tx) error { order = append(order, i); return nil })
		}
		if err := last.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if groups != c.groups || !slices.Equal(order, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("6 ops of %d bytes: %d groups, want %d; order %v", c.size, groups, c.groups, order)
		}
		p := e.SubmitSized(c.size, put("a", "x"))
		e.SubmitSized(c.size, put("b", "x"))
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("queued at the close: %v", err)
		}
	}
}

func TestHooksWriteIntoTheGroupAndLearnItsFate(t *testing.T) {
	e := open(t, options(t.TempDir()))
	var fate []error
	e.BeforeCommit(func(tx *wal.Tx) func(error) {
		if _, ok, _ := tx.Get(table, []byte("a")); !ok {
			t.Error("the hook does not see the group's op")
		}
		tx.SetLocal([]byte("block"), []byte("1"))
		return func(err error) { fate = append(fate, err) }
	})
	e.BeforeCommit(func(*wal.Tx) func(error) { return nil })
	do(t, e, put("a", "1"))
	if v, err := e.GetLocal([]byte("block")); string(v) != "1" || err != nil {
		t.Errorf("the hook's row: %q %v", v, err)
	}
	if !slices.Equal(fate, []error{nil}) {
		t.Errorf("the hook was told %v", fate)
	}
}

// A hook that fails takes its group with it: nothing is acknowledged without its block.
func TestAFailedHookFailsTheGroup(t *testing.T) {
	e := open(t, options(t.TempDir()))
	var fate error
	fail := true
	e.BeforeCommit(func(tx *wal.Tx) func(error) {
		if fail {
			tx.Put(table, []byte("hook"), []byte("unindexable"))
		}
		return func(err error) { fate = err }
	})
	if err := e.Submit(put("a", "1")).Wait(t.Context()); !errors.Is(err, errUnindexable) || !errors.Is(fate, errUnindexable) {
		t.Errorf("the op got %v, the hook %v", err, fate)
	}
	if items, rows := dump(t, e); len(items)+len(rows) != 0 {
		t.Errorf("something was written: %v %v", items, rows)
	}
	fail = false
	do(t, e, put("b", "1"))
	if changes, err := e.Outbox(0, 10); err != nil || len(changes) != 1 || string(changes[0].Key) != "b" {
		t.Errorf("outbox: %v %v", changes, err)
	}
}

func TestWaitHonoursItsContext(t *testing.T) {
	e := open(t, options(t.TempDir()))
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	p := e.Submit(func(tx *wal.Tx) error { cancel(); <-release; return put("a", "1")(tx) })
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("the op was lost: %v", err)
	}
	if err := p.Wait(ctx); err != nil {
		t.Errorf("a known outcome is better than the context's end: %v", err)
	}
}

func TestCloseCommitsTheQueueAndRefusesLaterCalls(t *testing.T) {
	dir := t.TempDir()
	e := open(t, options(dir))
	p := e.Submit(put("a", "1"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("queued op: %v", err)
	}
	if err := e.Submit(put("b", "1")).Wait(t.Context()); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("submit after close: %v", err)
	}
	if _, err := e.Get(table, []byte("a")); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if items, _ := dump(t, open(t, options(dir))); items["a"] != "1" {
		t.Error("the queued op is gone after reopening")
	}
}

func TestConcurrentOpsAreSerial(t *testing.T) {
	e := open(t, options(t.TempDir()))
	var wg sync.WaitGroup
	const workers, rounds = 16, 20
	for range workers {
		wg.Go(func() {
			for range rounds {
				err := e.Submit(func(tx *wal.Tx) error {
					v, _, err := tx.Get(table, []byte("n"))
					n := 0
					_, _ = fmt.Sscan(string(v), &n)
					tx.Put(table, []byte("n"), fmt.Append(nil, n+1))
					return err
				}).Wait(t.Context())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, err := e.Get(table, []byte("n")); string(v) != fmt.Sprint(workers*rounds) || err != nil {
		t.Errorf("counter %s %v, want %d", v, err, workers*rounds)
	}
}

// Stamps and sequence numbers go on from where they were, though the clock
// steps back between two lives.
func TestStampsAndSequenceNumbersAreNeverReused(t *testing.T) {
	o := options(t.TempDir())
	var stamps []string
	seqs := []uint64{}
	for life := range 3 {
		o.Now = func() time.Time { return time.Unix(1_700_000_000-int64(life)*1000, 0) }
		e := open(t, o)
		for range 3 {
			do(t, e, put("k", "v"))
			changes, err := e.Outbox(0, 10)
			if err != nil || len(changes) != 1 {
				t.Fatal(changes, err)
			}
			replicas, err := e.Export(t.Context(), changes)
			if err != nil {
				t.Fatal(err)
			}
			stamps, seqs = append(stamps, string(replicas[0].Item[2:10])), append(seqs, changes[0].Seq)
			if err := e.Ack(t.Context(), changes[0].Seq); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i < len(stamps); i++ {
		if stamps[i] <= stamps[i-1] || seqs[i] <= seqs[i-1] {
			t.Errorf("write %d: stamp or sequence number did not increase", i)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	e := open(t, options(dir))
	if _, err := wal.Open(options(dir)); !errors.Is(err, wal.ErrLocked) {
		t.Errorf("a second engine: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	other := options(dir)
	other.Region = "us-east-1"
	if _, err := wal.Open(other); !errors.Is(err, wal.ErrFormat) {
		t.Errorf("another region's directory: %v", err)
	}
	for name, change := range map[string]func(*wal.Options){
		"no directory": func(o *wal.Options) { o.Dir = "" },
		"no region":    func(o *wal.Options) { o.Region = "" },
		"a lower case": func(o *wal.Options) { o.Tables[0].ID = 't' },
		"a table id":   func(o *wal.Options) { o.Tables[1].ID = table },
	} {
		bad := options(dir)
		change(&bad)
		if _, err := wal.Open(bad); !errors.Is(err, wal.ErrOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := dir + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(options(file)); err == nil {
		t.Error("a file was opened as a directory")
	}
}
