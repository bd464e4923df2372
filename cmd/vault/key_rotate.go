package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newKeyRotateCommand(a *app) *cobra.Command {
	overlap := 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "rotate ID [--overlap 24h]",
		Short: "Replace an API key and print the new one, this once",
		Long: `Make a key of the same name, roles and budget, and print it, this once, to
standard output; its id and when the old one ends go to standard error. Both
work for as long as they overlap, 30 days at most; 0s ends the old one now.`,
		Args: oneArgument("the ID that vault key list shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if overlap < 0 || overlap > 30*24*time.Hour {
				return usagef("--overlap is 0s to 720h")
			}
			req := client.RotateKeyRequest{ID: args[0], OverlapSeconds: new(int64(overlap.Seconds()))}
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.RotateKeyResponse, error) {
				return c.RotateKey(ctx, req)
			})
			if err != nil {
				return err
			}
			a.note("created key %s; the old one ends at %s", printable(answer.ID), stamp(answer.OldExpires))
			a.noteNotReached(answer.NotReached, "does not know of it yet")
			_, err = fmt.Fprintln(a.stdout, answer.Key)
			return err
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", overlap, "how long the old key works on")
	return cmd
}

func newKeySuspendCommand(a *app) *cobra.Command {
	return newSuspensionCommand(a, "suspend", "Refuse a key, or another principal, until it is reinstated",
		"suspended", "does not know of it yet: the suspension is not in force there", (*client.Client).SuspendKey)
}

func newKeyReinstateCommand(a *app) *cobra.Command {
	return newSuspensionCommand(a, "reinstate", "Lift the suspensions of a key or another principal",
		"reinstated", "does not know of it yet: the suspension is in force there", (*client.Client).ReinstateKey)
}

func newSuspensionCommand(a *app, name, short, done, behind string, do func(*client.Client, context.Context, string) (client.SuspensionResponse, error)) *cobra.Command {
	return &cobra.Command{
		Use:   name + " ID",
		Short: short,
		Long: short + `. ID is a key's, as vault key list shows it, or a
principal's, as audit entries have it: key_…, oidc_…, mtls_….`,
		Args: oneArgument("the ID of a key or a principal"),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.SuspensionResponse, error) {
				return do(c, ctx, args[0])
			})
			if err != nil {
				return err
			}
			a.note("%s", done)
			a.noteNotReached(answer.NotReached, behind)
			return nil
		},
	}
}
