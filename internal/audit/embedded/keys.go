package embedded

import (
	"encoding/binary"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

// tableID is the audit table's key prefix, fixed in docs/design/format.md §8.
const tableID = 'A'

// Kinds of items in the table: the first byte of their keys.
const (
	itemBlock = 'b' // ‖ log key ‖ number: a block
	itemClaim = 'c' // ‖ log key: the claim of an epoch
)

// localPrefix begins every local row of this package.
const localPrefix = 'A'

// Kinds of local rows: the second byte of their keys.
const (
	rowActor    = 'a'
	rowProgress = 'p'
	rowRecord   = 'r'
	rowSubject  = 's'
	rowTime     = 't'
)

// Table is the table that the engine must be opened with.
func Table() wal.Table { return wal.Table{ID: tableID} }

func claimKey(log audit.LogName) []byte { return log.AppendKey([]byte{itemClaim}) }

// claimsOf bounds the claims of all epochs of an instance.
func claimsOf(log audit.LogName) (from, to []byte) {
	from = append(log.AppendInstanceKey([]byte{itemClaim}), 0)
	to = append(log.AppendInstanceKey([]byte{itemClaim}), 1)
	return from, to
}

func blockKey(log audit.LogName, number uint64) []byte {
	return appendBlockKey(make([]byte, 0, 64), log, number)
}

func appendBlockKey(dst []byte, log audit.LogName, number uint64) []byte {
	return binary.BigEndian.AppendUint64(log.AppendKey(append(dst, itemBlock)), number)
}

// blockNumber is the end of a key that appendBlockKey made.
func blockNumber(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(key)-8:])
}
