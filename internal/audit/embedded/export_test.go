package embedded

import (
	"piivault/internal/audit"
	"piivault/internal/wal"
)

// What tests tamper with.
const (
	TableID     = tableID
	LocalPrefix = localPrefix
	MaxExamined = maxExamined
	MaxSpans    = maxSpans
)

func BlockKey(log audit.LogName, number uint64) []byte { return blockKey(log, number) }

func ClaimKey(log audit.LogName) []byte { return claimKey(log) }

// RowKey is the key of an entry's row in the index of a tenant's actors.
func RowKey(tenant, actor string, at audit.Position) []byte {
	return at.AppendKey(appendRowPrefix(nil, rowActor, tenant, actor))
}

// Rows counts this package's local rows by kind.
func Rows(e *wal.Engine) (map[byte]int, error) {
	n := map[byte]int{}
	return n, e.ScanLocal([]byte{localPrefix}, []byte{localPrefix + 1}, false, func(key, _ []byte) (bool, error) {
		n[key[1]]++
		return true, nil
	})
}

// FuzzedProgress parses a progress row and gives its spans and encoding.
func FuzzedProgress(b []byte) (spans [][2]uint64, encoded []byte) {
	p := parseProgress(b)
	for _, s := range p {
		spans = append(spans, [2]uint64{s.from, s.to})
	}
	return spans, p.encode()
}
