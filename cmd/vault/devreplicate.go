package main

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
	"piivault/internal/sim/streams"
)

func newDevReplicateCommand(a *app) *cobra.Command {
	var file string
	var orders streams.Orders
	cmd := &cobra.Command{
		Use:   "dev-replicate --config FILE",
		Short: "Replicate DynamoDB Local's tables between regions",
		Long: `Replicate DynamoDB Local's tables between the configured regions, until it is
stopped: records, audit and control, whole items, last writer wins, as global
tables do on AWS. It reads DynamoDB Streams, and needs every region's tables.

It keeps no state: one process at a time, and what was written while none ran
is copied where a region lacks it.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			if orders.Delay < 0 || orders.Jitter < 0 {
				return usagef("--delay and --jitter are not negative")
			}
			return runDevReplicate(cmd.Context(), a, cfg, orders)
		},
	}
	configFlag(cmd, &file)
	flags := cmd.Flags()
	flags.DurationVar(&orders.Delay, "delay", 100*time.Millisecond, "how long a write takes to reach the other regions")
	flags.DurationVar(&orders.Jitter, "jitter", 0, "up to so much more, so that items overtake each other")
	return cmd
}

// runDevReplicate replicates until ctx is done or a region refuses.
func runDevReplicate(ctx context.Context, a *app, cfg *config.Config, orders streams.Orders) error {
	logger := zerolog.New(a.stderr).With().Timestamp().Logger()
	c := streams.Config{Tables: []string{cfg.Tables.Records, cfg.Tables.Audit, cfg.Tables.Control}, Logger: logger}
	if cfg.Store != config.DynamoDB || len(cfg.Regions) < 2 {
		return usagef("there is nothing to replicate: it takes DynamoDB in two regions")
	}
	credentials, err := kms.DefaultCredentials(ctx)
	if err != nil {
		return err
	}
	for _, r := range cfg.Regions {
		if r.DynamoDB.URL == "" {
			return usagef("region %s is on AWS, whose global tables replicate themselves: give dynamodb.endpoint", printable(r.Name))
		}
		c.Regions = append(c.Regions, dynamo.Config{Region: r.Name, Endpoint: r.DynamoDB.URL, Credentials: credentials})
	}
	replicator, err := streams.New(c)
	if err != nil {
		return err
	}
	defer replicator.Close()
	replicator.Order(orders)
	logger.Info().Int("regions", len(c.Regions)).Dur("delay_ms", orders.Delay).Msg("replicating")
	if err := replicator.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	logger.Info().Msg("stopped replicating")
	return nil
}
