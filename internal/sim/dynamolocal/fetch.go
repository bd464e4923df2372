package dynamolocal

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the pom and the checksums
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"piivault/internal/sim/pinned"
)

// pom names DynamoDB Local; Maven finds what it needs.
//
//go:embed pom.xml
var pom []byte

// sums is what sha256sum printed of all files when they were first fetched.
//
//go:embed jars.sha256
var sums string

// fetch gives the directory of the verified jars, filling it where need be.
// Test processes that come at once wait for the first.
func fetch(ctx context.Context, dir string) (lib string, err error) {
	unlock, err := pinned.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	lib = filepath.Join(dir, "lib")
	if err := verify(lib); !errors.Is(err, fs.ErrNotExist) {
		return lib, err
	}
	if err := download(ctx, dir, lib); err != nil {
		return "", err
	}
	return lib, verify(lib)
}

func download(ctx context.Context, dir, lib string) error {
	file := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(file, pom, 0o600); err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", file, //nolint:gosec // fixed words and our own paths
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+lib)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mvn: %w: %s", err, out.String())
	}
	return nil
}

// verify checks every file of the list; fs.ErrNotExist where one is missing.
func verify(lib string) error {
	for line := range strings.Lines(sums) {
		want, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return errors.New("jars.sha256 has a line that is none of sha256sum's")
		}
		got, err := sum(filepath.Join(lib, name))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s is not the file of which jars.sha256 has the checksum", name)
		}
	}
	return nil
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
