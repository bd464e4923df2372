package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/internal/authz"
	"piivault/internal/vault"
)

func newStopCommand(a *app) *cobra.Command {
	return newSwitchCommand(a, killSwitch{
		use:   "stop --reason WHY [--config FILE [--tenant T]]",
		short: "Stop all reveals: the kill switch",
		long: `Stop all reveals of the tenant until vault resume: nobody gets a value, plain or
masked. Tokenizing, erasing and the audit log go on. Every instance refuses
within five seconds of the stop's being in its region's table; regions that
could not be written to are named.

With --config it is written to the tables without a running vault, on a machine
that has the rights to them: for the whole deployment, or with --tenant for one.`,
		remote: func(ctx context.Context, c *client.Client, reason string) (outcome, error) {
			answer, err := c.Stop(ctx, reason)
			return outcome{"stopped by " + printable(answer.ID), answer.NotReached}, err
		},
		local: func(ctx context.Context, i *instance, c vault.Call, reason string) (outcome, error) {
			answer, err := i.Stop(ctx, c, reason, c.Principal.Tenant == "")
			return outcome{"stopped by " + answer.ID, answer.NotReached}, err
		},
	})
}

func newResumeCommand(a *app) *cobra.Command {
	cmd := newSwitchCommand(a, killSwitch{
		use:   "resume --reason WHY [--config FILE [--tenant T]]",
		short: "Let reveals go on: lift the stops",
		long: `Lift the stops of the tenant or, with --config and no --tenant, those of the
whole deployment: all that this region's table has. A tenant's command does not
lift the deployment's.`,
		remote: func(ctx context.Context, c *client.Client, reason string) (outcome, error) {
			answer, err := c.Resume(ctx, reason)
			return outcome{lifted(len(answer.Lifted), answer.Stopped), answer.NotReached}, err
		},
		local: func(ctx context.Context, i *instance, c vault.Call, reason string) (outcome, error) {
			answer, err := i.Resume(ctx, c, reason, c.Principal.Tenant == "")
			return outcome{lifted(len(answer.Lifted), answer.Stopped), answer.NotReached}, err
		},
	})
	return cmd
}

func lifted(n int, stopped bool) string {
	text := fmt.Sprintf("%d stops lifted; reveals go on", n)
	if stopped {
		text = fmt.Sprintf("%d stops lifted; another is in force: see vault stop --list", n)
	}
	return text
}

// killSwitch is what stop and resume differ in.
type killSwitch struct {
	use, short, long string
	remote           func(context.Context, *client.Client, string) (outcome, error)
	local            func(context.Context, *instance, vault.Call, string) (outcome, error)
}

type outcome struct {
	text       string
	notReached []string
}

func newSwitchCommand(a *app, k killSwitch) *cobra.Command {
	var reason, file, tenant string
	var list bool
	cmd := &cobra.Command{
		Use: k.use, Short: k.short, Long: k.long, Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var done outcome
			var err error
			switch {
			case list:
				return a.listStops(cmd.Context())
			case reason == "":
				return usagef("--reason is needed: it is for the audit log")
			case tenant != "" && file == "":
				return usagef("--tenant goes with --config")
			case file != "":
				done, err = a.switchTables(cmd.Context(), file, tenant, func(ctx context.Context, i *instance, c vault.Call) (outcome, error) {
					return k.local(ctx, i, c, reason)
				})
			default:
				done, err = call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (outcome, error) { return k.remote(ctx, c, reason) })
			}
			if err != nil {
				return err
			}
			a.noteNotReached(done.notReached, "does not know of it yet: it learns by replication")
			_, err = fmt.Fprintln(a.stdout, done.text)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log: 1 to 256 bytes")
	cmd.Flags().StringVar(&file, "config", "", "configuration of vault serve: write to the tables")
	cmd.Flags().StringVar(&tenant, "tenant", "", "with --config: one tenant's alias or id")
	cmd.Flags().BoolVar(&list, "list", false, "list what is in force for the tenant, and change nothing")
	return cmd
}

// switchTables is an operator's use of the kill switch.
func (a *app) switchTables(ctx context.Context, file, tenant string, do func(context.Context, *instance, vault.Call) (outcome, error)) (done outcome, err error) {
	err = a.bootstrap(ctx, file, func(ctx context.Context, i *instance) error {
		operator := vault.Principal{ID: "operator", Name: "vault stop", Roles: []authz.Role{authz.RoleOperator}, Authentication: "tables"}
		if tenant != "" {
			found, err := authz.FindTenant(ctx, i.control, tenant)
			if errors.Is(err, authz.ErrNotFound) {
				return errors.New("there is no such tenant: see vault tenant list")
			}
			if err != nil {
				return err
			}
			operator.Tenant = found.ID
		}
		done, err = do(ctx, i, vault.Call{Principal: operator, RequestID: "bootstrap"})
		return err
	})
	return done, err
}

func (a *app) listStops(ctx context.Context) error {
	answer, err := call(ctx, a, func(ctx context.Context, c *client.Client) (client.StopsResponse, error) { return c.Stops(ctx) })
	if err != nil {
		return err
	}
	t := new(table)
	t.add("ID", "SCOPE", "SINCE", "BY", "REASON")
	for _, s := range answer.Stops {
		t.add(printable(s.ID), printable(string(s.Scope)), stamp(s.Since.Truncate(time.Millisecond)), printable(s.By), printable(s.Reason))
	}
	return t.print(a.stdout)
}
