package audit

import (
	"crypto/sha256"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the tree: SHA-256 as RFC 6962 section 2.1 uses it.
type Hash = tlog.Hash

// HashSize is the length of a Hash in bytes.
const HashSize = tlog.HashSize

// maxTreeSize keeps sizes within what tlog's signed arithmetic can count.
const maxTreeSize = 1 << 62

// EmptyRoot is the root of a tree without leaves.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// Head is a tree at one moment: what a checkpoint signs.
type Head struct {
	Log  string
	Size uint64
	Root Hash
}

// Tree is a growing Merkle tree of which only the right edge is kept: the
// roots of the complete subtrees that its leaves fall into, the largest
// first, one for each 1 in the binary form of its size. The zero Tree is
// empty. It is not safe for concurrent use.
type Tree struct {
	size uint64
	edge []Hash
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Add appends a leaf, given by its hash (tlog.RecordHash).
func (t *Tree) Add(leaf Hash) {
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		leaf = tlog.NodeHash(t.edge[last], leaf)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, leaf)
	t.size++
}

// Root is the RFC 6962 tree hash.
func (t *Tree) Root() Hash {
	last := len(t.edge) - 1
	if last < 0 {
		return EmptyRoot()
	}
	root := t.edge[last]
	for _, left := range slices.Backward(t.edge[:last]) {
		root = tlog.NodeHash(left, root)
	}
	return root
}

func (t *Tree) appendEdge(dst []byte) []byte {
	for i := range t.edge {
		dst = append(dst, t.edge[i][:]...)
	}
	return dst
}

// edgeLen is the number of bytes that the edge of a tree of this size takes.
func edgeLen(size uint64) int { return bits.OnesCount64(size) * HashSize }

func treeOf(size uint64, edge []byte) Tree {
	t := Tree{size: size, edge: make([]Hash, 0, bits.OnesCount64(size)+1)}
	for h := range slices.Chunk(edge, HashSize) {
		t.edge = append(t.edge, Hash(h))
	}
	return t
}
