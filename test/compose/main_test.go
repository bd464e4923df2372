// Package compose_test checks the Dockerfile and docker-compose.yml without an
// engine: Docker's own parsers read them (load/), the image's build line is run
// here, and the services' commands are started as processes of this machine.
package compose_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const root = "../.."

// dir holds what is built once for all tests.
var dir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if dir, err = os.MkdirTemp("", "piivault-compose-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // binaries: nothing is lost
	return m.Run()
}

var loader = sync.OnceValues(func() (string, error) {
	path := filepath.Join(dir, "load")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "load"
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build load: %w\n%s", err, out)
	}
	return path, nil
})

// load runs load/ and decodes what it prints.
func load(t *testing.T, into any, input string, args ...string) {
	t.Helper()
	program, err := loader()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("load %v: %v", args, err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

// vault builds the binary as the image's build does: the same line, with its
// paths and its platform being this machine's.
var vault = sync.OnceValues(func() (string, error) {
	program, err := loader()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(program, "-dockerfile", filepath.Join(root, "Dockerfile")).Output()
	if err != nil {
		return "", err
	}
	var stages []stage
	if err := json.Unmarshal(out, &stages); err != nil {
		return "", err
	}
	line := stages[0].buildLine()
	build := exec.Command("sh", "-ec", strings.ReplaceAll(line, "/out/", dir+"/"))
	build.Dir = root
	// A checkout may be another user's here; in the image it is root's.
	build.Env = append(os.Environ(), "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return filepath.Join(dir, "vault"), nil
})

func vaultBinary(t *testing.T) string {
	t.Helper()
	path, err := vault()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
