package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"golang.org/x/term"

	"piivault/cmd/vault/internal/bulk"
)

// maxStdin bounds what is read as one value; the vault refuses less.
const maxStdin = 8 << 20

// readSecret reads a value or token from standard input, to its end, less one
// line ending; on a terminal it asks for a line and does not show it.
func (a *app) readSecret(ctx context.Context, prompt string) (string, error) {
	fd, isTerminal := terminal(a.stdin)
	if !isTerminal {
		b, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.stdin, maxStdin+1)) })
		if err == nil && len(b) > maxStdin {
			err = usagef("standard input is larger than %d bytes", maxStdin)
		}
		return string(trimLineEnd(b)), err
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	_, _ = fmt.Fprint(a.stderr, prompt+": ")
	b, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	_, _ = fmt.Fprintln(a.stderr)
	if ctx.Err() != nil {
		_ = term.Restore(fd, before) // the read that would do it goes on
	}
	return string(b), err
}

// interruptible returns when read does or ctx is done. Nothing can end a read
// of a terminal; the one that is left behind ends with the process, which is
// what an interrupted command does next.
func interruptible(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		b, err := read()
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("read standard input: %w", r.err)
		}
		return r.b, nil
	case <-ctx.Done():
		return nil, bulk.ErrInterrupted
	}
}

func trimLineEnd(b []byte) []byte {
	if rest, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		return bytes.TrimSuffix(rest, []byte("\r"))
	}
	return b
}
