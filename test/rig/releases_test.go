package rig_test

import (
	"sync"
	"testing"

	"piivault/client"
	"piivault/internal/audit"
	"piivault/internal/sim/rig"
)

// release is an answer with values, and where it says that they are recorded.
type release struct {
	region  string
	purpose string
	values  int
	receipt client.AuditReceipt
}

// releases are all values that left.
type releases struct {
	mu   sync.Mutex // guards list
	list []release
}

func (r *releases) add(region, purpose string, answer client.DetokenizeResponse) {
	values := 0
	for i := range answer.Items {
		if answer.Items[i].Status == client.ItemStatusOk {
			values++
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, release{region, purpose, values, answer.Audit})
}

// check asserts that each value has a durable entry of its own, in a log that
// verifies (G6). All must be settled.
func (r *releases) check(t *testing.T, of *rig.Rig) (values int) {
	t.Helper()
	entries := map[string]map[string]map[uint64]audit.Entry{rig.EU: of.Entries(t, rig.EU), rig.US: of.Entries(t, rig.US)}
	type place struct {
		log   string
		index uint64
	}
	taken := map[place]bool{}
	for _, one := range r.list {
		found := 0
		for n := range uint64(one.receipt.Entries) {
			at := place{one.receipt.Log, uint64(one.receipt.FirstIndex) + n}
			e, ok := entries[one.region][at.log][at.index]
			if ok && !taken[at] && e.Action == "detokenize" && e.Outcome == audit.Authorized && e.Purpose == one.purpose && e.Record != "" {
				taken[at] = true
				found++
			}
		}
		if found < one.values {
			t.Errorf("%d values left %s, and %d have an entry in %s from %d", one.values, one.region, found, one.receipt.Log, one.receipt.FirstIndex)
		}
		values += one.values
	}
	return values
}
