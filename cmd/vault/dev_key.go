package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"piivault/internal/secret"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// ensureDevKey returns the file of a credential that opens this world. One
// that is there and works is kept; otherwise the tenant default and a key with
// every role are made.
func ensureDevKey(ctx context.Context, world *sim.World, dir string) (string, error) {
	file := filepath.Join(dir, "dev.key")
	text, err := os.ReadFile(file)
	if err == nil {
		credential := secret.NewText(strings.TrimSpace(string(text)))
		if _, err := world.Regions[0].Vault.Authenticate(ctx, vault.Credentials{Bearer: credential}); err == nil {
			return file, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the dev key: %w", err)
	}
	credential, err := world.Bootstrap(ctx)
	if err != nil {
		return "", err
	}
	return file, writeSecret(file, credential)
}

// writeSecret replaces a file, readable by its owner only, in one step.
func writeSecret(file string, text secret.Text) error {
	temporary := file + ".new"
	if err := os.WriteFile(temporary, []byte(text.Reveal()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the dev key: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		return fmt.Errorf("write the dev key: %w", err)
	}
	return nil
}
