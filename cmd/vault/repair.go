package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

const repairPoll = time.Second

func newRepairCommand(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "repair [--watch]",
		Short: "Add missing key copies now instead of within a minute",
		Args:  noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(client.Config{})
			if err != nil {
				return err
			}
			return a.repair(cmd.Context(), c, watch)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show progress until it is done")
	return cmd
}

// repair wakes the reconciler. It is done when two looks in a row find it
// idle: the first may come before it has woken up.
func (a *app) repair(ctx context.Context, c *client.Client, watch bool) error {
	if err := c.StartRepair(ctx); err != nil {
		return err
	}
	idle := 0
	for {
		status, err := c.RepairStatus(ctx)
		if err != nil {
			return err
		}
		if err := a.printRepair(status); err != nil {
			return err
		}
		if status.State == client.RepairStateIdle {
			idle++
		} else {
			idle = 0
		}
		switch {
		case watch && idle < 2:
		case status.Failed > 0:
			return fmt.Errorf("%s records could not be repaired", bulk.Count(status.Failed))
		default:
			return nil
		}
		if err := a.sleep(ctx, repairPoll); err != nil {
			return fmt.Errorf("%w: the repair itself goes on", bulk.ErrInterrupted)
		}
	}
}

func (a *app) printRepair(s client.RepairStatus) error {
	_, err := fmt.Fprintf(a.stdout, "%s: %s scanned, %s repaired, %s remaining, %s failed\n", printable(string(s.State)),
		bulk.Count(s.Scanned), bulk.Count(s.Repaired), bulk.Count(s.Remaining), bulk.Count(s.Failed))
	return err
}
