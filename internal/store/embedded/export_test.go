package embedded

import (
	"piivault/internal/store"
	"piivault/internal/wal"
)

// Table's id, for tests that write rows behind the store's back.
const TableID = tableID

// ErrInvalid refuses a caller's mistake.
var ErrInvalid = errInvalid

// Row encodes a row key.
func Row(key store.Key, kind byte, subject string) []byte { return appendRow(nil, key, kind, subject) }

// EncodeRecord encodes an R row's value.
func EncodeRecord(r *store.Record) []byte { return appendRecord(nil, r) }

// DecodeRow decodes a row as the engine and Read do.
func DecodeRow(row, value []byte) (key store.Key, kind byte, r *store.Record, index [][]byte, err error) {
	k, err := parseRow(row)
	if err != nil {
		return key, 0, nil, nil, err
	}
	if index, err = indexRows(row, value); err != nil {
		return key, 0, nil, nil, err
	}
	if k.kind == kindRecord {
		r, err = decodeRecord(k.key(), value)
	}
	return k.key(), k.kind, r, index, err
}

// Notes counts the local rows of what may have to be swept.
func Notes(e *wal.Engine) (n int, err error) {
	err = e.ScanLocal([]byte(sweepSpace), after([]byte(sweepSpace)), false, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

// CheckBeat judges a heartbeat's row as the engine does.
func CheckBeat(row, value []byte) error {
	_, err := indexRows(row, value)
	return err
}
