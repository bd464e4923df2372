package audittest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"piivault/internal/audit"
)

// appended is one acknowledged append.
type appended struct {
	audit.Receipt
	entries []audit.Entry
}

// appendAll runs workers that each make a number of appends of 1 to 5
// entries, checks after each what then must hold, and gives all receipts.
func appendAll(t *testing.T, l audit.Log, workers, appends int, after func(audit.Receipt) error) []appended {
	t.Helper()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex // guards all
		all []appended
	)
	for w := range workers {
		wg.Go(func() {
			for i := range appends {
				entries := make([]audit.Entry, 1+(w+i)%5)
				for j := range entries {
					entries[j] = entry("%d.%d.%d", w, i, j)
				}
				r, err := l.Append(append([]audit.Entry(nil), entries...)).Wait(t.Context())
				if err == nil {
					err = after(r)
				}
				if err != nil {
					t.Errorf("worker %d, append %d: %v", w, i, err)
					return
				}
				mu.Lock()
				all = append(all, appended{r, entries})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// checkAppended: the receipts are contiguous, without gap or duplicate from
// leaf 1 on, and each names its own entries.
func checkAppended(t *testing.T, s audit.Source, log audit.LogName, all []appended) {
	t.Helper()
	got := stored(t, s, log)
	taken := map[uint64]bool{}
	for _, a := range all {
		for j, want := range a.entries {
			index := a.First + uint64(j)
			if taken[index] {
				t.Errorf("two receipts name entry %d", index)
			}
			taken[index] = true
			if got[index].RequestID != want.RequestID {
				t.Errorf("entry %d is %q, its receipt says %q", index, got[index].RequestID, want.RequestID)
			}
		}
	}
	for index := range uint64(len(taken)) {
		if !taken[index+1] {
			t.Errorf("no receipt names entry %d of %d", index+1, len(taken))
		}
	}
	if len(got) != len(taken) {
		t.Errorf("%d entries are stored, %d acknowledged", len(got), len(taken))
	}
}

func testConcurrentAppends(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	all := appendAll(t, i, 64, 10, func(r audit.Receipt) error {
		if r.Log != i.Name().String() {
			return fmt.Errorf("a receipt of log %q", r.Log)
		}
		return nil
	})
	checkAppended(t, tab, i.Name(), all)
	verify(t, tab, i.Name())
}

// testDurableMeansAllBefore looks at what is stored the moment an append is
// acknowledged: its entries and every earlier one are there.
func testDurableMeansAllBefore(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	appendAll(t, i, 8, 5, func(r audit.Receipt) error {
		got, err := readEntries(t.Context(), tab, i.Name())
		if err != nil {
			return err
		}
		for index := uint64(1); index < r.First+uint64(r.Entries); index++ {
			if _, ok := got[index]; !ok {
				return fmt.Errorf("entry %d is not stored though %d to %d are acknowledged", index, r.First, r.Entries)
			}
		}
		return nil
	})
}

func testInvalidEntries(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	bad := entry("bad")
	bad.Outcome = "unheard of"
	for name, entries := range map[string][]audit.Entry{"invalid": {entry("good"), bad}, "none": nil} {
		_, err := i.Append(entries).Wait(t.Context())
		requireIs(t, name, err, audit.ErrEntry)
	}
	if r := add(t, i, entry("next")); r.First != 1 {
		t.Errorf("the next entry has index %d", r.First)
	}
	if got := stored(t, tab, i.Name()); len(got) != 1 {
		t.Errorf("%d entries are stored", len(got))
	}
}

func testWaitContext(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	p := i.Append([]audit.Entry{entry("given up")})
	cancel()
	if r, err := p.Wait(ctx); err != nil {
		requireIs(t, "given up", err, audit.ErrUnavailable)
		requireIs(t, "given up", err, context.Canceled)
		if _, again := p.Wait(t.Context()); again == nil {
			t.Error("an append given up became durable at the second look")
		}
	} else if r.First != 1 {
		t.Errorf("first is %d", r.First)
	}
	add(t, i, entry("next"))
	verify(t, tab, i.Name())
}

// testLargeAppends: an append may be larger than a block.
func testLargeAppends(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	text := strings.Repeat("x", audit.MaxString)
	entries := make([]audit.Entry, 300)
	for n := range entries {
		entries[n] = entry("%d", n)
		entries[n].Ticket, entries[n].Purpose, entries[n].Budget = text, text, text
	}
	r := add(t, i, append([]audit.Entry(nil), entries...)...)
	checkAppended(t, tab, i.Name(), []appended{{r, entries}})
	verify(t, tab, i.Name())
}

func testEpochs(t *testing.T, tab Table) {
	t.Helper()
	var heads []audit.Head
	nonces := map[[audit.NonceSize]byte]bool{}
	for n := range 4 {
		i := tab.Open(t, "a")
		if want := uint64(n + 1); i.Name().Epoch != want {
			t.Fatalf("epoch %d, want %d", i.Name().Epoch, want)
		}
		for k := range n { // the first life appends nothing
			add(t, i, entry("%d.%d", n, k))
		}
		tab.Close(t, i)
		v, err := audit.VerifyLog(t.Context(), tab, i.Name())
		if err != nil {
			t.Fatal(err)
		}
		if previous, ok := v.Claim.Previous(); ok != (n > 0) || ok && previous != heads[n-1] {
			t.Errorf("epoch %d names %+v as its predecessor", n+1, previous)
		}
		heads = append(heads, v.Head)
		nonces[v.Claim.Nonce] = true
	}
	if len(nonces) != 4 {
		t.Errorf("%d different nonces in 4 claims", len(nonces))
	}
	all, err := audit.Verify(t.Context(), tab, heads...)
	if err != nil || len(all) != 4 {
		t.Errorf("%d logs: %v", len(all), err)
	}
}

func testClose(t *testing.T, tab Table) {
	t.Helper()
	i := tab.Open(t, "a")
	add(t, i, entry("before"))
	tab.Close(t, i)
	_, err := i.Append([]audit.Entry{entry("after")}).Wait(t.Context())
	requireIs(t, "append to a closed log", err, audit.ErrUnavailable)
}

// testFailedWrite: nothing is acknowledged on a write that reports a failure,
// nothing that was acknowledged is lost, and the next epoch goes on.
func testFailedWrite(t *testing.T, tab Table, applied bool) {
	t.Helper()
	first := tab.Open(t, "a")
	before := appendAll(t, first, 4, 5, func(audit.Receipt) error { return nil })
	head := verify(t, tab, first.Name())

	tab.Fail(applied)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			_, err := first.Append([]audit.Entry{entry("lost.%d.0", w), entry("lost.%d.1", w)}).Wait(t.Context())
			requireIs(t, "append on a failed write", err, audit.ErrUnavailable)
		})
	}
	wg.Wait()
	_, err := first.Append([]audit.Entry{entry("late")}).Wait(t.Context())
	requireIs(t, "append after a failed write", err, audit.ErrUnavailable)

	second := tab.Open(t, "a")
	if second.Name().Epoch != first.Name().Epoch+1 {
		t.Errorf("reopened as %v after %v", second.Name(), first.Name())
	}
	add(t, second, entry("again"))
	if _, err := audit.Verify(t.Context(), tab, head); err != nil {
		t.Errorf("verify: %v", err)
	}
	checkKept(t, stored(t, tab, first.Name()), before)
}

// checkKept: all that was acknowledged is there; of the rest, each append as a
// whole or not at all.
func checkKept(t *testing.T, got map[uint64]audit.Entry, before []appended) {
	t.Helper()
	for _, a := range before {
		for j, want := range a.entries {
			if got[a.First+uint64(j)].RequestID != want.RequestID {
				t.Errorf("acknowledged entry %d is lost", a.First+uint64(j))
			}
		}
	}
	halves := map[string]int{}
	for _, e := range got {
		if id, ok := strings.CutPrefix(e.RequestID, "lost."); ok {
			halves[id[:1]]++
		}
	}
	for w, n := range halves {
		if n != 2 {
			t.Errorf("%d entries of 2 of append %s are stored", n, w)
		}
	}
}
