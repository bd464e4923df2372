package embedded

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

// digestSize is the length of the part of a row's key that names what it is
// an index of. A collision costs a look at an entry that does not match.
const digestSize = 16

// rowPrefix begins the rows of one value of a field in a tenant.
func appendRowPrefix(dst []byte, kind byte, tenant, value string) []byte {
	var scratch [256]byte
	in := append(scratch[:0], kind)
	in = binary.AppendUvarint(in, uint64(len(tenant)))
	in = append(in, tenant...)
	in = append(in, value...)
	sum := sha256.Sum256(in)
	return append(append(dst, localPrefix, kind), sum[:digestSize]...)
}

// rowPrefixSize is the length of what appendRowPrefix appends.
const rowPrefixSize = 2 + digestSize

// rows collects index rows for one write; their keys share a buffer.
type rows struct {
	kv  []wal.KV
	buf []byte
}

// reset keeps the memory for the next write.
func (r *rows) reset() { r.kv, r.buf = r.kv[:0], r.buf[:0] }

func (r *rows) add(kind byte, e *audit.Entry, value string, at audit.Position, block []byte) {
	start := len(r.buf)
	r.buf = at.AppendKey(appendRowPrefix(r.buf, kind, e.Tenant, value))
	r.kv = append(r.kv, wal.KV{Key: r.buf[start:len(r.buf):len(r.buf)], Value: block})
}

// addBlock adds a row for each index that each entry belongs to.
func (r *rows) addBlock(log audit.LogName, number uint64, value []byte) error {
	b, err := audit.ParseBlock(value)
	if err != nil {
		return err
	}
	if b.Log != log || b.Number != number {
		return fmt.Errorf("block is not in its place: %w", audit.ErrTampered)
	}
	place := binary.BigEndian.AppendUint64(nil, number)
	for index, leaf := range b.Leaves() {
		if !audit.IsEntry(leaf) {
			continue
		}
		e, err := audit.DecodeEntry(leaf)
		if err != nil {
			return err
		}
		at := audit.Position{Time: e.Time, Log: log, Index: index}
		r.add(rowTime, &e, "", at, place)
		if e.Actor != "" {
			r.add(rowActor, &e, e.Actor, at, place)
		}
		if e.Record != "" {
			r.add(rowRecord, &e, e.Record, at, place)
		}
		if e.Subject != "" {
			r.add(rowSubject, &e, e.Subject, at, place)
		}
	}
	return nil
}
