package embedded

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

// An index row holds the postings that one write of the indexer has for one of
// 1,024 buckets of an index, one second and one log. A row for each value of
// each entry was tried: compacting their random keys cost Pebble four times as
// much as all the rest of an append.

const (
	bucketBits  = 10
	printSize   = 6 // bytes of the digest that tell a bucket's values apart
	second      = 1000
	rowHeader   = 8             // of a row's value: the first posting's block
	postingMin  = printSize + 4 // and two varints
	secondStart = 4             // where the time is in a row's key
)

// digest is what a value of a field in a tenant is known by. A collision costs
// a look at an entry that does not match.
type digest uint64

func digestOf(kind byte, tenant, value string) digest {
	var scratch [256]byte
	in := append(scratch[:0], kind)
	in = binary.AppendUvarint(in, uint64(len(tenant)))
	in = append(in, tenant...)
	in = append(in, value...)
	sum := sha256.Sum256(in)
	return digest(binary.BigEndian.Uint64(sum[:]))
}

func (d digest) bucket() uint16 { return uint16(d >> (64 - bucketBits)) }

func (d digest) print() uint64 { return uint64(d) & (1<<(8*printSize) - 1) }

// appendBucket begins the keys of a bucket's rows.
func appendBucket(dst []byte, kind byte, d digest) []byte {
	return binary.BigEndian.AppendUint16(append(dst, localPrefix, kind), d.bucket())
}

// floor gives the second that a time is in, and the ms within it.
func floor(ms int64) (sec int64, rest uint16) {
	sec, r := ms/second, ms%second
	if r < 0 {
		sec, r = sec-1, r+second
	}
	return sec, uint16(r)
}

// posting says that an entry has a value.
type posting struct {
	kind   byte
	digest digest
	time   int64
	index  uint64
	block  uint64
}

// row is what the postings of one row have in common.
func (p *posting) row() (kind byte, bucket uint16, sec int64) {
	sec, _ = floor(p.time)
	return p.kind, p.digest.bucket(), sec
}

func byRow(a, b posting) int {
	ak, ab, as := a.row()
	bk, bb, bs := b.row()
	return cmp.Or(cmp.Compare(ak, bk), cmp.Compare(ab, bb), cmp.Compare(as, bs), cmp.Compare(a.index, b.index))
}

// rows collects the postings of one write; it keeps its memory for the next.
type rows struct {
	postings []posting
	kv       []wal.KV
	buf      []byte // keys and values of kv
}

func (r *rows) reset() { r.postings, r.kv, r.buf = r.postings[:0], r.kv[:0], r.buf[:0] }

// addBlock adds the postings of each entry of a block.
func (r *rows) addBlock(log audit.LogName, number uint64, raw []byte) error {
	return audit.EachEntry(log, number, raw, func(index uint64, e audit.Entry) {
		p := posting{time: e.Time, index: index, block: number}
		r.add(p, rowTime, e.Tenant, "")
		r.add(p, rowActor, e.Tenant, e.Actor)
		r.add(p, rowRecord, e.Tenant, e.Record)
		r.add(p, rowSubject, e.Tenant, e.Subject)
	})
}

func (r *rows) add(p posting, kind byte, tenant, value string) {
	if value == "" && kind != rowTime {
		return
	}
	p.kind, p.digest = kind, digestOf(kind, tenant, value)
	r.postings = append(r.postings, p)
}

// encode gives the rows of the postings collected.
func (r *rows) encode(log audit.LogName) []wal.KV {
	slices.SortFunc(r.postings, byRow)
	for rest := r.postings; len(rest) > 0; {
		n := 1
		for n < len(rest) && sameRow(&rest[0], &rest[n]) {
			n++
		}
		r.kv = append(r.kv, r.encodeRow(log, rest[:n]))
		rest = rest[n:]
	}
	return r.kv
}

func sameRow(a, b *posting) bool {
	ak, ab, as := a.row()
	bk, bb, bs := b.row()
	return ak == bk && ab == bb && as == bs
}

func (r *rows) encodeRow(log audit.LogName, postings []posting) wal.KV {
	first := &postings[0]
	start := len(r.buf)
	sec, _ := floor(first.time)
	r.buf = audit.AppendTime(appendBucket(r.buf, first.kind, first.digest), sec)
	r.buf = binary.BigEndian.AppendUint64(log.AppendKey(r.buf), first.index)
	middle := len(r.buf)
	r.buf = binary.BigEndian.AppendUint64(r.buf, first.block)
	for i := range postings {
		p := &postings[i]
		_, ms := floor(p.time)
		r.buf = binary.BigEndian.AppendUint64(r.buf, p.digest.print()<<16|uint64(ms))
		r.buf = binary.AppendUvarint(r.buf, p.index-first.index)
		r.buf = binary.AppendUvarint(r.buf, p.block-first.block)
	}
	return wal.KV{Key: r.buf[start:middle:middle], Value: r.buf[middle:len(r.buf):len(r.buf)]}
}

// candidate is where an index says that a matching entry is.
type candidate struct {
	at    audit.Position
	block uint64
}

// rowSecond is the second of a row, by its key.
func rowSecond(key []byte) (int64, error) {
	if len(key) < secondStart+8 {
		return 0, fmt.Errorf("index row: %w", audit.ErrCorrupt)
	}
	return audit.ParseTime(key[secondStart:]), nil
}

// parseRow calls fn for the postings of a row that have a value's print.
func parseRow(key, value []byte, d digest, fn func(candidate)) error {
	at, err := audit.ParsePosition(key[secondStart:])
	if err != nil || at.Log == (audit.LogName{}) || len(value) < rowHeader {
		return fmt.Errorf("index row: %w", audit.ErrCorrupt)
	}
	sec, first, block := at.Time, at.Index, binary.BigEndian.Uint64(value)
	for rest := value[rowHeader:]; len(rest) > 0; {
		if len(rest) < postingMin {
			return fmt.Errorf("index posting: %w", audit.ErrCorrupt)
		}
		head := binary.BigEndian.Uint64(rest)
		index, n := binary.Uvarint(rest[8:])
		number, m := binary.Uvarint(rest[8+max(n, 0):])
		if n <= 0 || m <= 0 {
			return fmt.Errorf("index posting: %w", audit.ErrCorrupt)
		}
		rest = rest[8+n+m:]
		if head>>16 == d.print() {
			at.Time = sec*second + int64(head&0xffff)
			at.Index = first + index
			fn(candidate{at: at, block: block + number})
		}
	}
	return nil
}
