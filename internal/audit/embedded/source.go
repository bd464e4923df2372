package embedded

import (
	"context"
	"fmt"
	"math"

	"piivault/internal/audit"
	"piivault/internal/wal"
)

// Stored is what a table holds, for audit.Verify.
type Stored struct{ Engine *wal.Engine }

var _ audit.Source = Stored{}

// Claims implements audit.Source.
func (s Stored) Claims(ctx context.Context, fn func(audit.LogName, []byte) error) error {
	return s.Engine.Scan(tableID, []byte{itemClaim}, []byte{itemClaim + 1}, func(key, item []byte) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		log, rest, err := audit.CutKey(key[1:])
		if err != nil || len(rest) > 0 {
			return false, fmt.Errorf("claim's key: %w", audit.ErrCorrupt)
		}
		return true, fn(log, item)
	})
}

// Blocks implements audit.Source.
func (s Stored) Blocks(ctx context.Context, log audit.LogName, fn func(uint64, []byte) error) error {
	from, to := blockKey(log, 0), blockKey(log, math.MaxUint64)
	return s.Engine.Scan(tableID, from, to, func(key, block []byte) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		return true, fn(blockNumber(key), block)
	})
}
