package vault

import (
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"piivault/internal/store"
)

// maxLabel bounds subject ids, purposes and tickets, in bytes of UTF-8.
const maxLabel = 256

// validLabel reports a short text without control characters.
func validLabel(s string) bool {
	if s == "" || !utf8.ValidString(s) || len(s) > maxLabel {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// expired reports that a record has ended: it counts as erased (design §5).
func expired(r *store.Record, now time.Time) bool {
	return r.Expires != 0 && now.UnixMilli() >= r.Expires
}

// random fills b from the vault's source, which must not fail: without
// randomness there is nothing that a vault could safely do.
func (v *Vault) random(b []byte) {
	if _, err := io.ReadFull(v.Random, b); err != nil {
		panic("vault: the source of randomness failed")
	}
}
