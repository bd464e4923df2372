package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
)

func newConfigCommand(a *app) *cobra.Command {
	return newGroup("config", "Check a configuration of vault serve, or show one", newConfigCheckCommand(a), newConfigExampleCommand(a))
}

// configFlag is --config, or VAULT_CONFIG.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration of vault serve (default: VAULT_CONFIG)")
}

// loadConfig reads the file and the environment over it.
func (a *app) loadConfig(file string) (*config.Config, error) {
	if file == "" {
		file = a.getenv("VAULT_CONFIG")
	}
	if file == "" {
		return nil, usagef("--config is needed: vault config example prints one")
	}
	text, err := a.readFile(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, errors.New("the configuration file does not exist")
		}
		return nil, errors.New("the configuration file cannot be read")
	}
	cfg, unknown, err := config.Load(file, text, a.environ())
	if err != nil {
		return nil, err
	}
	for _, name := range unknown {
		a.note("%s is in the environment, and is no key of the configuration", printable(name))
	}
	return cfg, nil
}

func newConfigCheckCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Check a configuration without calling anything",
		Long: `Check a configuration, and the environment over it, without calling anything.
The first mistake is explained with line and column; the policies are checked
and their cases run. vault doctor goes on from there: it asks AWS.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			policies, err := policiesIn(cfg)
			if err != nil {
				return fmt.Errorf("policies: %w", err)
			}
			return a.printConfig(cfg, policies)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func (a *app) printConfig(c *config.Config, policies *authz.Policies) error {
	t := new(table)
	t.add("REGION", "LOCAL", "KEY", "DYNAMODB", "KMS")
	for _, r := range c.Regions {
		key, kms, tables := r.KMS.KeyARN, orAWS(r.KMS.Endpoint), orAWS(r.DynamoDB.URL)
		if r.KMS.Local != "" {
			key, kms = "a local file, for trying out only", "-"
		}
		if c.Store == config.Embedded {
			tables = "-"
		}
		t.add(r.Name, yesNo(r.Name == c.Region), key, tables, kms)
	}
	if err := t.print(a.stdout); err != nil {
		return err
	}
	tables := "tables " + strings.Join([]string{c.Tables.Records, c.Tables.Audit, c.Tables.AuditIndex, c.Tables.Control, c.Tables.Counters}, ", ")
	if c.Store == config.Embedded {
		tables = "directory " + c.Data
	}
	if n := len(c.TenantKeys); n > 0 {
		fmt.Fprintf(a.stdout, "\n%d tenants with keys of their own, or with former ones\n", n)
	}
	n, cases := policies.Count()
	_, err := fmt.Fprintf(a.stdout, "\nenv %s; ring %s, epoch %d, at least %d copies; %d types; %d policies, %d cases pass; store %s, %s\nthe configuration is good\n",
		c.Env, c.Ring.Mode, c.Ring.Epoch, c.Ring.MinCopies, len(c.Types), n, cases, c.Store, tables)
	return err
}

func orAWS(endpoint string) string {
	if endpoint == "" {
		return "AWS"
	}
	return endpoint
}

func newConfigExampleCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Print a configuration with every key, and what it is for",
		Args:  noArguments(""),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(config.Example())
			return err
		},
	}
}
