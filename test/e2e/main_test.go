package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"piivault/internal/httpapi/apitest"
)

// childEnv makes this test binary something else: what the tests kill.
const childEnv = "E2E_CHILD"

// patience is how long anything that must happen may take on a busy machine.
const patience = 60 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	switch os.Getenv(childEnv) {
	case "":
	case "script":
		return scriptChild()
	case "serve":
		return serveChild()
	default:
		fmt.Fprintln(os.Stderr, "no such child")
		return 2
	}
	dir, err := os.MkdirTemp("", "piivault-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // of a binary: nothing is lost
	binary.path = filepath.Join(dir, "vault")
	return m.Run()
}

// binary is cmd/vault, built once for all tests.
var binary struct {
	once sync.Once
	path string
	err  error
}

// vaultBinary is the path of the command, built as these tests are.
func vaultBinary(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		args := append([]string{"build", "-o", binary.path}, buildFlags()...)
		out, err := exec.Command("go", append(args, "piivault/cmd/vault")...).CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("build cmd/vault: %w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// loaded is the contract, loaded once for all tests.
var loaded struct {
	once     sync.Once
	contract *apitest.Contract
}

// contractOf reports exchanges that the contract does not allow to the test.
func contractOf(t *testing.T) *apitest.Contract {
	t.Helper()
	loaded.once.Do(func() { loaded.contract = apitest.New(t) })
	return loaded.contract.For(t)
}
