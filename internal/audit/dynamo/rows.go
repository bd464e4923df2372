package dynamo

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// An index row holds the postings of one value, one second, one log and one
// pass of the indexer: an item for each entry and index would cost more than
// the record that it tells of.

// Kinds of index rows: the first byte of their partition key.
const (
	rowActor   = 'a'
	rowRecord  = 'r'
	rowSubject = 's'
	rowTime    = 't' // every entry of a tenant

	attrPostings = "p"

	second     = 1000
	rowHeader  = 8 // the first posting's block
	postingMin = 2 + 2
)

// indexPartition is the partition of a value's rows. A collision of the digest
// costs looks at entries that do not match.
func indexPartition(kind byte, tenant, value string) string {
	in := append(make([]byte, 0, 256), kind)
	in = binary.AppendUvarint(in, uint64(len(tenant)))
	in = append(in, tenant...)
	in = append(in, value...)
	sum := sha256.Sum256(in)
	return fmt.Sprintf("%c#%x", kind, sum[:8])
}

// floor gives the second that a time is in, and the ms within it.
func floor(ms int64) (sec int64, rest uint16) {
	sec, r := ms/second, ms%second
	if r < 0 {
		sec, r = sec-1, r+second
	}
	return sec, uint16(r)
}

// secondKey is a second as 16 hexadecimal digits in the order of time.
func secondKey(sec int64) string { return fmt.Sprintf("%016x", uint64(sec)^1<<63) }

// posting says that an entry has a value.
type posting struct {
	pk    string
	time  int64
	index uint64
	block uint64
}

// rows collects the postings of one pass over one log.
type rows struct{ postings []posting }

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
	p.pk = indexPartition(kind, tenant, value)
	r.postings = append(r.postings, p)
}

// encode gives the rows of the postings collected.
func (r *rows) encode(log audit.LogName) (items []dynamo.Write) {
	slices.SortFunc(r.postings, func(a, b posting) int {
		as, _ := floor(a.time)
		bs, _ := floor(b.time)
		return cmp.Or(cmp.Compare(a.pk, b.pk), cmp.Compare(as, bs), cmp.Compare(a.index, b.index))
	})
	for rest := r.postings; len(rest) > 0; {
		n := 1
		for n < len(rest) && sameRow(&rest[0], &rest[n]) {
			n++
		}
		items = append(items, dynamo.Write{Put: encodeRow(log, rest[:n])})
		rest = rest[n:]
	}
	return items
}

func sameRow(a, b *posting) bool {
	as, _ := floor(a.time)
	bs, _ := floor(b.time)
	return a.pk == b.pk && as == bs
}

func encodeRow(log audit.LogName, postings []posting) dynamo.Item {
	first := &postings[0]
	sec, _ := floor(first.time)
	b := binary.BigEndian.AppendUint64(nil, first.block)
	for i := range postings {
		p := &postings[i]
		_, ms := floor(p.time)
		b = binary.BigEndian.AppendUint16(b, ms)
		b = binary.AppendUvarint(b, p.index-first.index)
		b = binary.AppendUvarint(b, p.block-first.block)
	}
	item := dynamo.Key{PK: first.pk, SK: secondKey(sec) + "#" + logKey(log) + "#" + digits(first.index)}.Item()
	item[attrPostings] = dynamo.Bytes(b)
	return item
}

// candidate is where an index says that a matching entry is.
type candidate struct {
	at    audit.Position
	block uint64
}

// parseRow gives a row's second and postings.
func parseRow(item dynamo.Item) (sec int64, found []candidate, err error) {
	f := dynamo.Read(item)
	sk, b := f.String(dynamo.SK), f.Bytes(attrPostings)
	parts := strings.Split(sk, "#")
	if f.Err() != nil || len(parts) != 3 || len(b) < rowHeader {
		return 0, nil, fmt.Errorf("index row: %w", audit.ErrCorrupt)
	}
	at, err := strconv.ParseUint(parts[0], 16, 64)
	log, logErr := parseLogKey(parts[1])
	first, indexErr := parseDigits(parts[2])
	sec = int64(at ^ 1<<63)
	if err != nil || logErr != nil || indexErr != nil || secondKey(sec) != parts[0] {
		return 0, nil, fmt.Errorf("index row: %w", audit.ErrCorrupt)
	}
	block := binary.BigEndian.Uint64(b)
	for b = b[rowHeader:]; len(b) > 0; {
		if len(b) < postingMin {
			return 0, nil, fmt.Errorf("index posting: %w", audit.ErrCorrupt)
		}
		ms := binary.BigEndian.Uint16(b)
		index, n := binary.Uvarint(b[2:])
		number, m := binary.Uvarint(b[2+max(n, 0):])
		if n <= 0 || m <= 0 {
			return 0, nil, fmt.Errorf("index posting: %w", audit.ErrCorrupt)
		}
		b = b[2+n+m:]
		p := audit.Position{Time: sec*second + int64(ms), Log: log, Index: first + index}
		found = append(found, candidate{p, block + number})
	}
	return sec, found, nil
}
