package audit_test

import (
	"errors"
	"testing"

	"piivault/internal/audit"
)

// abandoned is a log of one epoch, of blocks 0 to 2, a hole, and one more.
func abandoned(t *testing.T) (s table, before, all audit.Head) {
	t.Helper()
	s = table{claims: map[audit.LogName][]byte{}, blocks: map[audit.LogName]map[uint64][]byte{}}
	before = s.epoch(t, firstClaim(), 2)
	all = s.epoch(t, firstClaim(), 4)
	delete(s.blocks[at(1)], 3)
	return s, before, all
}

// G7: blocks behind a hole are no proof of tampering, as long as nobody says
// where the log ends, and none of the contrary.
func TestG7AnEndInACrashIsToldFromTampering(t *testing.T) {
	s, before, _ := abandoned(t)
	for _, known := range [][]audit.Head{nil, {before}} {
		all, err := audit.Verify(t.Context(), s, known...)
		if !errors.Is(err, audit.ErrUnfinished) || errors.Is(err, audit.ErrTampered) {
			t.Fatalf("a log that ends in a crash: %v", err)
		}
		if all[0].Head != before || all[0].Blocks != 3 || all[0].Behind != 1 || all[0].Void != 0 {
			t.Errorf("%+v", all[0])
		}
	}
	s.epoch(t, nextClaim(before, 2, 3), 1)
	if all, err := audit.Verify(t.Context(), s); err != nil || all[0].Behind != 0 || all[0].Void != 1 {
		t.Errorf("its end stated: %+v, %v", all[0], err)
	}
}

// G7: what a crash cannot leave is tampering.
func TestG7NoCrashLeavesThis(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(s table, all audit.Head) []audit.Head
	}{
		"a known head has more leaves": {func(_ table, all audit.Head) []audit.Head { return []audit.Head{all} }},
		"a known head has one leaf more": {func(_ table, all audit.Head) []audit.Head {
			return []audit.Head{{Log: all.Log, Size: 4, Root: all.Root}}
		}},
		"the first block is missing": {func(s table, _ audit.Head) []audit.Head {
			delete(s.blocks[at(1)], 0)
			return nil
		}},
		"a changed block behind the hole": {func(s table, _ audit.Head) []audit.Head {
			b := s.blocks[at(1)][4]
			b[len(b)-audit.HashSize-3] ^= 1
			return nil
		}},
		"another place behind the hole": {func(s table, _ audit.Head) []audit.Head {
			s.blocks[at(1)][5] = s.blocks[at(1)][4]
			delete(s.blocks[at(1)], 4)
			return nil
		}},
		"the next epoch says that it is whole": {func(s table, all audit.Head) []audit.Head {
			s.epoch(t, nextClaim(all, 2, 5), 1)
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, all := abandoned(t)
			known := c.tamper(s, all)
			_, err := audit.Verify(t.Context(), s, known...)
			if !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("%v", err)
			}
		})
	}
}

// G7: no writer has so much under way as lies behind such a hole.
func TestG7AHoleAmongManyBlocks(t *testing.T) {
	for missing, want := range map[uint64]error{2: audit.ErrTampered, 3: audit.ErrUnfinished} {
		s := table{claims: map[audit.LogName][]byte{}, blocks: map[audit.LogName]map[uint64][]byte{}}
		s.epoch(t, firstClaim(), audit.MaxBehind+3)
		delete(s.blocks[at(1)], missing)
		if _, err := audit.Verify(t.Context(), s); !errors.Is(err, want) {
			t.Errorf("block %d is missing: %v, want %v", missing, err, want)
		}
	}
}

func TestWalkTellsOfEveryEntry(t *testing.T) {
	walk := func(s table, since int64) (seen map[string]int, err error) {
		seen = map[string]int{}
		_, err = audit.Walk(t.Context(), s, since, func(r audit.Ref, e *audit.Entry) error {
			if e.Generation != uint32(r.Index)-1 {
				t.Errorf("%v is entry %d", r, e.Generation)
			}
			seen[r.Log]++
			return nil
		})
		return seen, err
	}
	s, heads := threeEpochs(t)
	if seen, err := walk(s, 0); err != nil || seen[heads[0].Log] != 5 || seen[heads[1].Log] != 3 || seen[heads[2].Log] != 2 {
		t.Errorf("%v, %v", seen, err)
	}
	s.blocks[at(1)][7] = s.blocks[at(1)][5] // past its end: void
	if seen, err := walk(s, 0); err != nil || seen[heads[0].Log] != 5 {
		t.Errorf("with a void block: %v, %v", seen, err)
	}
	if seen, err := walk(s, 1); err != nil || seen[heads[0].Log] != 0 || seen[heads[2].Log] != 2 {
		t.Errorf("of later ones: %v, %v", seen, err)
	}
	delete(s.blocks[at(2)], 1)
	if seen, err := walk(s, 0); !errors.Is(err, audit.ErrTampered) || seen[heads[0].Log] != 5 || seen[heads[2].Log] != 2 {
		t.Errorf("of a table in which one log is damaged: %v, %v", seen, err)
	}
	s, _, _ = abandoned(t)
	if seen, err := walk(s, 0); !errors.Is(err, audit.ErrUnfinished) || seen[at(1).String()] != 3 {
		t.Errorf("behind a hole: %v, %v", seen, err)
	}
	full := errors.New("full")
	_, err := audit.Walk(t.Context(), s, 0, func(audit.Ref, *audit.Entry) error { return full })
	if !errors.Is(err, full) {
		t.Error(err)
	}
}
