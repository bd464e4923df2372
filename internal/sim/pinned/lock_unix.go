//go:build unix

package pinned

import (
	"os"
	"syscall"
)

// exclusive waits until no other process holds the file; closing it lets go.
func exclusive(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX) }
