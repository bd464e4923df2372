package audit

import (
	"encoding/binary"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"
)

// blockV1 is the first byte of a block.
const blockV1 = 1

// MaxBlock bounds an encoded block, well under DynamoDB's 400 KB an item.
const MaxBlock = 256 << 10

// framePrefix is the length before each leaf of a block.
const framePrefix = 2

// Block is a parsed block. It refers to the bytes it was parsed from.
type Block struct {
	Log    LogName
	Number uint64 // counted from 0 within the log
	First  uint64 // index of its first leaf
	Count  int    // of leaves, at least 1
	Root   Hash   // of the tree of First+Count leaves
	edge   []byte // of the tree of First leaves
	leaves []byte // framed
}

// ParseBlock is strict about form: every byte has its place, or ErrCorrupt. It
// does not recompute the root; Check does.
func ParseBlock(b []byte) (Block, error) {
	if len(b) == 0 || len(b) > MaxBlock || b[0] != blockV1 {
		return Block{}, fmt.Errorf("block version: %w", ErrCorrupt)
	}
	nameLen := 0
	if len(b) > 1 {
		nameLen = int(b[1])
	}
	fixed := 2 + nameLen + 8 + 8
	if len(b) < fixed {
		return Block{}, fmt.Errorf("block header: %w", ErrCorrupt)
	}
	log, err := ParseLogName(string(b[2 : 2+nameLen]))
	if err != nil {
		return Block{}, fmt.Errorf("block name: %w", ErrCorrupt)
	}
	k := Block{Log: log, Number: binary.BigEndian.Uint64(b[2+nameLen:]), First: binary.BigEndian.Uint64(b[fixed-8:])}
	if err := k.parseBody(b[fixed:]); err != nil {
		return Block{}, err
	}
	return k, nil
}

func (k *Block) parseBody(b []byte) error {
	edge := edgeLen(k.First)
	if k.First >= maxTreeSize || k.Number > k.First || len(b) < edge+4+HashSize {
		return fmt.Errorf("block body: %w", ErrCorrupt)
	}
	count := binary.BigEndian.Uint32(b[edge:])
	k.edge = b[:edge:edge]
	k.leaves = b[edge+4 : len(b)-HashSize]
	k.Root = Hash(b[len(b)-HashSize:])
	k.Count = int(count)
	rest := k.leaves
	for range count {
		if len(rest) < framePrefix {
			return fmt.Errorf("block leaves: %w", ErrCorrupt)
		}
		size := int(binary.BigEndian.Uint16(rest))
		if size == 0 || size > MaxLeaf || len(rest) < framePrefix+size {
			return fmt.Errorf("block leaf: %w", ErrCorrupt)
		}
		rest = rest[framePrefix+size:]
	}
	if count == 0 || len(rest) != 0 {
		return fmt.Errorf("block leaves: %w", ErrCorrupt)
	}
	return nil
}

// Leaves yields each leaf with its index in the log.
func (k *Block) Leaves() iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		index := k.First
		for rest := k.leaves; len(rest) > 0; index++ {
			end := framePrefix + int(binary.BigEndian.Uint16(rest))
			if !yield(index, rest[framePrefix:end:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// Leaf returns the leaf with this index, nil where the block has none.
func (k *Block) Leaf(index uint64) []byte {
	for i, leaf := range k.Leaves() {
		if i == index {
			return leaf
		}
	}
	return nil
}

// Before is the tree as it was before the block, by the edge that it carries.
func (k *Block) Before() Tree { return treeOf(k.First, k.edge) }

// Check recomputes the root from the edge and the leaves, and returns the tree
// after the block, or ErrTampered.
func (k *Block) Check() (Tree, error) {
	t := k.Before()
	for _, leaf := range k.Leaves() {
		t.Add(tlog.RecordHash(leaf))
	}
	if t.Root() != k.Root {
		return Tree{}, fmt.Errorf("root of block %d: %w", k.Number, ErrTampered)
	}
	return t, nil
}

// Leaves are the encoded and hashed leaves of one append, made by whoever
// appends so that the one writer of the log only concatenates.
type Leaves struct {
	framed []byte
	hashes []Hash
	single [1]Hash // backs hashes for the append of one entry
}

// Size is how many bytes the leaves take in a block.
func (l *Leaves) Size() int { return len(l.framed) }

// Encode encodes and hashes entries; ErrEntry names no text of them.
func (l *Leaves) Encode(entries []Entry) error {
	if len(entries) == 0 {
		return fmt.Errorf("no entries: %w", ErrEntry)
	}
	bound := 0
	for i := range entries {
		bound += framePrefix + entries[i].encodedBound()
	}
	l.framed = make([]byte, 0, bound)
	l.hashes = l.single[:0]
	if len(entries) > 1 {
		l.hashes = make([]Hash, 0, len(entries))
	}
	for i := range entries {
		if err := l.frame(func(dst []byte) ([]byte, error) { return AppendEntry(dst, &entries[i]) }); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// EncodeClaim encodes and hashes a claim.
func (l *Leaves) EncodeClaim(c *Claim) error {
	l.framed, l.hashes = nil, l.single[:0]
	return l.frame(func(dst []byte) ([]byte, error) { return AppendClaim(dst, c) })
}

func (l *Leaves) frame(encode func([]byte) ([]byte, error)) error {
	start := len(l.framed)
	framed, err := encode(append(l.framed, 0, 0))
	if err != nil {
		return err
	}
	leaf := framed[start+framePrefix:]
	binary.BigEndian.PutUint16(framed[start:], uint16(len(leaf)))
	l.framed = framed
	l.hashes = append(l.hashes, tlog.RecordHash(leaf))
	return nil
}

// EachEntry calls fn for every entry of a stored block, with its index in the
// log. A block that is damaged, or is not the one it was asked for as
// (ErrTampered), is an error; entries before the damage were told of.
func EachEntry(log LogName, number uint64, raw []byte, fn func(index uint64, e Entry)) error {
	b, err := ParseBlock(raw)
	if err != nil {
		return err
	}
	if b.Log != log || b.Number != number {
		return fmt.Errorf("block is not in its place: %w", ErrTampered)
	}
	for index, leaf := range b.Leaves() {
		if !IsEntry(leaf) {
			continue
		}
		e, err := DecodeEntry(leaf)
		if err != nil {
			return err
		}
		fn(index, e)
	}
	return nil
}
