package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

const repairPoll = time.Second

func newRepairCommand(a *app) *cobra.Command {
	var watch, dryRun bool
	cmd := &cobra.Command{
		Use:   "repair [--watch | --dry-run]",
		Short: "Add missing key copies now instead of within a minute",
		Long: `Add missing key copies now instead of within a minute, and look for records that
an older key ring wrapped. With --dry-run it counts what there is to do, which
reads the whole table, and changes nothing.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(client.Config{})
			switch {
			case err != nil:
				return err
			case dryRun && watch:
				return usagef("--dry-run has nothing to watch")
			case dryRun:
				return a.repairNeeds(cmd.Context(), c)
			}
			return a.repair(cmd.Context(), c, watch)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show progress until it is done")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count what there is to do")
	return cmd
}

func (a *app) repairNeeds(ctx context.Context, c *client.Client) error {
	count, err := c.Coverage(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s of %s records lack a key copy, %s are of older key rings\n",
		bulk.Count(count.DegradedRecords), bulk.Count(count.Records), bulk.Count(count.OutdatedRecords))
	for _, r := range count.Regions {
		if err == nil && r.MissingCopies > 0 {
			_, err = fmt.Fprintf(a.stdout, "%s: %s to add; its KMS is %s\n", printable(r.Name), bulk.Count(r.MissingCopies), printable(string(r.Kms)))
		}
	}
	return err
}

// repair wakes the reconciler. It is done when two looks in a row find it
// idle: the first may come before it has woken up.
func (a *app) repair(ctx context.Context, c *client.Client, watch bool) error {
	if err := c.StartRepair(ctx); err != nil {
		return err
	}
	progress := a.repairProgress(watch)
	defer progress.close()
	idle := 0
	for {
		status, err := c.RepairStatus(ctx)
		if err != nil {
			return err
		}
		if err := progress.show(status); err != nil {
			return err
		}
		if status.State == client.RepairStateIdle {
			idle++
		} else {
			idle = 0
		}
		switch {
		case watch && idle < 2:
		case status.Superseded:
			return errors.New("a newer key ring is in use: repair with an instance that has it")
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

// repairView shows how a repair goes: a bar on a terminal, else lines. Rate
// and time left are this command's own, from what it has seen.
type repairView struct {
	a     *app
	bar   *progressbar.ProgressBar // nil: lines
	began time.Time
	first int64 // records done when it began to look, -1: not yet
}

func (a *app) repairProgress(watch bool) *repairView {
	v := &repairView{a: a, began: a.now(), first: -1}
	if _, ok := terminal(a.stderr); ok && watch {
		v.bar = progressbar.NewOptions64(-1,
			progressbar.OptionSetWriter(a.stderr), progressbar.OptionSetDescription("repair"), progressbar.OptionSetWidth(24),
			progressbar.OptionSetSpinnerChangeInterval(0), // else it draws from a goroutine that nobody can end
			progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish())
	}
	return v
}

func (v *repairView) show(s client.RepairStatus) error {
	pace := v.pace(s)
	if v.bar == nil {
		return v.a.printRepair(s, pace)
	}
	if total := s.Scanned + s.Remaining; total > 0 && v.bar.GetMax64() != total {
		v.bar.ChangeMax64(total)
	}
	v.bar.Describe(fmt.Sprintf("repair %s repaired, %s failed%s", bulk.Count(s.Repaired), bulk.Count(s.Failed), pace))
	_ = v.bar.Set64(s.Scanned) // nothing to do when the terminal is gone
	return nil
}

// pace is the rate and the time left, where there is something to tell.
func (v *repairView) pace(s client.RepairStatus) string {
	if v.first < 0 || s.Scanned < v.first { // the first look, or another run
		v.first, v.began = s.Scanned, v.a.now()
	}
	seconds := v.a.now().Sub(v.began).Seconds()
	if done := s.Scanned - v.first; done > 0 && seconds > 0 {
		rate := float64(done) / seconds
		left := time.Duration(float64(s.Remaining) / rate * float64(time.Second))
		return fmt.Sprintf(", %s records/s, %s left", bulk.Count(int64(rate)), left.Round(time.Second))
	}
	return ""
}

func (v *repairView) close() {
	if v.bar != nil {
		_ = v.bar.Clear() // nothing to do when the terminal is gone
	}
}

func (a *app) printRepair(s client.RepairStatus, pace string) error {
	_, err := fmt.Fprintf(a.stdout, "%s: %s scanned, %s repaired, %s remaining, %s failed%s\n", printable(string(s.State)),
		bulk.Count(s.Scanned), bulk.Count(s.Repaired), bulk.Count(s.Remaining), bulk.Count(s.Failed), pace)
	return err
}
