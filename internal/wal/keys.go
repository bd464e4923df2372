package wal

import (
	"encoding/binary"
	"fmt"
)

// Keyspaces of the engine (format.md §8). A table's items begin with its ID,
// 'A' to 'Z', and its derived rows with the same letter in lower case.
const (
	spaceMeta   = 0x00
	spaceLocal  = 0x01
	spaceOutbox = 0x02

	indexSpace = 'a' - 'A'
)

// The two rows of spaceMeta.
const (
	metaFormat = "\x00format"
	metaClock  = "\x00clock"
)

func appendKey(b []byte, space byte, key []byte) []byte {
	return append(append(b, space), key...)
}

func outboxKey(seq uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{spaceOutbox}, seq))
}

// bounds gives the keys of a space from from (inclusive) to to (exclusive; nil: its end).
func bounds(space byte, from, to []byte) (lower, upper []byte) {
	lower = appendKey(nil, space, from)
	if to == nil {
		return lower, []byte{space + 1}
	}
	return lower, appendKey(nil, space, to)
}

// formatRow and clockRow are the values of the meta rows.
const formatVersion = 1

func formatRow(region string) []byte { return append([]byte{formatVersion}, region...) }

// checkFormat refuses a directory of another format or region.
func checkFormat(row []byte, region string) error {
	if len(row) == 0 || row[0] != formatVersion {
		return fmt.Errorf("%w: format version", ErrFormat)
	}
	if string(row[1:]) != region {
		return fmt.Errorf("%w: it belongs to region %q", ErrFormat, row[1:])
	}
	return nil
}

// clock is the last stamp and outbox sequence number that were given out. It
// is written with every group that uses one, so neither is ever used twice.
type clock struct{ stamp, seq uint64 }

const clockSize = 16

func (c clock) row() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, clockSize), c.stamp)
	return binary.BigEndian.AppendUint64(b, c.seq)
}

func parseClock(b []byte) (clock, error) {
	if len(b) != clockSize {
		return clock{}, fmt.Errorf("clock: %w", ErrCorrupt)
	}
	return clock{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}
