package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/internal/vault"
)

const (
	maxEraseBatch = 100
	maxTokenLine  = 4096
)

func newEraseCommand(a *app) *cobra.Command {
	var subject string
	var jobs []string
	cmd := &cobra.Command{
		Use:   "erase [--subject S | --job ID]",
		Short: "Erase tokens from standard input, or all of a person, for good",
		Long: `Erase tokens from standard input, one a line, or with --subject all records of a
person. What is erased stays erased, in every region and in backups that are
restored. Each region confirms on its own; --job tells how far an erasure is, and
erases nothing. Tokens that are none are reported by line, and exit 3.`,
		Args: noArguments(": tokens are read from standard input"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(jobs) > 0 {
				if cmd.Flags().Changed("subject") {
					return usagef("--job erases nothing: leave out --subject")
				}
				return a.eraseStatus(cmd.Context(), jobs)
			}
			if cmd.Flags().Changed("subject") {
				return a.eraseSubject(cmd.Context(), subject)
			}
			return a.eraseTokens(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "id of the person, as given to tokenize")
	cmd.Flags().StringSliceVar(&jobs, "job", nil, "how far is this erasure? may be repeated")
	cmd.AddCommand(newEraseReplayCommand(a))
	return cmd
}

func newEraseReplayCommand(a *app) *cobra.Command {
	var file, since string
	cmd := &cobra.Command{
		Use:   "replay --config FILE [--since TIME]",
		Short: "Erase again what a restored table brought back",
		Long: `Erase again what a restored table brought back, on a machine with the rights to
the tables: after the records table was restored to an earlier time, and before
any instance serves it. Erasures are taken from the control table and from the
audit logs, which are read and verified block by block, without their index. Give
the time that was restored, or nothing to replay all of them. What was written
after an erasure stays. It may be repeated. When it fails, not all is replayed.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := a.parseTime("since", since, -1)
			if err != nil {
				return err
			}
			return a.unhurried(cmd.Context(), file, func(ctx context.Context, i *instance) error {
				done, err := i.ReplayErasures(ctx, from)
				return errors.Join(err, a.printReplay(done))
			})
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&since, "since", "", "erasures since then: a time (RFC 3339) or a duration (24h)")
	return cmd
}

func (a *app) printReplay(done vault.ReplayResult) error {
	for _, log := range done.Unfinished {
		a.note("%s ends behind a hole: if the audit table was restored too, its last erasures may be missing", log)
	}
	_, err := fmt.Fprintf(a.stdout, "%s jobs and %s audited erasures replayed; %s records had come back and are erased again\n%s entries of %s audit logs read\n",
		bulk.Count(int64(done.Jobs)), bulk.Count(int64(done.Entries)), bulk.Count(int64(done.Buried)), bulk.Count(int64(done.Read)), bulk.Count(int64(done.Logs)))
	return err
}

func (a *app) eraseSubject(ctx context.Context, subject string) error {
	if subject == "" {
		return usagef("--subject is empty")
	}
	answer, err := call(ctx, a, func(ctx context.Context, c *client.Client) (client.EraseResponse, error) {
		return c.EraseSubject(ctx, subject)
	})
	if err != nil {
		return err
	}
	done := erasure{complete: true}
	done.add(answer)
	return a.printErasure(done)
}

func (a *app) eraseStatus(ctx context.Context, jobs []string) error {
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	done := erasure{complete: true, asked: true}
	for _, job := range jobs {
		answer, err := c.EraseStatus(ctx, job)
		if err != nil {
			return err
		}
		done.add(answer)
	}
	return a.printErasure(done)
}

// erasure sums up the answers of several requests.
type erasure struct {
	erased   int64
	refused  int64
	complete bool
	asked    bool     // about jobs of earlier
	jobs     []string // that are not complete
	waiting  []string // regions that have not confirmed, sorted
}

func (e *erasure) add(r client.EraseResponse) {
	e.erased += int64(r.Erased)
	e.complete = e.complete && r.Complete
	if !r.Complete {
		e.jobs = append(e.jobs, r.Job)
	}
	for _, region := range r.Regions {
		if i, found := slices.BinarySearch(e.waiting, region.Name); !region.Confirmed && !found {
			e.waiting = slices.Insert(e.waiting, i, region.Name)
		}
	}
}

func (a *app) printErasure(e erasure) error {
	text := "complete in every region"
	if !e.complete {
		text = "not yet confirmed by " + orNone(joined(e.waiting)) + "; vault erase --job " + strings.Join(e.jobs, ",") + " tells how far it is"
	}
	if !e.asked {
		text = fmt.Sprintf("%d erased here; %s", e.erased, text)
	}
	if _, err := fmt.Fprintln(a.stdout, text); err != nil {
		return err
	}
	if e.refused > 0 {
		return &refusedError{count: e.refused, what: "tokens", where: "the lines above"}
	}
	return nil
}

// line is a token and where it stood.
type line struct {
	number int64
	token  string
}

func (a *app) eraseTokens(ctx context.Context) error {
	c, err := a.connect(client.Config{})
	if err != nil {
		return err
	}
	done := erasure{complete: true}
	in := bufio.NewScanner(a.stdin)
	in.Buffer(make([]byte, maxTokenLine), maxTokenLine)
	for number, more := int64(0), true; more; {
		var batch []line
		for len(batch) < maxEraseBatch {
			if more = in.Scan(); !more {
				break
			}
			number++
			if token := bytes.TrimSpace(in.Bytes()); len(token) > 0 {
				batch = append(batch, line{number, string(token)})
			}
		}
		if err := a.eraseBatch(ctx, c, batch, &done); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return a.printErasure(done)
}

// eraseBatch leaves out what the vault refuses: it refuses a batch as a whole.
func (a *app) eraseBatch(ctx context.Context, c *client.Client, batch []line, done *erasure) error {
	for len(batch) > 0 {
		tokens := make([]string, len(batch))
		for i, l := range batch {
			tokens[i] = l.token
		}
		answer, err := c.Erase(ctx, tokens...)
		if err == nil {
			done.add(answer)
			return nil
		}
		var refusal *client.Error
		if !errors.As(err, &refusal) || len(refusal.Items) == 0 || refusal.Temporary() {
			return err
		}
		bad := make(map[int]bool, len(refusal.Items))
		for _, it := range refusal.Items {
			if i := int(it.Index); i >= 0 && i < len(batch) && !bad[i] {
				bad[i] = true
				a.note("line %d: %s", batch[i].number, bulk.SafeCode(it.Code))
			}
		}
		if len(bad) == 0 {
			return err
		}
		done.refused += int64(len(bad))
		batch = without(batch, bad)
	}
	return nil
}

func without(batch []line, bad map[int]bool) []line {
	var rest []line
	for i, l := range batch {
		if !bad[i] {
			rest = append(rest, l)
		}
	}
	return rest
}
