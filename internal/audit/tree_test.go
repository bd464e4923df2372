package audit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"piivault/internal/audit"
)

// storedHashes is the whole tree, kept as tlog keeps it: the oracle.
type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = s[at]
	}
	return out, nil
}

func TestTreeAgreesWithTlog(t *testing.T) {
	var tree audit.Tree
	var stored storedHashes
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, stored)
		if err != nil || tree.Root() != want || tree.Size() != uint64(n) {
			t.Fatalf("root of %d leaves: %v, want %v, %v", tree.Size(), tree.Root(), want, err)
		}
		leaf := tlog.RecordHash(strconv.AppendInt(nil, n, 10))
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, stored)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		tree.Add(leaf)
	}
}

// blocksAsHashes gives tlog every stored hash of a log from its blocks alone:
// each from the one block that completed it.
type blocksAsHashes struct {
	t      *testing.T
	blocks [][]byte
}

func (s blocksAsHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		level, n := tlog.SplitStoredHashIndex(at)
		out[i] = s.hash(level, n)
	}
	return out, nil
}

func (s blocksAsHashes) hash(level int, n int64) tlog.Hash {
	last := uint64(n+1)<<level - 1 // the leaf that completes the subtree
	for _, raw := range s.blocks {
		b, err := audit.ParseBlock(raw)
		if err != nil {
			s.t.Fatal(err)
		}
		if last >= b.First+uint64(b.Count) {
			continue
		}
		tree := b.Before()
		for index, leaf := range b.Leaves() {
			hash := tlog.RecordHash(leaf)
			if index == last {
				for _, left := range slices.Backward(tree.Edge()[len(tree.Edge())-level:]) {
					hash = tlog.NodeHash(left, hash)
				}
				return hash
			}
			tree.Add(hash)
		}
	}
	s.t.Fatalf("no block completes node %d of level %d", n, level)
	return tlog.Hash{}
}

// What later proofs need is in the blocks.
func TestProofsFromBlocksAlone(t *testing.T) {
	blocks, head := testLog(t, 40, func(i int) int { return i % 4 })
	read := blocksAsHashes{t, blocks}
	size := int64(head.Size)
	for n := range size {
		proof, err := tlog.ProveRecord(size, n, read)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, size, head.Root, n, read.hash(0, n)); err != nil {
			t.Errorf("inclusion of leaf %d: %v", n, err)
		}
		older, err := tlog.TreeHash(n+1, read)
		if err != nil {
			t.Fatal(err)
		}
		proof2, err := tlog.ProveTree(size, n+1, read)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof2, size, head.Root, n+1, older); err != nil {
			t.Errorf("consistency of %d leaves: %v", n+1, err)
		}
	}
}

func testName() audit.LogName {
	return audit.LogName{Region: "eu-west-1", Instance: "vault-a", Epoch: 1}
}

func firstClaim() audit.Claim {
	return audit.Claim{Log: testName(), Time: 1, PreviousRoot: audit.EmptyRoot()}
}

// testLog writes a log of n groups, group i of extra(i)+1 entries.
func testLog(tb testing.TB, n int, extra func(i int) int) (blocks [][]byte, head audit.Head) {
	tb.Helper()
	w := audit.NewWriter(testName())
	claim := firstClaim()
	l := new(audit.Leaves)
	if err := l.EncodeClaim(&claim); err != nil {
		tb.Fatal(err)
	}
	w.Add(l)
	keep := func(_ uint64, b []byte) { blocks = append(blocks, slices.Clone(b)) }
	w.Flush(keep)
	for i := range n {
		for j := range extra(i) + 1 {
			e := typical()
			e.Time, e.RequestID = int64(i), strconv.Itoa(j)
			l := new(audit.Leaves)
			if err := l.Encode([]audit.Entry{e}); err != nil {
				tb.Fatal(err)
			}
			w.Add(l)
		}
		w.Flush(keep)
	}
	return blocks, w.Head()
}

