package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The envelope of an item (format.md §8): version, flags, stamp, region, value.
const (
	itemVersion = 1

	flagLive  = 0x00
	flagGrave = 0x01 // deleted: kept for its stamp, so that an older write cannot bring the item back

	itemHeader = 1 + 1 + 8 + 1 // up to and including the region's length
)

// item is a decoded envelope; its slices point into the encoded bytes.
type item struct {
	grave  bool
	stamp  uint64 // ns since 1970, forced to increase within an engine
	region []byte
	value  []byte
}

// appendItem encodes an item. The region has at most 255 bytes (checkOptions).
func appendItem(b []byte, it item) []byte {
	flags := byte(flagLive)
	if it.grave {
		flags = flagGrave
	}
	b = append(b, itemVersion, flags)
	b = binary.BigEndian.AppendUint64(b, it.stamp)
	b = append(b, byte(len(it.region)))
	b = append(b, it.region...)
	return append(b, it.value...)
}

// parseItem decodes an envelope and refuses every other encoding.
func parseItem(b []byte) (item, error) {
	if len(b) < itemHeader || b[0] != itemVersion || b[1] > flagGrave {
		return item{}, fmt.Errorf("item header: %w", ErrCorrupt)
	}
	end := itemHeader + int(b[itemHeader-1])
	if end == itemHeader || end > len(b) {
		return item{}, fmt.Errorf("item region: %w", ErrCorrupt)
	}
	it := item{
		grave:  b[1] == flagGrave,
		stamp:  binary.BigEndian.Uint64(b[2:]),
		region: b[itemHeader:end],
		value:  b[end:],
	}
	if it.grave && len(it.value) > 0 {
		return item{}, fmt.Errorf("item grave: %w", ErrCorrupt)
	}
	return it, nil
}

// newer reports that a wins over b: the later stamp, then the greater region.
func (it item) newer(b item) bool {
	if it.stamp != b.stamp {
		return it.stamp > b.stamp
	}
	return bytes.Compare(it.region, b.region) > 0
}
