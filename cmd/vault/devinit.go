package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

func newDevInitCommand(a *app) *cobra.Command {
	var file, keyFile string
	cmd := &cobra.Command{
		Use:   "dev-init --config FILE --key-file FILE",
		Short: "Make what a deployment for development lacks: tables, a tenant, a key",
		Long: `Make what a deployment for development lacks: every region's DynamoDB tables,
the tenant "default", and a key with every role in a file that only its owner
may read. Once more is no harm: what is there and works is kept.

Nobody has all these roles in production. There, Terraform makes the tables,
and vault tenant create and vault key create the rest.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keyFile == "" {
				return usagef("--key-file is needed")
			}
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			if err := createTables(cmd.Context(), a, cfg); err != nil {
				return err
			}
			return a.bootstrap(cmd.Context(), file, func(ctx context.Context, i *instance) error {
				return a.ensureKey(ctx, i, keyFile)
			})
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&keyFile, "key-file", "", "file of the key with every role")
	return cmd
}

// ensureKey keeps the key in the file where it works, and else makes a new
// one: the tables may have been lost since it was written.
func (a *app) ensureKey(ctx context.Context, i *instance, file string) error {
	text, err := a.readFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.New("the key file cannot be read")
	}
	if err == nil {
		if _, err := i.Authenticate(ctx, vault.Credentials{Bearer: secret.NewText(strings.TrimSpace(string(text)))}); err == nil {
			a.note("the key in the file works")
			return nil
		}
	}
	tenant, err := i.CreateTenant(ctx, "default")
	if errors.Is(err, authz.ErrExists) {
		var found authz.Tenant
		found, err = authz.FindTenant(ctx, i.control, "default")
		tenant = found.ID
	}
	if err != nil {
		return fmt.Errorf("make the tenant: %w", err)
	}
	operator := vault.Principal{ID: "operator", Name: "vault dev-init", Tenant: tenant, Roles: []authz.Role{authz.RoleAdmin}, Authentication: "tables"}
	answer, err := i.CreateKey(ctx, vault.Call{Principal: operator, RequestID: "dev-init"}, vault.NewKeyRequest{Name: "dev", Roles: authz.Roles()})
	if err != nil {
		return fmt.Errorf("make the key: %w", err)
	}
	a.noteNotReached(answer.NotReached, "does not know the key yet")
	a.note("the file holds a new key")
	return writeSecret(file, answer.Key)
}