// However groups fall into blocks: contiguous indices, bounded blocks, and the
// tree of all leaves in order.
func TestWriterProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := audit.NewWriter(testName())
		var blocks [][]byte
		number := uint64(0)
		for range rapid.IntRange(1, 6).Draw(t, "groups") {
			for range rapid.IntRange(1, 6).Draw(t, "appends") {
				entries := make([]audit.Entry, rapid.IntRange(1, 60).Draw(t, "entries"))
				size := rapid.IntRange(0, audit.MaxString).Draw(t, "size")
				for i := range entries {
					text := string(bytes.Repeat([]byte{'x'}, size))
					entries[i] = audit.Entry{Outcome: audit.Denied, Policies: []string{text, text, text, text, text}}
				}
				l := new(audit.Leaves)
				if err := l.Encode(entries); err != nil {
					t.Fatal(err)
				}
				before := w.Head().Size
				if first := w.Add(l); first != before || w.Head().Size != before+uint64(len(entries)) {
					t.Fatalf("first is %d after %d", first, before)
				}
			}
			w.Flush(func(n uint64, b []byte) {
				if n != number {
					t.Fatalf("block %d comes as %d", number, n)
				}
				number++
				blocks = append(blocks, slices.Clone(b))
			})
		}
		checkBlocks(t, blocks, w.Head())
	})
}

func checkBlocks(t *rapid.T, blocks [][]byte, head audit.Head) {
	var tree audit.Tree
	for i, raw := range blocks {
		b, err := audit.ParseBlock(raw)
		if err != nil || len(raw) > audit.MaxBlock {
			t.Fatalf("block %d of %d bytes: %v", i, len(raw), err)
		}
		if b.First != tree.Size() || b.Number != uint64(i) {
			t.Fatalf("block %d begins at %d after %d", b.Number, b.First, tree.Size())
		}
		for _, leaf := range b.Leaves() {
			tree.Add(tlog.RecordHash(leaf))
		}
		if tree.Root() != b.Root {
			t.Fatalf("root of block %d", i)
		}
	}
	if tree.Size() != head.Size || tree.Root() != head.Root {
		t.Fatal("the head is not the tree of the blocks")
	}
}

func TestBlockFindsItsLeaves(t *testing.T) {
	blocks, _ := testLog(t, 3, func(int) int { return 4 })
	b, err := audit.ParseBlock(blocks[2])
	if err != nil {
		t.Fatal(err)
	}
	for index := range uint64(20) {
		leaf := b.Leaf(index)
		if in := index >= b.First && index < b.First+uint64(b.Count); in != (leaf != nil) {
			t.Errorf("leaf %d of a block of %d from %d: %v", index, b.Count, b.First, leaf)
		}
	}
}

// G7: no bit of a block can change unseen.
func TestEveryFlippedBitOfABlockIsFound(t *testing.T) {
	blocks, _ := testLog(t, 3, func(int) int { return 1 })
	for bit := range len(blocks[3]) * 8 {
		changed := slices.Clone(blocks[3])
		changed[bit/8] ^= 1 << (bit % 8)
		b, err := audit.ParseBlock(changed)
		if err == nil {
			_, err = b.Check()
		}
		header := err == nil && (b.Log != testName() || b.Number != 3)
		if err == nil && !header {
			t.Errorf("bit %d of byte %d", bit%8, bit/8)
		}
		if err != nil && !errors.Is(err, audit.ErrCorrupt) && !errors.Is(err, audit.ErrTampered) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
}

func FuzzParseBlock(f *testing.F) {
	v := readVectors(f)
	for _, b := range v.Log.Blocks {
		f.Add(unhex(f, b.Hex))
	}
	for _, bad := range v.BadBlocks {
		f.Add(unhex(f, bad.Hex))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := audit.ParseBlock(raw)
		if err != nil {
			return
		}
		n := 0
		var leaves []byte
		for index, leaf := range b.Leaves() {
			if index != b.First+uint64(n) || len(leaf) == 0 {
				t.Fatalf("leaf %d has index %d", n, index)
			}
			n++
			leaves = append(binary.BigEndian.AppendUint16(leaves, uint16(len(leaf))), leaf...)
		}
		if n != b.Count || !bytes.HasSuffix(raw[:len(raw)-audit.HashSize], leaves) {
			t.Error("the leaves are not the block's")
		}
		_, _ = b.Check()
	})
}
