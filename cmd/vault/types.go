package main

import (
	"context"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newTypesCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "types",
		Short: "List the configured types of data",
		Args:  noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.TypesResponse, error) {
				return c.Types(ctx)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, answer)
			}
			return typesTable(answer).print(a.stdout)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func typesTable(answer client.TypesResponse) *table {
	t := new(table)
	t.add("TYPE", "TOKEN", "BOUND", "SEARCHABLE", "MASKED LIKE")
	for _, ty := range answer.Types {
		t.add(ty.Name, ty.TokenFormat, yesNo(ty.Bound), yesNo(ty.Searchable), ty.MaskExample)
	}
	return t
}
