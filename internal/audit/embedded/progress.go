package embedded

import (
	"encoding/binary"
	"math"
	"slices"
)

// progressV1 is the first byte of a progress row.
const progressV1 = 1

// maxSpans bounds a log's progress. Past it the rest of the log is gone
// through again: writing an index row twice does no harm.
const maxSpans = 128

// span is a run of blocks that are not indexed yet, to exclusive.
type span struct{ from, to uint64 }

// progress is how far a log is indexed: what is left, in order. The last span
// has no end. Others are blocks that other regions have not delivered yet
// though they delivered later ones.
type progress []span

func newProgress() progress { return progress{{0, math.MaxUint64}} }

// indexed reports that nothing is left before a block number.
func (p progress) indexed(end uint64) bool { return p[0].from >= end }

func (p progress) bounded() progress {
	if len(p) <= maxSpans {
		return p
	}
	return append(p[:maxSpans-1:maxSpans-1], span{p[maxSpans-1].from, math.MaxUint64})
}

func (p progress) encode() []byte {
	b := []byte{progressV1}
	for _, s := range p {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.from), s.to)
	}
	return b
}

// parseProgress begins anew where the row is not one: indexes are rebuildable.
func parseProgress(b []byte) progress {
	if len(b) < 17 || len(b)%16 != 1 || len(b) > 1+16*maxSpans || b[0] != progressV1 {
		return newProgress()
	}
	var p progress
	for s := range slices.Chunk(b[1:], 16) {
		next := span{binary.BigEndian.Uint64(s), binary.BigEndian.Uint64(s[8:])}
		if next.from >= next.to || len(p) > 0 && next.from <= p[len(p)-1].to {
			return newProgress()
		}
		p = append(p, next)
	}
	if p[len(p)-1].to != math.MaxUint64 {
		return newProgress()
	}
	return p
}
