package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newKeyShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an API key and what is left of its budgets",
		Long: `Show an API key, its roles, its limits, and what is left of each in the region
that answers: a region has a fixed share of every limit. Units that an instance
holds to spend count as used. Asking takes nothing.`,
		Args: oneArgument("the ID that vault key list shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.KeyState, error) {
				return c.ShowKey(ctx, client.KeyRequest{ID: args[0]})
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, answer)
			}
			return a.printKeyState(answer)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printKeyState(s client.KeyState) error {
	if err := keysTable(client.KeysResponse{Keys: []client.KeyInfo{s.Key}}).print(a.stdout); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "\nbudgets, and what is left of the share of %s:\n", printable(s.Region)); err != nil {
		return err
	}
	t := new(table)
	t.add("KIND", "TYPE", "PER", "LIMIT", "SHARE", "LEFT", "ENDS IN")
	for _, b := range s.Budgets {
		t.add(string(b.Kind), typeOf(b), string(b.Window), strconv.FormatInt(b.Limit, 10), strconv.FormatInt(b.Share, 10),
			strconv.FormatInt(b.Left, 10), (time.Duration(b.EndsInSeconds) * time.Second).String())
	}
	return t.print(a.stdout)
}

// typeOf says what a budget without a type is of.
func typeOf(b client.BudgetState) string {
	switch {
	case b.Type != "":
		return b.Type
	case b.Kind == client.BudgetStateKindMisses || b.Kind == client.BudgetStateKindSubjects:
		return "all"
	default:
		return "any other"
	}
}
