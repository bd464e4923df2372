// Package pinned keeps what tests fetch under .cache/: fixed versions, checked
// against committed hashes, installed once and shared by all test processes.
package pinned

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Root is the module's directory: the nearest one above with a go.mod.
func Root() (string, error) {
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

// Lock waits until no other process holds the file, which it makes, with its folder.
func Lock(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil { //nolint:gosec // our own path
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own paths
	if err != nil {
		return nil, err
	}
	if err := exclusive(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

// Venv returns the bin folder of a Python environment that holds exactly what
// a requirements file lists, with the hashes that it lists; the file's path is
// relative to Root. The environment is .cache/NAME-HASH, by the file's hash:
// the first process to come installs, the others wait.
func Venv(ctx context.Context, name, requirements string) (bin string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	requirements = filepath.Join(root, requirements)
	text, err := os.ReadFile(requirements)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(root, ".cache", name+"-"+hex.EncodeToString(sum[:6]))
	unlock, err := Lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	bin, complete := filepath.Join(dir, "bin"), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil { //nolint:gosec // our own path
		return bin, nil
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{
			filepath.Join(bin, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
			"--only-binary", ":all:", "--require-hashes", "--cache-dir", filepath.Join(root, ".cache", "pip"), "-r", requirements,
		},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // fixed words and our own paths
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", command[:4], err, output)
		}
	}
	return bin, os.WriteFile(complete, nil, 0o600) //nolint:gosec // our own path
}
