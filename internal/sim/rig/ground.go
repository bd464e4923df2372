package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"piivault/internal/sim/dynamolocal"
)

// groundTimeout bounds fetching, building and starting on a busy machine.
const groundTimeout = 10 * time.Minute

// Ground is what all rigs of a test process stand on: a DynamoDB Local, of
// which each has its own account, and the vault command, built as the tests are.
type Ground struct {
	DynamoDB *dynamolocal.Server
	Binary   string

	dir string
}

// Main runs a package's tests on a ground of their own and gives the exit
// code: TestMain's body is os.Exit(rig.Main(m, &ground)).
func Main(m *testing.M, ground **Ground) int {
	g, err := newGround()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		return 1
	}
	*ground = g
	code := m.Run()
	if err := g.close(); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		return 1
	}
	return code
}

func newGround() (*Ground, error) {
	ctx, cancel := context.WithTimeout(context.Background(), groundTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "piivault-rig-")
	if err != nil {
		return nil, err
	}
	g := &Ground{dir: dir, Binary: filepath.Join(dir, "vault")}
	var building sync.WaitGroup
	var buildErr, startErr error
	building.Go(func() { buildErr = g.build(ctx) })
	g.DynamoDB, startErr = dynamolocal.Start(ctx)
	building.Wait()
	if err := errors.Join(buildErr, startErr); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *Ground) build(ctx context.Context) error {
	args := append([]string{"build", "-o", g.Binary}, buildFlags()...)
	out, err := exec.CommandContext(ctx, "go", append(args, "piivault/cmd/vault")...).CombinedOutput() //nolint:gosec // fixed words and our own path
	if err != nil {
		return fmt.Errorf("build cmd/vault: %w: %s", err, out)
	}
	return nil
}

func (g *Ground) close() error {
	err := os.RemoveAll(g.dir)
	if g.DynamoDB != nil {
		err = errors.Join(err, g.DynamoDB.Stop())
	}
	return err
}
