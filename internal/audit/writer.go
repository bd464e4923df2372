package audit

import "encoding/binary"

// keepBuffer is the largest buffer that a Writer keeps between groups.
const keepBuffer = 2 * MaxBlock

// Writer lays the leaves of one log out in blocks: one block a group of
// appends, more where they are too many for one. It is not safe for
// concurrent use.
type Writer struct {
	log    string
	tree   Tree
	number uint64 // of the next block to flush
	buf    []byte // the blocks of this group, back to back
	ends   []int  // where each finished block ends in buf
	start  int    // where the open block begins in buf
	count  int    // byte offset in buf of the open block's count
	leaves uint32 // in the open block; 0: none is open
}

// NewWriter begins the log at its first block.
func NewWriter(log LogName) *Writer { return &Writer{log: log.String()} }

// Head is the tree with all that was added.
func (w *Writer) Head() Head { return Head{Log: w.log, Size: w.tree.Size(), Root: w.tree.Root()} }

// Add appends leaves to the group and returns the index of the first.
func (w *Writer) Add(l *Leaves) (first uint64) {
	first = w.tree.Size()
	rest := l.framed
	for _, hash := range l.hashes {
		end := framePrefix + int(binary.BigEndian.Uint16(rest))
		w.add(rest[:end], hash)
		rest = rest[end:]
	}
	return first
}

func (w *Writer) add(framed []byte, hash Hash) {
	if w.leaves > 0 && len(w.buf)-w.start+len(framed)+HashSize > MaxBlock {
		w.seal()
	}
	if w.leaves == 0 {
		w.open()
	}
	w.buf = append(w.buf, framed...)
	w.tree.Add(hash)
	w.leaves++
}

func (w *Writer) open() {
	w.start = len(w.buf)
	w.buf = append(w.buf, blockV1, byte(len(w.log)))
	w.buf = append(w.buf, w.log...)
	w.buf = binary.BigEndian.AppendUint64(w.buf, w.number+uint64(len(w.ends)))
	w.buf = binary.BigEndian.AppendUint64(w.buf, w.tree.Size())
	w.buf = w.tree.appendEdge(w.buf)
	w.count = len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0)
}

func (w *Writer) seal() {
	binary.BigEndian.PutUint32(w.buf[w.count:], w.leaves)
	root := w.tree.Root()
	w.buf = append(w.buf, root[:]...)
	w.ends = append(w.ends, len(w.buf))
	w.leaves = 0
}

// Flush ends the group: it gives put every block of it, in order, and reports
// how many there were. The bytes are valid during the call only.
func (w *Writer) Flush(put func(number uint64, block []byte)) uint64 {
	if w.leaves > 0 {
		w.seal()
	}
	n, from := uint64(len(w.ends)), 0
	for _, end := range w.ends {
		put(w.number, w.buf[from:end])
		w.number++
		from = end
	}
	w.buf, w.ends = w.buf[:0], w.ends[:0]
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	return n
}
