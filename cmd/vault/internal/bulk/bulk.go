// Package bulk replaces fields of a file by what the vault gives for them:
// values by tokens (import) or tokens by values (export). Batches are
// exchanged in parallel and written in the order of the input.
//
// A run with an output file is resumable at any kill: a journal beside the
// output holds the random import id, the identity of the input and how far
// the output is durable. The idempotency key of an exchange is an HMAC under
// the import id over the batch's ordinal and its rows, and batches are cut
// from the input alike every time, so what was exchanged twice gave the same
// tokens (design §6) and what is written is what one undisturbed run writes.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"piivault/cmd/vault/internal/rows"
)

// Errors that a command explains to its user.
var (
	// ErrInterrupted: the context ended; all that was exchanged is written, but
	// for what stood behind a batch that had to wait.
	ErrInterrupted = errors.New("interrupted")
	// ErrExists: a file of the run is there and the run is not a resumption.
	ErrExists = errors.New("the file exists")
	// ErrBusy: another process runs with the same output.
	ErrBusy = errors.New("another run is writing this file")
	// ErrOtherRun: the journal is of another input or mapping.
	ErrOtherRun = errors.New("the journal beside the output is of another run")
	// ErrDamaged: the journal or the output is not as the run left it.
	ErrDamaged = errors.New("the journal does not fit the files")
)

// Item is one field on its way to the vault.
type Item struct {
	Field                         int // index in Config.Fields
	Value, Type, Country, Subject string
}

// FieldError refuses a field by its stable code.
type FieldError struct {
	Field string `json:"field"`
	Code  string `json:"code"`
}

// Exchange trades the items of one request for their replacements, in order,
// all or none. A *client.Error that lists items refuses these rows. When ctx
// is done it still makes one attempt and finishes it, but no second one.
type Exchange func(ctx context.Context, idempotencyKey string, items []Item) ([]string, error)

// Config of a run.
type Config struct {
	Input   string // path, or "-" for Stdin
	Output  string // path; "": Stdout, not resumable
	Refused string // path; "": RefusedTo
	Format  rows.Format
	Fields  []string // that Pick looks at, each once

	// Plan is what else must be the same on resumption, by the name that a
	// refusal prints.
	Plan map[string]string
	// Pick chooses the items of a row, or refuses it.
	Pick     func(*rows.Row) ([]Item, []FieldError)
	Exchange Exchange

	MaxItems int // of one exchange; a row with more goes alone
	MaxBytes int // of one exchange's values; a row with more goes alone
	Parallel int // exchanges at a time
	Force    bool

	Stdin             io.Reader
	Stdout, RefusedTo io.Writer
	Now               func() time.Time
	Random            io.Reader // cryptographic
	Progress          Progress
}

// Counts of a whole import, earlier runs included.
type Counts struct {
	Rows    int64   `json:"rows"`
	Items   int64   `json:"items"`
	Refused int64   `json:"refused"` // rows
	Fields  []int64 `json:"fields"`  // rows with the field, as Config.Fields
}

// Result of a run.
type Result struct {
	Counts
	Resumable bool
	Resumed   int64 // rows that were there from earlier runs
}

// Run does all of it, or as much as could be done before the error; either
// way Result says what is written.
func Run(ctx context.Context, c Config) (Result, error) {
	in, err := openInput(c)
	if err != nil {
		return Result{}, err
	}
	defer in.close()
	reader, err := rows.NewReader(in.reader(), rows.Config{Format: c.Format, Fields: c.Fields})
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", c.Input, err)
	}
	if c.Output != "" {
		if err := in.identify(ctx); err != nil {
			return Result{}, err
		}
	}
	files, from, err := openFiles(c, in)
	if err != nil {
		return Result{}, err
	}
	defer files.close()
	r := &run{c: c, reader: reader, files: files, total: in.size, state: from}
	err = r.do(ctx)
	return Result{Counts: r.state.Counts, Resumable: files.journal != nil, Resumed: from.Rows}, err
}

func (r *run) do(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	err := r.pump(ctx)
	if serr := r.files.sync(r.state); serr != nil {
		return serr
	}
	switch {
	case errors.Is(err, context.Canceled):
		return ErrInterrupted
	case err != nil:
		return err
	case !r.ended.Load():
		return ErrInterrupted
	}
	return r.files.finish()
}

// begin writes the preamble, or goes to where the last run stopped.
func (r *run) begin() error {
	if r.state.Batches > 0 {
		return r.reader.Resume(r.state.Input)
	}
	r.state.Fields = make([]int64, len(r.c.Fields))
	return r.files.write(r.reader.Preamble())
}
