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
	MaxScanned  = maxScanned
	MaxSpans    = maxSpans
)

func BlockKey(log audit.LogName, number uint64) []byte { return blockKey(log, number) }

func ClaimKey(log audit.LogName) []byte { return claimKey(log) }

// Claimed is what a forged index row says of an entry.
type Claimed struct{ Time, Index, Block uint64 }

// ActorRows are index rows that say where a tenant's actor has entries.
func ActorRows(log audit.LogName, tenant, actor string, claimed ...Claimed) []wal.KV {
	var r rows
	for _, c := range claimed {
		r.add(posting{time: int64(c.Time), index: c.Index, block: c.Block}, rowActor, tenant, actor)
	}
	return r.encode(log)
}

// Postings counts the postings of a value in an index.
func Postings(e *wal.Engine, kind byte, tenant, value string) (n int, err error) {
	d := digestOf(kind, tenant, value)
	return n, e.ScanLocal([]byte{localPrefix, kind}, []byte{localPrefix, kind + 1}, false, func(key, row []byte) (bool, error) {
		return true, parseRow(key, row, d, func(candidate) { n++ })
	})
}

// FuzzedRow parses an index row.
func FuzzedRow(key, value []byte) error {
	if _, err := rowSecond(key); err != nil {
		return err
	}
	return parseRow(key, value, 0, func(candidate) {})
}

// Spans counts the spans of a log's progress row.
func Spans(e *wal.Engine, log audit.LogName) (int, error) {
	row, err := e.GetLocal(progressKey(log))
	return len(row) / 16, err
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
