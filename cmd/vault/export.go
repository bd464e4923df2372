package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/rows"
)

const (
	maxDetokenizeBatch = 100
	// maxDetokenizeBytes of tokens fit the vault's 256 KiB.
	maxDetokenizeBytes = 128 << 10
)

// errOnlyMasked: a masked value in the place of a plain one would be taken for
// the value itself.
var errOnlyMasked = errors.New("policy shows these values only masked: ask for masked ones")

// why is what every reveal must say.
type why struct {
	purpose, ticket string
	reveal          client.Reveal
}

func (w why) check() error {
	if w.purpose == "" {
		return usagef("--purpose is missing: it is recorded with every value")
	}
	return nil
}

func newExportCommand(a *app) *cobra.Command {
	var flags transferFlags
	var fields []string
	var reason why
	var reveal string
	cmd := &cobra.Command{
		Use:   "export FILE --fields FIELD,… --purpose P [--ticket T] [--reveal plain|masked] [--out FILE]",
		Short: "Replace tokens in a JSONL or CSV file by their values",
		Long: "Replace tokens in a JSONL or CSV file by their values. Every value is recorded\nin the audit log before it leaves the vault.\n" + transferHelp + `

What was written since the last note in the journal is asked for again when a
run is resumed, and recorded again.

  vault export tokens.jsonl --fields email,phone --purpose shipping --out plain.jsonl`,
		Args: oneArgument("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFields(fields); err != nil {
				return err
			}
			reason.reveal = client.Reveal(reveal)
			if !reason.reveal.Valid() {
				return usagef("--reveal must be plain or masked")
			}
			if err := reason.check(); err != nil {
				return err
			}
			format, err := flags.check(args[0], maxDetokenizeBatch)
			if err != nil {
				return err
			}
			t := newExport(fields, reason)
			t.flags, t.job.Input, t.job.Format = flags, args[0], format
			return a.transfer(cmd.Context(), t)
		},
	}
	flags.register(cmd, maxDetokenizeBatch)
	cmd.Flags().StringSliceVar(&fields, "fields", nil, "fields that hold tokens")
	cmd.Flags().StringVar(&reason.purpose, "purpose", "", "why; policies see it and the audit log keeps it")
	cmd.Flags().StringVar(&reason.ticket, "ticket", "", "a case or ticket, likewise")
	cmd.Flags().StringVar(&reveal, "reveal", string(client.RevealPlain), "plain or masked")
	return cmd
}

func checkFields(fields []string) error {
	if len(fields) == 0 || len(fields) > maxDetokenizeBatch {
		return usagef("--fields must name from 1 to %d fields", maxDetokenizeBatch)
	}
	for i, f := range fields {
		if f == "" || slices.Contains(fields[:i], f) {
			return usagef("--fields: a field is empty or named twice")
		}
	}
	return nil
}

func newExport(fields []string, reason why) transfer {
	return transfer{
		verb:   "detokenized",
		wanted: len(fields),
		job: bulk.Config{
			Fields:   fields,
			Plan:     map[string]string{"command": "export", "--fields": strings.Join(fields, ","), "--reveal": string(reason.reveal)},
			Pick:     func(row *rows.Row) ([]bulk.Item, []bulk.FieldError) { return pickTokens(fields, row) },
			MaxBytes: maxDetokenizeBytes,
		},
		exchange: func(ctx context.Context, s sender, _ string, items []bulk.Item) ([]string, error) {
			return detokenizeBatch(ctx, s, reason, items)
		},
		preflight: func(client.TypesResponse) error { return nil },
	}
}

func pickTokens(fields []string, row *rows.Row) (items []bulk.Item, refused []bulk.FieldError) {
	for i, field := range fields {
		switch token, kind := row.Field(i); kind {
		case rows.Absent:
		case rows.Text:
			items = append(items, bulk.Item{Field: i, Value: token})
		default:
			refused = append(refused, bulk.FieldError{Field: field, Code: codeNotString})
		}
	}
	return items, refused
}

func detokenizeBatch(ctx context.Context, s sender, reason why, items []bulk.Item) ([]string, error) {
	tokens := make([]string, len(items))
	for i, it := range items {
		tokens[i] = it.Value
	}
	var answer client.DetokenizeResponse
	err := s.patience.Do(ctx, func(ctx context.Context) (err error) {
		answer, err = s.client.Detokenize(ctx, reason.request(tokens...))
		return err
	})
	if err != nil {
		return nil, err
	}
	return reason.values(answer)
}

func (w why) request(tokens ...string) client.DetokenizeRequest {
	req := client.DetokenizeRequest{Purpose: w.purpose, Ticket: w.ticket, Items: make([]client.DetokenizeItem, len(tokens))}
	for i, t := range tokens {
		req.Items[i] = client.DetokenizeItem{Token: t, Reveal: w.reveal}
	}
	return req
}

// values returns the values in the order of the tokens, shown as asked for.
func (w why) values(answer client.DetokenizeResponse) ([]string, error) {
	values := make([]string, len(answer.Items))
	for i, it := range answer.Items {
		switch {
		case it.Status != client.ItemStatusOk || int(it.Index) != i:
			return nil, client.ErrAnswer
		case it.Reveal != w.reveal:
			return nil, errOnlyMasked
		}
		values[i] = it.Value
	}
	return values, nil
}
