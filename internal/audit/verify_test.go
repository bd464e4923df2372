package audit_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"piivault/internal/audit"
)

// table is stored logs in memory, to be tampered with.
type table struct {
	claims map[audit.LogName][]byte
	blocks map[audit.LogName]map[uint64][]byte
}

func (s table) Claims(_ context.Context, fn func(audit.LogName, []byte) error) error {
	for log, item := range s.claims {
		if err := fn(log, item); err != nil {
			return err
		}
	}
	return nil
}

func (s table) Blocks(_ context.Context, log audit.LogName, fn func(uint64, []byte) error) error {
	for _, number := range slices.Sorted(maps.Keys(s.blocks[log])) {
		if err := fn(number, s.blocks[log][number]); err != nil {
			return err
		}
	}
	return nil
}

// epoch writes a log of one block for the claim and one for each entry.
func (s table) epoch(t *testing.T, claim audit.Claim, entries int) audit.Head {
	t.Helper()
	w := audit.NewWriter(claim.Log)
	blocks := map[uint64][]byte{}
	add := func(l *audit.Leaves, err error) {
		if err != nil {
			t.Fatal(err)
		}
		w.Add(l)
		w.Flush(func(n uint64, b []byte) { blocks[n] = slices.Clone(b) })
	}
	l := new(audit.Leaves)
	add(l, l.EncodeClaim(&claim))
	for i := range entries {
		e := typical()
		e.Generation = uint32(i)
		l := new(audit.Leaves)
		add(l, l.Encode([]audit.Entry{e}))
	}
	item, err := audit.AppendClaim(nil, &claim)
	if err != nil {
		t.Fatal(err)
	}
	s.claims[claim.Log], s.blocks[claim.Log] = item, blocks
	return w.Head()
}

func nextClaim(h audit.Head, epoch, blocks uint64) audit.Claim {
	log := testName()
	log.Epoch = epoch
	return audit.Claim{Log: log, PreviousBlocks: blocks, PreviousSize: h.Size, PreviousRoot: h.Root}
}

// threeEpochs are logs of 6, 4 and 3 blocks.
func threeEpochs(t *testing.T) (s table, heads [3]audit.Head) {
	t.Helper()
	s = table{claims: map[audit.LogName][]byte{}, blocks: map[audit.LogName]map[uint64][]byte{}}
	heads[0] = s.epoch(t, firstClaim(), 5)
	heads[1] = s.epoch(t, nextClaim(heads[0], 2, 6), 3)
	heads[2] = s.epoch(t, nextClaim(heads[1], 3, 4), 2)
	return s, heads
}

func at(epoch uint64) audit.LogName {
	log := testName()
	log.Epoch = epoch
	return log
}

func TestVerifyAcceptsWhatWasWritten(t *testing.T) {
	s, heads := threeEpochs(t)
	known := append(heads[:], audit.Head{Log: heads[1].Log, Size: 0, Root: audit.EmptyRoot()})
	all, err := audit.Verify(t.Context(), s, known...)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d logs: %v", len(all), err)
	}
	for i, v := range all {
		if v.Head != heads[i] || v.Void != 0 || v.Claim.Log != at(uint64(i+1)) {
			t.Errorf("log %d: %+v", i, v)
		}
	}
}

