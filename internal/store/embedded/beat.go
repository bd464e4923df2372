package embedded

import (
	"context"
	"encoding/binary"
	"fmt"

	"piivault/internal/wal"
)

// beatSpace begins the rows of heartbeats: a tenant's name is never empty, so
// that no record's row begins like them (format.md §5). They have no derived rows.
const beatSpace = "\x00H"

const beatSize = 1 + 8 // version, time

// Beat implements store.Store.
func (s *Store) Beat(ctx context.Context, region string, at int64) error {
	if region == "" || len(region) > maxName {
		return fault("beat", fmt.Errorf("%w: a region has 1 to 255 bytes", errInvalid))
	}
	value := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(at))
	return fault("beat", s.e.Submit(func(tx *wal.Tx) error {
		tx.Put(tableID, append([]byte(beatSpace), region...), value)
		return nil
	}).Wait(ctx))
}

// isBeat reports a heartbeat's row.
func isBeat(row []byte) bool {
	return len(row) > len(beatSpace) && string(row[:len(beatSpace)]) == beatSpace
}

func parseBeat(value []byte) (at int64, err error) {
	if len(value) != beatSize || value[0] != rowVersion {
		return 0, fmt.Errorf("heartbeat: %w", wal.ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(value[1:])), nil
}

// Beats implements store.Store.
func (s *Store) Beats(ctx context.Context) (map[string]int64, error) {
	beats := map[string]int64{}
	err := ctx.Err()
	if err == nil {
		err = s.e.Scan(tableID, []byte(beatSpace), after([]byte(beatSpace)), func(row, value []byte) (bool, error) {
			at, err := parseBeat(value)
			beats[string(row[len(beatSpace):])] = at
			return true, err
		})
	}
	if err != nil {
		return nil, fault("read heartbeats", err)
	}
	return beats, nil
}
