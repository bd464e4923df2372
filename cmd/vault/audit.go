package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"piivault/client"
)

const maxAuditPage = 1000

func newAuditCommand(a *app) *cobra.Command {
	return newGroup("audit", "Look into the audit log", newAuditQueryCommand(a))
}

// auditFlags are a query as typed.
type auditFlags struct {
	req                          client.AuditQueryRequest
	from, to                     string
	tokenFromStdin, all, jsonOut bool
}

func newAuditQueryCommand(a *app) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "query [filters]",
		Short: "Show who did what, newest first",
		Args:  noArguments(": filters are flags; a token is read from standard input with --token-stdin"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.auditQuery(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.req.Actor, "actor", "", "who, such as key_4f0c2a9be1d7")
	flags.BoolVar(&f.tokenFromStdin, "token-stdin", false, "about the token on standard input")
	flags.StringVar(&f.req.Record, "record", "", "about this record id")
	flags.StringVar(&f.req.SubjectID, "subject", "", "about the records of this person")
	flags.StringVar(&f.req.Type, "type", "", "about this type of data")
	flags.StringVar(&f.req.Action, "action", "", "such as tokenize or detokenize")
	flags.StringVar(&f.req.Purpose, "purpose", "", "with exactly this purpose")
	flags.StringVar(&f.req.Outcome, "outcome", "", "such as authorized or denied")
	flags.StringVar(&f.from, "from", "", "at or after a time, or a duration ago")
	flags.StringVar(&f.to, "to", "", "before a time, or a duration ago")
	flags.Int32Var(&f.req.Limit, "limit", 100, "entries per page, to 1000")
	flags.BoolVar(&f.all, "all", false, "all pages, not only the first")
	flags.BoolVar(&f.jsonOut, "json", false, "print JSONL with every field instead of a table")
	return cmd
}

func (a *app) auditQuery(ctx context.Context, f auditFlags) (err error) {
	if f.req.Limit < 1 || f.req.Limit > maxAuditPage {
		return usagef("--limit must be from 1 to %d", maxAuditPage)
	}
	if f.req.From, err = a.parseTime("from", f.from, -1); err != nil {
		return err
	}
	if f.req.To, err = a.parseTime("to", f.to, -1); err != nil {
		return err
	}
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	if f.tokenFromStdin {
		if f.req.Token, err = a.readSecret(ctx, "Token"); err != nil {
			return err
		}
		if f.req.Token == "" {
			return usagef("standard input holds no token") // it would select all
		}
	}
	return a.printPages(ctx, c, f)
}

func (a *app) printPages(ctx context.Context, c *client.Client, f auditFlags) error {
	for page := 0; ; page++ {
		answer, err := c.QueryAudit(ctx, f.req)
		if err != nil {
			return err
		}
		if err := a.printEntries(answer.Entries, page == 0, f.jsonOut); err != nil {
			return err
		}
		if answer.NextCursor == "" {
			return nil
		}
		if !f.all {
			a.note("there are more: --all shows them")
			return nil
		}
		f.req.Cursor = answer.NextCursor
	}
}

func (a *app) printEntries(entries []client.AuditEntry, head, asJSON bool) error {
	t := new(table)
	if head {
		t.add("TIME", "ACTOR", "ACTION", "OUTCOME", "TYPE", "REVEAL", "PURPOSE", "TICKET", "RECORD", "ENTRY")
	}
	for _, e := range entries {
		if asJSON {
			if err := printJSON(a.stdout, e); err != nil {
				return err
			}
			continue
		}
		t.add(stamp(e.Time), e.Actor, e.Action, e.Outcome, e.Type, e.Reveal, e.Purpose, e.Ticket, e.Record, fmt.Sprintf("%s#%d", e.Log, e.Index))
	}
	if asJSON {
		return nil
	}
	return t.print(a.stdout)
}
