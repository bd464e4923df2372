// Command vault runs and calls a PII vault. docs: README.md.
//
// Exit codes: 0 all done; 1 failed or interrupted; 2 wrong usage, nothing was
// done; 3 done, but for some rows or tokens that were refused.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first Ctrl-C asks to stop, a second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, newApp(), os.Args[1:]))
}
