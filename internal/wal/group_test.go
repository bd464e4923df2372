package wal_test

import (
	"fmt"
	"strconv"
	"testing"

	"piivault/internal/wal"
)

// Ops that are together too large for one commit take several, in order; one
// Wait, on any of them, brings about all that was queued before it.
func TestLargeOpsAreSeveralCommits(t *testing.T) {
	const n, size = 10, 256 << 10
	for _, waited := range []int{0, 4, n - 1} {
		t.Run(strconv.Itoa(waited), func(t *testing.T) {
			dir := t.TempDir()
			e := open(t, options(dir))
			commits := 0
			e.BeforeCommit(func(*wal.Tx) func(error) { commits++; return nil })
			var order []int
			ops := make([]*wal.Pending, n)
			for i := range ops {
				ops[i] = e.SubmitSized(size, func(tx *wal.Tx) error {
					order = append(order, i)
					tx.Put(table, fmt.Appendf(nil, "%d", i), make([]byte, size))
					return nil
				})
			}
			if err := ops[waited].Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range waited {
				if err := ops[i].Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			for i := range order {
				if order[i] != i {
					t.Fatalf("ops ran in the order %v", order)
				}
			}
			if len(order) != n || commits < 3 || commits > n {
				t.Errorf("%d ops in %d commits", len(order), commits)
			}
			e = open(t, options(dir))
			for i := range n {
				if _, err := e.Get(table, fmt.Appendf(nil, "%d", i)); err != nil {
					t.Errorf("op %d: %v", i, err)
				}
			}
		})
	}
}
