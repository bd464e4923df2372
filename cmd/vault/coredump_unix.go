//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// dumpOff keeps the process's memory, which holds values and keys, out of core
// dumps: its own, and those of what it starts.
func dumpOff() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	return undumpable()
}
