package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
)

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitRefused
)

// app is what the client commands see of the world.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	environ        func() []string
	readFile       func(string) ([]byte, error)
	now            func() time.Time
	sleep          func(context.Context, time.Duration) error
	random         io.Reader // cryptographic
	jitter         func() float64
}

func newApp() *app {
	return &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, environ: os.Environ, readFile: os.ReadFile,
		now: time.Now, sleep: sleep,
		random: crand.Reader,
		jitter: rand.Float64,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// usageError is a command line that asks for nothing sensible.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// refusedError ends a command that did all but what the vault refused.
type refusedError struct {
	count int64
	what  string // rows, tokens
	where string // where they are listed
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s %s refused: see %s", bulk.Count(e.count), e.what, e.where)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := newRoot(a) //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(a.stderr, "%s: %s\n", cmd.CommandPath(), errorLine(err)) // nowhere else to tell
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage *usageError
	var refused *refusedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	}
	return exitFailed
}

// errorLine is one line without anything that was sent or received but codes.
func errorLine(err error) string {
	var refusal *client.Error
	switch {
	case !errors.As(err, &refusal):
	case refusal.Code == "unauthenticated":
		return bulk.Describe(err) + ": check VAULT_KEY and VAULT_ADDR"
	default:
		return bulk.Describe(err)
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "vault",
		Short: "Keep personal data encrypted and hand out tokens instead",
		Long: `Keep personal data encrypted and hand out tokens instead.

Client commands read
  VAULT_ADDR       address of the vault, http://127.0.0.1:8201 if unset
  VAULT_KEY        the API key, or
  VAULT_KEY_FILE   a file that holds it, such as .vault-dev/dev.key
  VAULT_ALLOW_HTTP true allows http:// to other machines than this one

Exit codes: 0 all done; 1 failed or interrupted; 2 wrong usage;
3 done but for rows or tokens that were refused.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	root.AddCommand(
		newDevCommand(), newDevKMSCommand(), newDevInitCommand(a), newDevReplicateCommand(a), newServeCommand(a), newHealthCommand(a), newConfigCommand(a), newDoctorCommand(a), newTablesCommand(a), newTenantCommand(a), newPolicyCommand(a), newStopCommand(a), newResumeCommand(a),
		newImportCommand(a), newExportCommand(a), newTokenizeCommand(a), newDetokenizeCommand(a),
		newExplainCommand(a), newEraseCommand(a), newTypesCommand(a), newRegionsCommand(a),
		newRepairCommand(a), newCoverageCommand(a), newKeyCommand(a), newAuditCommand(a), newVersionCommand(a),
	)
	return root
}

// unknownCommand does not repeat the argument: it may be a value.
func unknownCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("there is no such command: see --help")
	}
	return nil
}

// newGroup returns a command that only holds others.
func newGroup(use, short string, children ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use: use, Short: short, Args: unknownCommand,
		RunE: func(*cobra.Command, []string) error { return usagef("a command is missing: see --help") },
	}
	group.AddCommand(children...)
	return group
}

// noArguments refuses arguments without repeating them.
func noArguments(hint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("takes no arguments%s", hint)
		}
		return nil
	}
}

func oneArgument(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("takes one argument, %s", name)
		}
		return nil
	}
}

// terminal returns the descriptor behind a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(f.Fd())
	return fd, term.IsTerminal(fd)
}
