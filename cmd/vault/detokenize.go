package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newDetokenizeCommand(a *app) *cobra.Command {
	var reason why
	var masked bool
	cmd := &cobra.Command{
		Use:   "detokenize --purpose P [--ticket T] [--masked]",
		Short: "Print the value of one token from standard input",
		Long: `Print the value of one token from standard input, and a line ending.

The audit log records who asked, for what purpose and under what ticket, before
the value leaves the vault.

  printf %s "$TOKEN" | vault detokenize --purpose support --ticket CASE-4711 --masked`,
		Args: noArguments(": the token is read from standard input"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := reason.check(); err != nil {
				return err
			}
			reason.reveal = client.RevealPlain
			if masked {
				reason.reveal = client.RevealMasked
			}
			return a.detokenize(cmd.Context(), reason)
		},
	}
	cmd.Flags().StringVar(&reason.purpose, "purpose", "", "why; policies see it and the audit log keeps it")
	cmd.Flags().StringVar(&reason.ticket, "ticket", "", "a case or ticket, likewise")
	cmd.Flags().BoolVar(&masked, "masked", false, "show only a part, such as a***@example.com")
	return cmd
}

func (a *app) detokenize(ctx context.Context, reason why) error {
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	token, err := a.readSecret(ctx, "Token")
	if err != nil {
		return err
	}
	answer, err := c.Detokenize(ctx, reason.request(token))
	if err != nil {
		return err
	}
	values, err := reason.values(answer)
	if err != nil {
		return err
	}
	if len(values) != 1 {
		return client.ErrAnswer
	}
	_, err = fmt.Fprintln(a.stdout, values[0])
	return err
}
