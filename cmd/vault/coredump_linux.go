package main

import (
	"fmt"
	"syscall"
)

// undumpable also stops dumps that a handler takes through a pipe, whatever
// the limit (core(5)), and other processes of the same user from attaching
// (prctl(2), PR_SET_DUMPABLE).
func undumpable() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return fmt.Errorf("turn core dumps off: %w", errno)
	}
	return nil
}