// resealed is block n of a log rewritten with another entry, its own root made
// to fit: what someone with the table's rights can do.
func resealed(t *testing.T, s table, log audit.LogName, n uint64) {
	t.Helper()
	w := audit.NewWriter(log)
	for number := range uint64(len(s.blocks[log])) {
		b, err := audit.ParseBlock(s.blocks[log][number])
		if err != nil {
			t.Fatal(err)
		}
		l := new(audit.Leaves)
		if c, claimErr := audit.DecodeClaim(b.Leaf(b.First)); claimErr == nil {
			err = l.EncodeClaim(&c)
		} else {
			e, decodeErr := audit.DecodeEntry(b.Leaf(b.First))
			if decodeErr != nil {
				t.Fatal(decodeErr)
			}
			if number == n {
				e.Purpose = "another"
			}
			err = l.Encode([]audit.Entry{e})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Add(l)
		w.Flush(func(_ uint64, raw []byte) { s.blocks[log][number] = slices.Clone(raw) })
	}
}

// G7 (local part): given a later root, or a later epoch, whatever was done to
// the stored blocks is found.
func TestG7VerifyFindsTampering(t *testing.T) {
	flip := func(s table, log audit.LogName, n uint64) {
		b := s.blocks[log][n]
		b[len(b)-audit.HashSize-3] ^= 1
	}
	for name, c := range map[string]struct {
		tamper func(t *testing.T, s table)
		blind  bool // found only by whoever knows a head
	}{
		"change of an entry":             {func(_ *testing.T, s table) { flip(s, at(3), 2) }, false},
		"change of an entry, resealed":   {func(t *testing.T, s table) { t.Helper(); resealed(t, s, at(3), 1) }, true},
		"change in an old log, resealed": {func(t *testing.T, s table) { t.Helper(); resealed(t, s, at(1), 3) }, false},
		"change of an edge": {func(_ *testing.T, s table) {
			s.blocks[at(3)][2][2+len(at(3).String())+16] ^= 1
		}, false},
		"removal": {func(_ *testing.T, s table) { delete(s.blocks[at(3)], 1) }, false},
		"removal, renumbered": {func(_ *testing.T, s table) {
			s.blocks[at(1)][3] = s.blocks[at(1)][4]
			delete(s.blocks[at(1)], 4)
		}, false},
		"reordering": {func(_ *testing.T, s table) {
			b := s.blocks[at(3)]
			b[1], b[2] = b[2], b[1]
		}, false},
		"truncation":            {func(_ *testing.T, s table) { delete(s.blocks[at(3)], 2) }, true},
		"truncation of old log": {func(_ *testing.T, s table) { delete(s.blocks[at(2)], 3) }, false},
		"missing log": {func(_ *testing.T, s table) {
			delete(s.blocks, at(2))
			delete(s.claims, at(2))
		}, false},
		"missing last log": {func(_ *testing.T, s table) {
			delete(s.blocks, at(3))
			delete(s.claims, at(3))
		}, true},
		"missing claim": {func(_ *testing.T, s table) { delete(s.claims, at(1)) }, false},
		"another claim": {func(t *testing.T, s table) {
			t.Helper()
			c, err := audit.DecodeClaim(s.claims[at(3)])
			if err != nil {
				t.Fatal(err)
			}
			c.Nonce[0] ^= 1
			s.claims[at(3)], _ = audit.AppendClaim(nil, &c)
		}, false},
		"fork: the whole log anew": {func(t *testing.T, s table) {
			t.Helper()
			c, err := audit.DecodeClaim(s.claims[at(3)])
			if err != nil {
				t.Fatal(err)
			}
			c.Nonce[0] ^= 1
			s.epoch(t, c, 4)
		}, true},
		"rollback: the next epoch voids what was acknowledged": {func(t *testing.T, s table) {
			t.Helper()
			v, err := audit.VerifyLog(t.Context(), table{blocks: map[audit.LogName]map[uint64][]byte{
				at(2): {0: s.blocks[at(2)][0], 1: s.blocks[at(2)][1]},
			}}, at(2))
			if err != nil {
				t.Fatal(err)
			}
			s.epoch(t, nextClaim(v.Head, 3, 2), 2)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, heads := threeEpochs(t)
			c.tamper(t, s)
			if _, err := audit.Verify(t.Context(), s, heads[:]...); !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) {
				t.Errorf("with the heads known: %v", err)
			}
			if _, err := audit.Verify(t.Context(), s); (err == nil) != c.blind {
				t.Errorf("without known heads: %v", err)
			}
		})
	}
}

// Blocks that the next epoch declares void are counted and do not count.
func TestVerifyCountsVoidBlocks(t *testing.T) {
	s, _ := threeEpochs(t)
	short, err := audit.VerifyLog(t.Context(), table{blocks: map[audit.LogName]map[uint64][]byte{
		at(3): {0: s.blocks[at(3)][0], 1: s.blocks[at(3)][1]},
	}}, at(3))
	if err != nil {
		t.Fatal(err)
	}
	s.epoch(t, nextClaim(short.Head, 4, 2), 1)
	all, err := audit.Verify(t.Context(), s)
	if err != nil || all[2].Head != short.Head || all[2].Blocks != 2 || all[2].Void != 1 {
		t.Errorf("%+v, %v", all[2], err)
	}
}

// A claim that counts other blocks than there are does not describe the log.
func TestG7VerifyComparesTheNumberOfBlocks(t *testing.T) {
	blocks, head := testLog(t, 2, func(int) int { return 1 })
	s := table{claims: map[audit.LogName][]byte{}, blocks: map[audit.LogName]map[uint64][]byte{at(1): {}}}
	for n, b := range blocks {
		s.blocks[at(1)][uint64(n)] = b
	}
	claim := firstClaim()
	item, err := audit.AppendClaim(nil, &claim)
	if err != nil {
		t.Fatal(err)
	}
	s.claims[at(1)] = item
	for count, ok := range map[uint64]bool{2: false, 3: true, 4: false} {
		s.epoch(t, nextClaim(head, 2, count), 1)
		if _, err := audit.Verify(t.Context(), s); (err == nil) != ok {
			t.Errorf("%d blocks stated for 3: %v", count, err)
		}
	}
}

func TestVerifyReportsTheSourcesFault(t *testing.T) {
	s, heads := threeEpochs(t)
	fault := errors.New("disk")
	if _, err := audit.Verify(t.Context(), failing{s, fault}, heads[0]); !errors.Is(err, fault) {
		t.Error(err)
	}
	if _, err := audit.Verify(t.Context(), s, audit.Head{Log: "nowhere"}); !errors.Is(err, audit.ErrName) {
		t.Error(err)
	}
}

type failing struct {
	table
	err error
}

func (f failing) Blocks(context.Context, audit.LogName, func(uint64, []byte) error) error {
	return f.err
}
