// Package audittest is the conformance suite of audit.Log, audit.Reader and
// audit.Source: every implementation passes all of it.
package audittest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"piivault/internal/audit"
)

// Instance is a process life: its log and its reader.
type Instance interface {
	audit.Log
	audit.Reader
	Name() audit.LogName
}

// Table is one region's audit table under test. It outlives its instances.
type Table interface {
	audit.Source
	// Open begins the next epoch of a named instance, after whatever
	// happened to the last one.
	Open(t *testing.T, instance string) Instance
	// Close ends an instance; the test ends those it left open.
	Close(t *testing.T, i Instance)
	// Fail makes the next durable write report a failure; applied says
	// whether it takes effect nevertheless.
	Fail(applied bool)
	// Rewrite puts change(block) in a stored block's place; nil removes it.
	Rewrite(t *testing.T, log audit.LogName, number uint64, change func(block []byte) []byte)
}

// Run runs the suite; each test has a table of its own.
func Run(t *testing.T, newTable func(t *testing.T) Table) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Table)
	}{
		{"ConcurrentAppends", testConcurrentAppends},
		{"G6DurableMeansAllBefore", testDurableMeansAllBefore},
		{"InvalidEntriesAreNotAppended", testInvalidEntries},
		{"WaitHonoursItsContext", testWaitContext},
		{"LargeAppends", testLargeAppends},
		{"Epochs", testEpochs},
		{"CloseRefusesAppends", testClose},
		{"G6FailedWrite", func(t *testing.T, tab Table) { testFailedWrite(t, tab, false) }},
		{"G6FailedWriteThatWasApplied", func(t *testing.T, tab Table) { testFailedWrite(t, tab, true) }},
		{"G7VerifyFindsTampering", testTampering},
		{"QueryFilters", testQueryFilters},
		{"QueryProperty", testQueryProperty},
		{"QueryPagesWhileAppending", testPagesWhileAppending},
		{"QueryRefusals", testQueryRefusals},
		{"QuerySeesEveryLog", testQuerySeesEveryLog},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newTable(t)) })
	}
}

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

// entry makes a small entry that is told apart by its request id.
func entry(format string, args ...any) audit.Entry {
	return audit.Entry{
		Time: 1, Tenant: "t", Actor: "key_1", Action: "detokenize", Outcome: audit.Authorized,
		RequestID: fmt.Sprintf(format, args...),
	}
}

// add appends entries and waits.
func add(t *testing.T, l audit.Log, entries ...audit.Entry) audit.Receipt {
	t.Helper()
	r, err := l.Append(entries).Wait(t.Context())
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	if r.Entries != len(entries) {
		t.Fatalf("a receipt of %d entries for %d", r.Entries, len(entries))
	}
	return r
}

// stored reads a log's entries by index; leaf 0 is its claim.
func stored(t *testing.T, s audit.Source, log audit.LogName) map[uint64]audit.Entry {
	t.Helper()
	entries, err := readEntries(t.Context(), s, log)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func readEntries(ctx context.Context, s audit.Source, log audit.LogName) (map[uint64]audit.Entry, error) {
	entries := map[uint64]audit.Entry{}
	return entries, s.Blocks(ctx, log, func(_ uint64, raw []byte) error {
		b, err := audit.ParseBlock(raw)
		if err != nil {
			return err
		}
		for index, leaf := range b.Leaves() {
			if index == 0 {
				continue
			}
			if entries[index], err = audit.DecodeEntry(leaf); err != nil {
				return err
			}
		}
		return nil
	})
}

// verify checks one log and gives its head.
func verify(t *testing.T, s audit.Source, log audit.LogName, known ...audit.Head) audit.Head {
	t.Helper()
	v, err := audit.VerifyLog(t.Context(), s, log, known...)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return v.Head
}

// pages follows cursors to the end, page entries at a time, or as limits says.
func pages(t *testing.T, r audit.Reader, q audit.Query, between func(page int)) []audit.Found {
	t.Helper()
	var all []audit.Found
	for page := 0; ; page++ {
		found, next, err := r.Query(t.Context(), q)
		if err != nil {
			t.Fatalf("query: %v", err)
		}
		if len(found) > q.Limit {
			t.Fatalf("%d entries for a limit of %d", len(found), q.Limit)
		}
		all = append(all, found...)
		if next == "" {
			return all
		}
		if q.Cursor == next {
			t.Fatal("a cursor that does not move")
		}
		q.Cursor = next
		if between != nil {
			between(page)
		}
	}
}

// eventually waits for what happens behind the release.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		case <-ticker.C:
		}
	}
}

// visible waits until a tenant's entries are all indexed.
func visible(t *testing.T, r audit.Reader, tenant string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d entries of tenant %q", n, tenant), func() bool {
		return len(pages(t, r, audit.Query{Tenant: tenant, Limit: audit.MaxLimit}, nil)) >= n
	})
}

// ids are the request ids of what was found, in order.
func ids(found []audit.Found) []string {
	out := make([]string, len(found))
	for i := range found {
		out[i] = found[i].Entry.RequestID
	}
	return out
}

func requireIDs(t *testing.T, what string, found []audit.Found, want ...string) {
	t.Helper()
	if got := ids(found); !slices.Equal(got, want) {
		t.Errorf("%s: found %q, want %q", what, got, want)
	}
}

func requireIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
