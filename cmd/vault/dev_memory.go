package main

import (
	"os"
	"runtime/debug"
)

const (
	// gcPercent trades memory for fewer collections: what lives long is small.
	gcPercent = 400
	// heapLimit is where the collector works harder instead; the stores' caches
	// and memtables come on top.
	heapLimit = 56 << 20
)

// tuneMemory sets the collector for a small server, unless the environment does.
func tuneMemory() {
	tuneCollector()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}

// tuneCollector lets garbage grow, unless the environment says how much.
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
