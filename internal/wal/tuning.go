package wal

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Sizes of one engine; a process may hold two within 150 MB. Pebble takes the
// memtables out of the cache's size: what they leave is for blocks. Records
// are encrypted, so blocks are not compressed.
const (
	cacheSize    = 20 << 20
	memTableSize = 6 << 20
	memTables    = 3 // writes wait when this many are full
	filterBits   = 10
)

func (e *Engine) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          e.fence,
		Logger:                      e.log,
		EventListener:               e.log.events(),
		FormatMajorVersion:          pebble.FormatValueSeparation, // pinned: raising it is a one-way step
		CacheSize:                   cacheSize,
		MemTableSize:                e.memTable,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       8,
		// Nothing may wait for a compaction without end, least of all in an
		// engine that was poisoned meanwhile.
		L0StopWritesThreshold:      1000,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		MaxOpenFiles:               512,
	}
	for i := range o.Levels {
		o.Levels[i].IndexBlockSize = 256 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}
