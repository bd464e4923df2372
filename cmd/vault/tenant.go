package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
	"piivault/internal/vault"
)

func newTenantCommand(a *app) *cobra.Command {
	return newGroup("tenant", "Create and list tenants, on a machine with the rights to the tables",
		newTenantCreateCommand(a), newTenantListCommand(a))
}

func newTenantCreateCommand(a *app) *cobra.Command {
	var file, alias string
	cmd := &cobra.Command{
		Use:   "create --config FILE --alias NAME",
		Short: "Create a tenant and print its id",
		Long: `Create a tenant: a random id under an alias, and a secret that every region's
KMS wraps and every region's table is seen to hold before the tenant is active.
It needs every region. After a failure give the same command again: it goes on
with what was begun.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if alias == "" {
				return usagef("--alias is needed")
			}
			return a.bootstrap(cmd.Context(), file, func(ctx context.Context, i *instance) error {
				id, err := i.CreateTenant(ctx, alias)
				if errors.Is(err, authz.ErrExists) {
					return errors.New("a tenant has this alias already: see vault tenant list")
				}
				if input, ok := errors.AsType[*authz.InputError](err); ok {
					return usagef("--alias: %s", input.Message)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.stdout, id)
				return err
			})
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&alias, "alias", "", "a name for people: 1 to 63 of a-z 0-9 -")
	return cmd
}

func newTenantListCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "list --config FILE",
		Short: "List tenants as this region's table has them",
		Args:  noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.bootstrap(cmd.Context(), file, func(ctx context.Context, i *instance) error {
				tenants, err := authz.ListTenants(ctx, i.control)
				if err != nil {
					return err
				}
				t := new(table)
				t.add("ID", "ALIAS", "CREATED", "ACTIVE")
				for _, tenant := range tenants {
					t.add(tenant.ID, tenant.Alias, stamp(time.UnixMilli(tenant.Created)), yesNo(tenant.Active))
				}
				return t.print(a.stdout)
			})
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// bootstrap does what needs the rights to the tables and no running instance:
// it is one itself for a moment, with an audit log of its own.
func (a *app) bootstrap(ctx context.Context, file string, do func(context.Context, *instance) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return a.unhurried(ctx, file, do)
}

// unhurried is bootstrap for what takes as long as there is data.
func (a *app) unhurried(ctx context.Context, file string, do func(context.Context, *instance) error) (err error) {
	cfg, err := a.loadConfig(file)
	if err != nil {
		return err
	}
	host, err := instanceName(&config.Config{})
	if err != nil {
		return err
	}
	const prefix = "cli-"
	i, err := openInstance(ctx, cfg, surroundings{
		name: prefix + host[:min(len(host), 63-len(prefix))], now: a.now, random: a.random,
		logger:   zerolog.New(a.stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger(),
		poisoned: func(error) {}, // what is done next fails
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.close()) }()
	if err := i.Start(ctx); err != nil {
		return err
	}
	return do(ctx, i)
}

// createFirstKey makes a key of a tenant without one: the same audited path as
// a request's, as the operator who has the rights to the tables.
func (a *app) createFirstKey(ctx context.Context, file, tenant string, req client.CreateKeyRequest) error {
	return a.bootstrap(ctx, file, func(ctx context.Context, i *instance) error {
		found, err := authz.FindTenant(ctx, i.control, tenant)
		if errors.Is(err, authz.ErrNotFound) || err == nil && !found.Active {
			return errors.New("there is no such tenant, or its creation did not end: vault tenant create makes one")
		}
		if err != nil {
			return err
		}
		operator := vault.Principal{ID: "operator", Name: "vault key create", Tenant: found.ID, Roles: []authz.Role{authz.RoleAdmin}, Authentication: "tables"}
		key := vault.NewKeyRequest{Name: req.Name}
		for _, r := range req.Roles {
			key.Roles = append(key.Roles, authz.Role(r))
		}
		if !req.ExpiresAt.IsZero() {
			key.Expires = req.ExpiresAt.Format(time.RFC3339)
		}
		answer, err := i.CreateKey(ctx, vault.Call{Principal: operator, RequestID: "bootstrap"}, key)
		if err != nil {
			return err
		}
		a.note("created key %s", answer.ID)
		a.noteNotReached(answer.NotReached, "does not know the key yet")
		_, err = fmt.Fprintln(a.stdout, answer.Key.Reveal())
		return err
	})
}
