package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/dynamo"
)

func newTablesCommand(a *app) *cobra.Command {
	return newGroup("tables", "Create DynamoDB tables, for development", newTablesCreateCommand(a))
}

func newTablesCreateCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "create --config FILE",
		Short: "Create every region's DynamoDB tables, for development",
		Long: `Create every region's DynamoDB tables, those that are not there, each region's
apart: nothing replicates them. For development: production's global tables,
with backups and protection from deletion, come from Terraform.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			return createTables(cmd.Context(), a, cfg)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func createTables(ctx context.Context, a *app, cfg *config.Config) error {
	if cfg.Store != config.DynamoDB {
		return usagef("the embedded store has no tables")
	}
	e, err := dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer e.close()
	for _, client := range e.tables {
		if err := dynamo.CreateTables(ctx, client, cfg.Tables); err != nil {
			return fmt.Errorf("region %s: %w", client.Region(), err)
		}
		a.note("%s: all tables are there", client.Region())
	}
	return nil
}
