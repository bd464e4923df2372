package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/rows"
)

const linesEvery = 5 * time.Second

const transferHelp = `
FILE is JSONL or CSV with a header, told by its extension or --format; "-" is
standard input. Only the fields named are replaced, every other byte of a row
stays as it is. A field that is absent or null, and an empty CSV cell, is
skipped. A row of which any field is refused is left out and reported in
--refused (default OUT.refused.jsonl; standard error without --out) by row,
line, field and code; the report holds no values.

With --out the run can be resumed: after a kill, a crash or Ctrl-C, give the
same command again. OUT.journal (mode 0600, keep it private) says how far it
is; it is removed at the end. Reading from a pipe or writing to standard
output cannot be resumed.`

// transferFlags are what import and export have in common.
type transferFlags struct {
	format, out, refused string
	batch, parallel      int
	force                bool
	retryFor             time.Duration
}

func (f *transferFlags) register(cmd *cobra.Command, maxBatch int) {
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "jsonl or csv; default by the extension of FILE")
	flags.StringVar(&f.out, "out", "", "write here (mode 0600) instead of to standard output")
	flags.StringVar(&f.refused, "refused", "", "report refused rows here; default OUT.refused.jsonl")
	flags.IntVar(&f.batch, "batch", maxBatch, "fields per request at most")
	flags.IntVar(&f.parallel, "parallel", 4, "requests at a time")
	flags.BoolVar(&f.force, "force", false, "replace OUT, its journal and its report; a run that was not finished is given up")
	flags.DurationVar(&f.retryFor, "retry-for", 2*time.Minute, "how long one request waits for a vault that is down or overloaded")
}

func (f *transferFlags) check(input string, maxBatch int) (rows.Format, error) {
	switch {
	case f.batch < 1 || f.batch > maxBatch:
		return "", usagef("--batch must be from 1 to %d", maxBatch)
	case f.parallel < 1 || f.parallel > 64:
		return "", usagef("--parallel must be from 1 to 64")
	}
	switch f.format {
	case string(rows.JSONL), string(rows.CSV):
		return rows.Format(f.format), nil
	case "":
	default:
		return "", usagef("--format must be jsonl or csv")
	}
	switch strings.ToLower(filepath.Ext(input)) {
	case ".jsonl", ".ndjson":
		return rows.JSONL, nil
	case ".csv":
		return rows.CSV, nil
	}
	return "", usagef("cannot tell the format of FILE by its extension: give --format jsonl or csv")
}

// transfer is one import or export.
type transfer struct {
	verb     string // "tokenized"
	flags    transferFlags
	job      bulk.Config // Input, Fields, Plan, Pick, MaxBytes
	wanted   int         // the first so many Fields are replaced
	exchange func(context.Context, sender, string, []bulk.Item) ([]string, error)
	// preflight looks at the vault before anything is written.
	preflight func(client.TypesResponse) error
}

// sender has what an exchange needs. Patience is with the vault: an answer that
// came but does not do is an error at once.
type sender struct {
	client   *client.Client
	patience bulk.Patience
}

func (a *app) transfer(ctx context.Context, t transfer) error {
	c, err := a.connect(client.Config{Retries: -1}) // bulk.Patience does that
	if err != nil {
		return err
	}
	if err := preflight(ctx, c, t); err != nil {
		return err
	}
	job, progress := a.complete(t, c)
	began := a.now()
	result, err := bulk.Run(ctx, job)
	progress.Close()
	a.summarize(t, result, a.now().Sub(began))
	if err != nil {
		return explainTransfer(err, result)
	}
	if result.Refused > 0 {
		where := job.Refused
		if where == "" {
			where = "the lines above"
		}
		return &refusedError{count: result.Refused, what: "rows", where: where}
	}
	return nil
}

// preflight finds a vault that is not there, a bad credential and unknown
// types before files are made. A credential may lack this one right.
func preflight(ctx context.Context, c *client.Client, t transfer) error {
	types, err := c.Types(ctx)
	var refusal *client.Error
	if errors.As(err, &refusal) && refusal.Code == "forbidden" {
		return nil
	}
	if err != nil {
		return err
	}
	return t.preflight(types)
}

func (a *app) complete(t transfer, c *client.Client) (bulk.Config, bulk.Progress) {
	job, f := t.job, t.flags
	var progress bulk.Progress = bulk.NewLines(a.stderr, a.now, linesEvery)
	if _, ok := terminal(a.stderr); ok {
		progress = bulk.NewBar(a.stderr, t.verb, a.now)
	}
	patience := bulk.Patience{For: f.retryFor, Sleep: a.sleep, Jitter: a.jitter, Waiting: progress.Waiting}
	job.Output, job.Refused, job.RefusedTo = f.out, f.refused, a.stderr
	if f.refused == "" && f.out != "" {
		job.Refused = f.out + ".refused.jsonl"
	}
	job.Plan["--format"], job.Plan["--batch"] = string(job.Format), strconv.Itoa(f.batch)
	job.MaxItems, job.Parallel, job.Force = f.batch, f.parallel, f.force
	job.Stdin, job.Stdout, job.Now, job.Random, job.Progress = a.stdin, a.stdout, a.now, a.random, progress
	job.Exchange = func(ctx context.Context, key string, items []bulk.Item) ([]string, error) {
		return t.exchange(ctx, sender{c, patience}, key, items)
	}
	return job, progress
}

func (a *app) summarize(t transfer, r bulk.Result, took time.Duration) {
	if r.Rows == 0 && r.Fields == nil {
		return // it did not begin
	}
	text := fmt.Sprintf("%s rows, %s fields %s, %s rows refused", bulk.Count(r.Rows), bulk.Count(r.Items), t.verb, bulk.Count(r.Refused))
	if r.Resumed > 0 {
		text += fmt.Sprintf(", %s rows of them in earlier runs", bulk.Count(r.Resumed))
	}
	rate := float64(r.Rows-r.Resumed) / max(took.Seconds(), 0.001)
	a.note("%s; %s (%s rows/s)", text, took.Round(time.Millisecond), bulk.Count(int64(rate)))
	for i, name := range t.job.Fields[:t.wanted] {
		if r.Rows > 0 && r.Fields[i] == 0 {
			a.note("note: no row has the field %q", name)
		}
	}
}

// explainTransfer says what to do next.
func explainTransfer(err error, r bulk.Result) error {
	var column *rows.ColumnError
	switch {
	case errors.As(err, &column):
		return usagef("%v", column)
	case errors.Is(err, bulk.ErrExists):
		return fmt.Errorf("%w (--force replaces it)", err)
	case errors.Is(err, bulk.ErrOtherRun):
		return fmt.Errorf("%w: finish that run with its own arguments and input, or give it up with --force", err)
	case errors.Is(err, bulk.ErrDamaged), errors.Is(err, bulk.ErrBusy):
		return err
	case r.Resumable:
		return fmt.Errorf("%s; give the same command again to resume", errorLine(err))
	case errors.Is(err, bulk.ErrInterrupted):
		return fmt.Errorf("%w; this run cannot be resumed, for want of --out or of a file to read", err)
	}
	return err
}
