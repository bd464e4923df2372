// Package mototest starts moto, a KMS server by other hands, for tests.
//
// It is installed from test/requirements-moto.txt, whose hashes pip checks,
// into a folder under .cache/ that is named by that file's hash and reused.
package mototest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
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
	python, err := install(tb)
	if err != nil {
		tb.Fatalf("install moto: %v", err)
	}
	cmd := exec.CommandContext(tb.Context(), python, "-c", serve, "-H", "127.0.0.1", "-p", "0")
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

// install returns the interpreter of the environment that has moto. Packages
// are tested at the same time: the first to come installs, the others wait.
func install(tb testing.TB) (python string, err error) {
	tb.Helper()
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	requirements := filepath.Join(root, "test", "requirements-moto.txt")
	text, err := os.ReadFile(requirements)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(root, ".cache", "moto-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	python, complete := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return python, nil
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{
			python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
			"--only-binary", ":all:", "--require-hashes", "--cache-dir", filepath.Join(root, ".cache", "pip"), "-r", requirements,
		},
	} {
		cmd := exec.CommandContext(tb.Context(), command[0], command[1:]...)
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command[:4], err, output)
		}
	}
	return python, os.WriteFile(complete, nil, 0o600)
}

// lock waits until no other process holds the file.
func lock(path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

// findRoot is the nearest folder above with a go.mod.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not inside the module")
		}
		dir = filepath.Dir(dir)
	}
}
