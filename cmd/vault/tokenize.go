package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"piivault/client"
)

func newTokenizeCommand(a *app) *cobra.Command {
	var item client.TokenizeItem
	var expires string
	cmd := &cobra.Command{
		Use:   "tokenize --type T [--country C] [--subject S] [--expires T]",
		Short: "Keep one value from standard input and print its token",
		Long: `Keep one value from standard input and print its token.

The value is all of standard input less one line ending at its end; it is never
an argument, which other processes could see. On a terminal it is not shown.

  printf %s ann@example.com | vault tokenize --type email --subject C-000001`,
		Args: noArguments(": the value is read from standard input"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if item.Type == "" {
				return usagef("--type is missing: see vault types")
			}
			if item.ExpiresAt, err = a.parseTime("expires", expires, 1); err != nil {
				return err
			}
			return a.tokenize(cmd.Context(), item)
		},
	}
	cmd.Flags().StringVar(&item.Type, "type", "", "what kind of data it is")
	cmd.Flags().StringVar(&item.Country, "country", "", "ISO 3166-1 alpha-2; phone numbers without + and national ids need it")
	cmd.Flags().StringVar(&item.SubjectID, "subject", "", "id of the person, to erase by")
	cmd.Flags().StringVar(&expires, "expires", "", "a time, or a duration from now")
	return cmd
}

func (a *app) tokenize(ctx context.Context, item client.TokenizeItem) error {
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	if item.Value, err = a.readSecret(ctx, "Value"); err != nil {
		return err
	}
	answer, err := c.Tokenize(ctx, client.NewIdempotencyKey(), client.TokenizeRequest{Items: []client.TokenizeItem{item}})
	if err != nil {
		return err
	}
	if len(answer.Items) != 1 || answer.Items[0].Token == "" {
		return client.ErrAnswer
	}
	if missing := answer.Items[0].KeyCopies.Missing; len(missing) > 0 {
		a.note("no key copy yet in %s; repair adds it", joined(missing))
	}
	_, err = fmt.Fprintln(a.stdout, answer.Items[0].Token)
	return err
}
