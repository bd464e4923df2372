package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

func newExplainCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [TOKEN]",
		Short: "Tell what is stored about a token, without its value",
		Long: `Tell what is stored about a token, without its value: its type and times, where
its key has copies, and what one KMS call could open.

Without TOKEN, or with "-", it is read from standard input. An argument can be
seen by other processes of this machine and stays in the shell's history.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("takes one token")
			}
			return a.explain(cmd.Context(), args, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) explain(ctx context.Context, args []string, asJSON bool) (err error) {
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	token := "-"
	if len(args) == 1 {
		token = args[0]
	}
	if token == "-" {
		if token, err = a.readSecret(ctx, "Token"); err != nil {
			return err
		}
	}
	answer, err := c.Explain(ctx, token)
	if err != nil {
		return err
	}
	if len(answer.Items) != 1 {
		return client.ErrAnswer
	}
	item := answer.Items[0]
	if item.Status != client.ItemStatusOk {
		return itemError(item.Error)
	}
	if asJSON {
		return printJSON(a.stdout, item)
	}
	return explanation(item, a.now()).print(a.stdout)
}

func explanation(item client.InspectedItem, now time.Time) *table {
	t := new(table)
	t.add("type", item.Type)
	t.add("created", stamp(item.Created))
	t.add("age", now.Sub(item.Created).Round(time.Second).String())
	expires := "never"
	if !item.Expires.IsZero() {
		expires = stamp(item.Expires)
	}
	t.add("expires", expires)
	if item.Generation != nil {
		t.add("generation", strconv.FormatInt(*item.Generation, 10))
	}
	t.add("home region", item.HomeRegion)
	t.add("key ring epoch", strconv.FormatInt(item.RingEpoch, 10))
	t.add("key copies in", joined(item.KeyCopies.Present))
	t.add("key copies missing", orNone(joined(item.KeyCopies.Missing)))
	t.add("data key", item.DataKey.ID)
	t.add("one KMS call opens", blastRadius(item))
	for _, r := range item.Readers {
		t.add("may be read by", r.Role+", "+string(r.Reveal)+", by policy "+joined(r.Policies))
	}
	if len(item.Readers) == 0 {
		t.add("may be read by", "none of the default roles")
	}
	return t
}

// blastRadius says what one KMS Decrypt of this record's key could open.
func blastRadius(item client.InspectedItem) string {
	fields := "this field only"
	if item.DataKey.Reused {
		fields = "every field that shares its data key"
		if item.DataKey.MaxFields > 1 {
			fields += ", at most " + bulk.Count(item.DataKey.MaxFields)
		}
	}
	if item.Bound != nil && *item.Bound {
		return fields + ", and not without its token (bound)"
	}
	return fields
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func itemError(p client.ItemProblem) error {
	return fmt.Errorf("the vault refused the token: %s", bulk.SafeCode(p.Code))
}
