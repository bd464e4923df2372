package authz

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestInsertEverywhere(t *testing.T) {
	item := Item{KindRing, "7", []byte("body")}
	other := Item{KindRing, "7", []byte("another body")}
	onInsert := func(f fault) func(string, Kind) fault {
		return func(op string, _ Kind) fault {
			if op == "insert" {
				return f
			}
			return works
		}
	}
	tests := []struct {
		name          string
		set           func(local, remote *memory)
		err           error
		notReached    []string
		local, remote bool // the item is there afterwards, as inserted
	}{
		{"both", func(_, _ *memory) {}, nil, nil, true, true},
		{"both have it", func(l, r *memory) { l.set(item); r.set(item) }, nil, nil, true, true},
		{"a retry reaches the other", func(l, _ *memory) { l.set(item) }, nil, nil, true, true},
		{"another body here", func(l, _ *memory) { l.set(other) }, ErrExists, nil, false, false},
		{"another body there", func(_, r *memory) { r.set(other) }, nil, []string{"us-east-1"}, true, false},
		{"local fails", func(l, _ *memory) { l.breaks(fails) }, ErrUnavailable, nil, false, false},
		{"local insert fails", func(l, _ *memory) { l.breaksOn(onInsert(fails)) }, ErrUnavailable, nil, false, false},
		{"local insert fails but was applied", func(l, _ *memory) { l.breaksOn(onInsert(applied)) }, nil, nil, true, true},
		{"remote fails", func(_, r *memory) { r.breaks(fails) }, nil, []string{"us-east-1"}, true, false},
		{"remote insert fails but was applied", func(_, r *memory) { r.breaksOn(onInsert(applied)) }, nil, nil, true, true},
		{"remote applied and cannot be read back", func(_, r *memory) { r.breaks(applied) }, nil, []string{"us-east-1"}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			local, remote := newMemory(), newMemory()
			tt.set(local, remote)
			notReached, err := InsertEverywhere(t.Context(), regions(local, remote), item)
			if !errors.Is(err, tt.err) || !slices.Equal(notReached, tt.notReached) {
				t.Errorf("got %v, %v; want %v, %v", notReached, err, tt.notReached, tt.err)
			}
			if got := string(local.body(item.Kind, item.ID)) == "body"; got != tt.local {
				t.Errorf("local has it: %t", got)
			}
			if got := string(remote.body(item.Kind, item.ID)) == "body"; got != tt.remote {
				t.Errorf("remote has it: %t", got)
			}
		})
	}
}

func TestInsertEverywhereCannotReadAnExistingItemBack(t *testing.T) {
	local := newMemory()
	local.set(Item{KindRing, "7", []byte("body")})
	local.breaksOn(func(op string, _ Kind) fault {
		if op == "get" {
			return fails
		}
		return works
	})
	_, err := InsertEverywhere(t.Context(), regions(local, newMemory()), Item{KindRing, "7", []byte("body")})
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExists) {
		t.Errorf("got %v: what is unknown must not be called a conflict", err)
	}
}

func TestInsertEverywhereWithoutTables(t *testing.T) {
	if _, err := InsertEverywhere(t.Context(), nil, Item{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// G2: a region that hangs costs the write two seconds, not the caller's deadline.
func TestInsertEverywhereDoesNotWaitForAHangingRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote, third := newMemory(), newMemory(), newMemory()
		remote.breaks(hangs)
		tables := append(regions(local, remote), RegionControl{"ap-south-1", third})
		begun := time.Now()
		notReached, err := InsertEverywhere(t.Context(), tables, Item{KindRing, "7", []byte("body")})
		if err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
			t.Errorf("got %v, %v", notReached, err)
		}
		if took := time.Since(begun); took != remoteTimeout {
			t.Errorf("took %s", took)
		}
		if third.count(KindRing) != 1 {
			t.Error("the third region was not written")
		}
	})
}
