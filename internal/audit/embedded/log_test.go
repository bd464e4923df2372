package embedded_test

import (
	"errors"
	"testing"

	"piivault/internal/audit"
	"piivault/internal/audit/audittest"
	"piivault/internal/audit/embedded"
	"piivault/internal/wal"
)

func TestConformance(t *testing.T) {
	audittest.Run(t, func(t *testing.T) audittest.Table {
		t.Helper()
		return newTable(t, "eu-west-1")
	})
}

func entryOf(id string) audit.Entry {
	return audit.Entry{Time: 1, RequestID: id, Tenant: "t", Actor: "key_1", Record: "r", Subject: "s", Outcome: audit.Authorized}
}

func add(tb testing.TB, l audit.Log, ids ...string) audit.Receipt {
	tb.Helper()
	entries := make([]audit.Entry, len(ids))
	for i, id := range ids {
		entries[i] = entryOf(id)
	}
	r, err := l.Append(entries).Wait(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Appends that are submitted together become one block: one write for all.
func TestAGroupIsOneBlock(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	var all []audit.Pending
	for range 10 {
		all = append(all, l.Append([]audit.Entry{entryOf("x"), entryOf("y")}))
	}
	for i, p := range all {
		if r, err := p.Wait(t.Context()); err != nil || r.First != uint64(1+2*i) {
			t.Errorf("append %d: %+v, %v", i, r, err)
		}
	}
	v, err := audit.VerifyLog(t.Context(), tab, l.Name())
	if err != nil || v.Blocks != 2 || v.Size != 21 {
		t.Errorf("%+v, %v", v, err)
	}
}

// An entry is durable with the record that the same group writes, or neither.
func TestEntriesShareTheGroupsFate(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	l := tab.openLog(t, "a")
	tab.Engine.BeforeCommit(func(*wal.Tx) func(error) { return nil })
	add(t, l, "before")
	bad := true
	tab.Engine.BeforeCommit(func(tx *wal.Tx) func(error) {
		if bad {
			tx.Put('?', []byte("no such table"), nil)
		}
		return nil
	})
	_, err := l.Append([]audit.Entry{entryOf("lost")}).Wait(t.Context())
	if !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("append in a group that failed: %v", err)
	}
	// The engine lives on, but this log's tree is ahead of its blocks.
	bad = false
	_, err = l.Append([]audit.Entry{entryOf("late")}).Wait(t.Context())
	if !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("append after a group that failed: %v", err)
	}
	l.Close()
	next := tab.openLog(t, "a")
	add(t, next, "again")
	all, err := audit.Verify(t.Context(), tab)
	if err != nil || len(all) != 2 || all[0].Size != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestOpenRefusesADamagedLog(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, tab *table, log audit.LogName){
		"flipped bit in the tail": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			tab.Rewrite(t, log, 4, func(b []byte) []byte { b[len(b)-audit.HashSize-2] ^= 1; return b })
		},
		"half a block": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			tab.Rewrite(t, log, 4, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"hole before the tail": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			tab.Rewrite(t, log, 3, func([]byte) []byte { return nil })
		},
		"no first block": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			for n := range uint64(5) {
				tab.Rewrite(t, log, n, func([]byte) []byte { return nil })
			}
		},
		"tail of another tree": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			other := newTable(t, "eu-west-1")
			l := other.openLog(t, "a") // the same but for its nonce
			for range 4 {
				add(t, l, "x")
			}
			other.Rewrite(t, log, 4, func(b []byte) []byte {
				tab.Rewrite(t, log, 4, func([]byte) []byte { return b })
				return b
			})
		},
		"claim replaced": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			c := audit.Claim{Log: log, PreviousRoot: audit.EmptyRoot()}
			item, err := audit.AppendClaim(nil, &c)
			if err != nil {
				t.Fatal(err)
			}
			put(t, tab.Engine, embedded.ClaimKey(log), item)
		},
		"claim cut": func(t *testing.T, tab *table, log audit.LogName) {
			t.Helper()
			put(t, tab.Engine, embedded.ClaimKey(log), []byte{0x81})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tab := newTable(t, "eu-west-1")
			l := tab.openLog(t, "a")
			for range 4 {
				add(t, l, "x")
			}
			l.Close()
			damage(t, tab, l.Name())
			_, err := embedded.Open(t.Context(), tab.config("a"))
			if !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

func TestOpenRefusesABadName(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	for _, instance := range []string{"", "a/b", "a b"} {
		if _, err := embedded.Open(t.Context(), tab.config(instance)); !errors.Is(err, audit.ErrName) {
			t.Errorf("instance %q: %v", instance, err)
		}
	}
}

// noNonce has no randomness left.
type noNonce struct{}

func (noNonce) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

// Nothing is claimed without a nonce.
func TestOpenNeedsANonce(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	c := tab.config("a")
	c.Random = noNonce{}
	if _, err := embedded.Open(t.Context(), c); err == nil {
		t.Error("opened without a nonce")
	}
	if l := tab.openLog(t, "a"); l.Name().Epoch != 1 {
		t.Errorf("opened %v", l.Name())
	}
}

// Long logs are found to their end without a full read.
func TestReopenFindsTheTail(t *testing.T) {
	tab := newTable(t, "eu-west-1")
	for epoch, blocks := range []int{0, 1, 2, 3, 7, 8, 9, 100} {
		l := tab.openLog(t, "a")
		for range blocks {
			add(t, l, "x")
		}
		if l.Name().Epoch != uint64(epoch+1) {
			t.Errorf("opened %v", l.Name())
		}
		l.Close()
		tab.reopen(t)
	}
	if _, err := audit.Verify(t.Context(), tab); err != nil {
		t.Error(err)
	}
}
