package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"piivault/internal/sim/dynamolocal"
	"piivault/internal/sim/pinned"
)

// patience is how long anything that must happen may take on a busy machine.
const patience = 60 * time.Second

// What all tests share.
var (
	database *dynamolocal.Server
	binaries struct{ vault, goSDK string }
	venv     string // the bin folder of the stock SDK's environment
	root     string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "piivault-interop-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }() // of binaries: nothing is lost
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return dynamolocal.Main(m, &database)
}

// prepare builds the vault and, in its module of its own, what asks the Go
// SDK, and installs the Python SDK.
func prepare(dir string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if root, err = pinned.Root(); err != nil {
		return err
	}
	binaries.vault, binaries.goSDK = filepath.Join(dir, "vault"), filepath.Join(dir, "goesdk")
	for binary, in := range map[string]string{binaries.vault: "cmd/vault", binaries.goSDK: "test/interop/goesdk"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(root, in), "-o", binary, ".").CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w: %s", in, err, out)
		}
	}
	venv, err = pinned.Venv(ctx, "interop", "test/interop/requirements.txt")
	return err
}
