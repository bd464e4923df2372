package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newRegionsCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "regions",
		Short: "Show the key ring's regions and what each lacks",
		Args:  noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := call(cmd.Context(), a, func(ctx context.Context, c *client.Client) (client.RegionsResponse, error) {
				return c.Regions(ctx)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, answer)
			}
			return regionsTable(answer).print(a.stdout)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func regionsTable(answer client.RegionsResponse) *table {
	t := new(table)
	t.add("REGION", "KMS", "MISSING COPIES", "LOCAL")
	for _, r := range answer.Regions {
		t.add(r.Name, string(r.Kms), strconv.FormatInt(r.MissingCopies, 10), yesNo(r.Name == answer.Local))
	}
	return t
}
