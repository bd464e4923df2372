package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newKeyCommand(a *app) *cobra.Command {
	return newGroup("key", "Create, list, show, rotate, suspend and revoke API keys",
		newKeyCreateCommand(a), newKeyListCommand(a), newKeyShowCommand(a), newKeyRotateCommand(a), newKeySuspendCommand(a), newKeyReinstateCommand(a), newKeyRevokeCommand(a))
}

func newKeyCreateCommand(a *app) *cobra.Command {
	var req client.CreateKeyRequest
	var expires, file, tenant string
	cmd := &cobra.Command{
		Use:   "create --name N --roles ROLE,… [--expires T] [--config FILE --tenant T]",
		Short: "Create an API key and print it, this once",
		Long: `Create an API key and print it, this once, to standard output; its id goes to
standard error. Roles: admin, writer, reader, support, eraser, auditor, operator.

With --config it is made without a running vault, in the tables: how a tenant
gets its first key, on a machine that has the rights to them.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.Name == "" || len(req.Roles) == 0 {
				return usagef("--name and --roles are needed")
			}
			if req.ExpiresAt, err = a.parseTime("expires", expires, 1); err != nil {
				return err
			}
			if (file == "") != (tenant == "") {
				return usagef("--config and --tenant go together")
			}
			if file != "" {
				return a.createFirstKey(cmd.Context(), file, tenant, req)
			}
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.CreateKeyResponse, error) {
				return c.CreateKey(ctx, req)
			})
			if err != nil {
				return err
			}
			a.note("created key %s", printable(answer.ID))
			a.noteNotReached(answer.NotReached, "does not know the key yet")
			_, err = fmt.Fprintln(a.stdout, answer.Key)
			return err
		},
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "for people; shown in lists")
	cmd.Flags().StringSliceVar(&req.Roles, "roles", nil, "its roles")
	cmd.Flags().StringVar(&expires, "expires", "", "a time, or a duration from now; default never")
	cmd.Flags().StringVar(&file, "config", "", "configuration of vault serve: make the key in the tables")
	cmd.Flags().StringVar(&tenant, "tenant", "", "with --config: the tenant's alias or id")
	return cmd
}

func newKeyListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List API keys, without their secrets",
		Args:  noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.KeysResponse, error) {
				return c.Keys(ctx)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, answer)
			}
			return keysTable(answer).print(a.stdout)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func keysTable(answer client.KeysResponse) *table {
	t := new(table)
	t.add("ID", "NAME", "ROLES", "CREATED", "EXPIRES", "USED", "SUSPENDED", "REVOKED")
	for _, k := range answer.Keys {
		t.add(k.ID, k.Name, joined(k.Roles), stamp(k.Created), stamp(k.Expires), stamp(k.LastUsed), stamp(k.Suspended), stamp(k.Revoked))
	}
	return t
}

func newKeyRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an API key for good",
		Args:  oneArgument("the ID that vault key list shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.RevokeKeyResponse, error) {
				return c.RevokeKey(ctx, args[0])
			})
			if err != nil {
				return err
			}
			a.note("revoked")
			a.noteNotReached(answer.NotReached, "does not know of it yet: the key works there until it does")
			return nil
		},
	}
}

func (a *app) noteNotReached(regions []string, what string) {
	for _, r := range regions {
		a.note("region %s %s", printable(r), what)
	}
}
