// Package mototest starts moto, a KMS server by other hands, for tests.
//
// It is installed once from test/requirements-moto.txt, whose hashes pip checks.
package mototest

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"piivault/internal/sim/pinned"
)

// serve is moto's server, which ends when its standard input does: with the
// test's process, however that ends.
const serve = `
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main()`

// Start runs moto on a free loopback port until tb ends, and returns its URL.
// Whatever is missing fails the test: it is never skipped.
func Start(tb testing.TB) string {
	tb.Helper()
	bin, err := pinned.Venv(tb.Context(), "moto", "test/requirements-moto.txt")
	if err != nil {
		tb.Fatalf("install moto: %v", err)
	}
	cmd := exec.CommandContext(tb.Context(), filepath.Join(bin, "python"), "-c", serve, "-H", "127.0.0.1", "-p", "0")
	cmd.Dir = tb.TempDir()
	output, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // closed by Wait, or with this process
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start moto: %v", err)
	}
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		watch(bufio.NewScanner(output), found)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, or ends now
		<-ended
		_ = cmd.Wait() // killed
	})
	address, ok := <-found
	if !ok {
		tb.Fatal("moto ended before it listened")
	}
	return address
}

// watch finds the line that names the port, which is bound by then, and reads
// on so that moto never waits for a reader.
func watch(lines *bufio.Scanner, found chan<- string) {
	running := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	for lines.Scan() {
		if address := running.FindString(lines.Text()); address != "" && found != nil {
			found <- address
			close(found)
			found = nil
		}
	}
	if found != nil {
		close(found)
	}
}
