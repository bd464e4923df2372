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
	heapLimit = 72 << 20
)

// tuneMemory sets the collector for a server, unless the environment does.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}
