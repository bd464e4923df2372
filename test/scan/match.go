package scan

import (
	"encoding/binary"
	"slices"
)

const (
	window     = MinNeedle // bytes hashed at every position: a pattern's first
	windowMask = 1<<(8*window) - 1
	filterBits = 24
)

// matcher finds many patterns in one pass: a bitmap over the hash of the
// window at each position dismisses nearly all, and what passes is looked up
// whole, once for each length that patterns with this window have.
type matcher struct {
	filter  []uint64
	lengths map[uint64][]int
	byBytes map[string][]pattern
	longest int
}

func newMatcher() *matcher {
	return &matcher{
		filter:  make([]uint64, 1<<filterBits/64),
		lengths: make(map[uint64][]int),
		byBytes: make(map[string][]pattern),
	}
}

func (m *matcher) add(b []byte, p pattern) {
	known := m.byBytes[string(b)]
	if slices.ContainsFunc(known, func(q pattern) bool { return q.needle == p.needle }) {
		return // base64url of what base64 has already
	}
	m.byBytes[string(b)] = append(known, p)
	m.longest = max(m.longest, len(b))

	w := load(b) & windowMask
	if !slices.Contains(m.lengths[w], len(b)) {
		m.lengths[w] = append(m.lengths[w], len(b))
	}
	h := hash(w)
	m.filter[h/64] |= 1 << (h % 64)
}

// find calls found for every pattern in b.
func (m *matcher) find(b []byte, found func(pattern)) {
	for i := 0; i+window <= len(b); i++ {
		w := load(b[i:]) & windowMask
		h := hash(w)
		if m.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		for _, n := range m.lengths[w] {
			if i+n > len(b) {
				continue
			}
			for _, p := range m.byBytes[string(b[i:i+n])] {
				found(p)
			}
		}
	}
}

// load reads up to 8 bytes.
func load(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b)
	}
	var last [8]byte
	copy(last[:], b)
	return binary.LittleEndian.Uint64(last[:])
}

func hash(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 >> (64 - filterBits) }
