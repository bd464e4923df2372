package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"piivault/internal/store"
	"piivault/internal/wal"
)

// errInvalid refuses what has no encoding: a caller's mistake.
var errInvalid = errors.New("not a valid record")

// Rows of the table (format.md §5). The kinds sort as Read and Seen need them.
const (
	kindLink      = 'L'
	kindRecord    = 'R'
	kindTombstone = 'X'

	rowVersion  = 1
	maxName     = 255
	recordFixed = 1 + 8 + 8 + 8 // version, created, expires, ring epoch
)

func checkKey(tenant, id string) error {
	if tenant == "" || id == "" || len(tenant) > maxName || len(id) > maxName {
		return fmt.Errorf("%w: tenant and id must have 1 to 255 bytes", errInvalid)
	}
	return nil
}

// keySize is the length of a row key without a subject.
func keySize(tenant, id string) int { return 1 + len(tenant) + 1 + len(id) + 4 + 1 }

// appendName encodes a string of at most 255 bytes with its length.
func appendName[S string | []byte](b []byte, s S) []byte {
	return append(append(b, byte(len(s))), s...)
}

// takeName decodes what appendName encoded, in place.
func takeName(b []byte) (name, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	end := 1 + int(b[0])
	return b[1:end:end], b[end:], true
}

func appendID(b []byte, tenant, id string) []byte {
	return appendName(appendName(b, tenant), id)
}

// appendKey encodes what all rows of a generation begin with.
func appendKey(b []byte, key store.Key) []byte {
	return binary.BigEndian.AppendUint32(appendID(b, key.Tenant, key.ID), key.Generation)
}

// rowKey is a decoded row key, in place.
type rowKey struct {
	head       []byte // tenant, id and generation: what appendKey encodes
	tenant, id []byte
	generation uint32
	kind       byte
	subject    []byte // of links only
}

// takeKey decodes what appendKey encoded, and gives what follows.
func takeKey(b []byte) (k rowKey, rest []byte, ok bool) {
	rest = b
	if k.tenant, rest, ok = takeName(rest); !ok {
		return k, nil, false
	}
	if k.id, rest, ok = takeName(rest); !ok || len(rest) < 4 {
		return k, nil, false
	}
	k.generation = binary.BigEndian.Uint32(rest)
	k.head = b[: len(b)-len(rest)+4 : len(b)-len(rest)+4]
	return k, rest[4:], len(k.tenant) > 0 && len(k.id) > 0
}

func (k rowKey) key() store.Key {
	return store.Key{Tenant: string(k.tenant), ID: string(k.id), Generation: k.generation}
}

// appendRow encodes a row's key; subject is of links only.
func appendRow(b []byte, key store.Key, kind byte, subject string) []byte {
	return append(append(appendKey(b, key), kind), subject...)
}

func parseRow(b []byte) (rowKey, error) {
	k, rest, ok := takeKey(b)
	if ok && len(rest) > 0 {
		k.kind, k.subject = rest[0], rest[1:]
		switch k.kind {
		case kindRecord, kindTombstone:
			ok = len(k.subject) == 0
		case kindLink:
			ok = len(k.subject) > 0 && len(k.subject) <= maxName
		default:
			ok = false
		}
		if ok {
			return k, nil
		}
	}
	return k, fmt.Errorf("row key: %w", wal.ErrCorrupt)
}

// after is the first key behind all that begin with prefix, which is not all 0xff.
func after(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// checkRecord refuses a record that has no encoding.
func checkRecord(r *store.Record) error {
	for _, s := range []string{r.Type, r.Subject, r.Home} {
		if len(s) > maxName {
			return fmt.Errorf("%w: a name has more than 255 bytes", errInvalid)
		}
	}
	if !validRegions(r.Missing) {
		return fmt.Errorf("%w: missing regions must be at most 255 names, sorted, each once", errInvalid)
	}
	return checkKey(r.Tenant, r.ID)
}

func validRegions(names []string) bool {
	last := ""
	for _, n := range names {
		if n <= last || len(n) > maxName {
			return false
		}
		last = n
	}
	return len(names) <= maxName
}

// appendRecord encodes an R row's value; checkRecord has passed.
func appendRecord(b []byte, r *store.Record) []byte {
	b = append(b, rowVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Expires))
	b = binary.BigEndian.AppendUint64(b, r.RingEpoch)
	b = appendName(appendName(appendName(b, r.Type), r.Subject), r.Home)
	b = append(b, byte(len(r.Missing)))
	for _, region := range r.Missing {
		b = appendName(b, region)
	}
	return append(b, r.Message...)
}

// recordRow is a decoded R row's value, in place.
type recordRow struct {
	created, expires    int64
	epoch               uint64
	kind, subject, home []byte
	missing             [][]byte
	message             []byte
}

// parseRecord decodes what appendRecord encodes, and refuses all else.
func parseRecord(b []byte) (r recordRow, err error) {
	if len(b) < recordFixed || b[0] != rowVersion {
		return r, errRecord()
	}
	r.created = int64(binary.BigEndian.Uint64(b[1:]))
	r.expires = int64(binary.BigEndian.Uint64(b[9:]))
	r.epoch = binary.BigEndian.Uint64(b[17:])
	b = b[recordFixed:]
	var ok bool
	for _, field := range []*[]byte{&r.kind, &r.subject, &r.home} {
		if *field, b, ok = takeName(b); !ok {
			return r, errRecord()
		}
	}
	if len(b) == 0 {
		return r, errRecord()
	}
	count := int(b[0])
	b = b[1:]
	var last, region []byte
	for range count {
		if region, b, ok = takeName(b); !ok || bytes.Compare(region, last) <= 0 {
			return r, errRecord()
		}
		r.missing = append(r.missing, region)
		last = region
	}
	r.message = b
	return r, nil
}

func errRecord() error { return fmt.Errorf("record row: %w", wal.ErrCorrupt) }

// decodeRecord decodes an R row's value; the record shares no memory with it.
func decodeRecord(key store.Key, b []byte) (*store.Record, error) {
	row, err := parseRecord(b)
	if err != nil {
		return nil, err
	}
	r := &store.Record{
		Key: key, Type: string(row.kind), Message: slices.Clone(row.message),
		Created: row.created, Expires: row.expires,
		Subject: string(row.subject), RingEpoch: row.epoch, Home: string(row.home),
	}
	for _, region := range row.missing {
		r.Missing = append(r.Missing, string(region))
	}
	return r, nil
}

// bareValue is the value of an L and of an X row: a version and nothing else.
func bareValue() []byte { return []byte{rowVersion} }

// isTombstone reports that an X row is there.
func isTombstone(value []byte) (bool, error) {
	if value == nil {
		return false, nil
	}
	return true, checkBare(value)
}

func checkBare(value []byte) error {
	if len(value) != 1 || value[0] != rowVersion {
		return fmt.Errorf("row value: %w", wal.ErrCorrupt)
	}
	return nil
}
