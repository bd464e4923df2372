package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"piivault/internal/authz"
	"piivault/internal/authz/oidc"
)

// maxQuestion bounds a request on standard input.
const maxQuestion = 64 << 10

func newPolicyCommand(a *app) *cobra.Command {
	return newGroup("policy", "Check, test and explain policies, without a running vault",
		newPolicyCheckCommand(a), newPolicyTestCommand(a), newPolicyWhyCommand(a), newPolicyExportCommand(a))
}

// claimsFlag is the configuration that declares which claims policies may ask for.
func claimsFlag(cmd *cobra.Command, file *string) *cobra.Command {
	cmd.Flags().StringVar(file, "config", "", "configuration whose oidc claims the policies may ask for; default: none")
	return cmd
}

// claimsOf are the claims that a configuration declares.
func (a *app) claimsOf(file string) (authz.ClaimTypes, error) {
	if file == "" {
		return nil, nil
	}
	cfg, err := a.loadConfig(file)
	if err != nil {
		return nil, err
	}
	return oidc.ClaimTypes(cfg.SignIn.Issuers...)
}

func newPolicyCheckCommand(a *app) *cobra.Command {
	var file string
	return claimsFlag(&cobra.Command{
		Use:   "check DIR",
		Short: "Check the policies of a directory as vault serve does at start",
		Long: `Check the policies of a directory as vault serve does at start: Cedar's strict
validation against the vault's schema, an @id for each, no unknown annotation,
and every case of the *.cases.json files. It prints the set's hash, which audit
entries name.`,
		Args: oneArgument("the directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.policiesOf(args[0], file)
			if err != nil {
				return err
			}
			policies, cases := p.Count()
			_, err = fmt.Fprintf(a.stdout, "%d policies are good, %d cases pass; policy set %s\n", policies, cases, p.Hash())
			return err
		},
	}, &file)
}

func newPolicyTestCommand(a *app) *cobra.Command {
	var file string
	return claimsFlag(&cobra.Command{
		Use:   "test DIR",
		Short: "Run the cases of a directory and list those that fail",
		Args:  oneArgument("the directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := authz.ReadPolicies(args[0])
			if err != nil {
				return err
			}
			claims, err := a.claimsOf(file)
			if err != nil {
				return err
			}
			results, err := claims.RunCases(files)
			if err != nil {
				return err
			}
			failed := 0
			for _, r := range results {
				verdict := "pass"
				if r.Err != nil {
					failed++
					verdict = "FAIL"
				}
				if _, err := fmt.Fprintf(a.stdout, "%s  %s: %s\n", verdict, printable(r.File), printable(r.Name)); err != nil {
					return err
				}
				if r.Err != nil {
					a.note("%s: %s: %s", printable(r.File), printable(r.Name), printable(r.Err.Error()))
				}
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d cases fail", failed, len(results))
			}
			return nil
		},
	}, &file)
}

// policiesOf reads a directory, or the default set for callers with the claims.
func (a *app) policiesOf(dir, file string) (*authz.Policies, error) {
	claims, err := a.claimsOf(file)
	if err != nil {
		return nil, err
	}
	var s *authz.PolicySource
	if s, err = authz.NewPolicySource(authz.PolicySourceConfig{Dir: dir, Claims: claims}); err != nil {
		return nil, err
	}
	return s.Current(), nil
}

func newPolicyWhyCommand(a *app) *cobra.Command {
	var dir, file, at, claims string
	var roles []string
	var q authz.Question
	cmd := claimsFlag(&cobra.Command{
		Use:   "why [--dir DIR] --action A --roles R,… [--type T] [--reveal plain|masked] [--purpose P] …",
		Short: "Say what the policies decide about a request, and why",
		Long: `Say what the policies decide about a request, and why: what each permits or
forbids, and of those that do not match which part does not. Without --action
the request is read from standard input, JSON as in a *.cases.json file.
Without --dir the default policies are asked.`,
		Args: noArguments(""),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.policiesOf(dir, file)
			if err != nil {
				return err
			}
			if q.Action == "" {
				if q, err = a.readQuestion(); err != nil {
					return err
				}
			} else if err = a.completeQuestion(&q, roles, at, claims); err != nil {
				return err
			}
			d, reasons, err := p.Why(q)
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, whyText(q, d, reasons))
			return err
		},
	}, &file)
	f := cmd.Flags()
	f.StringVar(&claims, "claims", "", `the caller's claims, JSON such as {"department":"finance"}`)
	f.StringVar(&dir, "dir", "", "directory of policies; default: the default set")
	f.StringVar((*string)(&q.Action), "action", "", "tokenize, detokenize, inspect, search, erase, audit_read, repair, admin, stop or resume")
	f.StringSliceVar(&roles, "roles", nil, "the caller's roles")
	f.StringVar(&q.Principal, "principal", "", "the caller's id, key_<id> for example")
	f.StringVar(&q.PrincipalName, "name", "", "the caller's name")
	f.StringVar(&q.Authentication, "authentication", "api_key", "how the caller signed in")
	f.StringVar(&q.Tenant, "tenant", "", "the tenant's id")
	f.StringVar(&q.Type, "type", "", "the record's type")
	f.StringVar(&q.Subject, "subject", "", "the record's subject, as audit entries name it")
	f.Int64Var(&q.AgeDays, "age-days", 0, "whole days since the record was made")
	f.StringVar((*string)(&q.Reveal), "reveal", "", "plain or masked; default for detokenize: plain")
	f.StringVar(&q.Purpose, "purpose", "", "the purpose given")
	f.StringVar(&q.Ticket, "ticket", "", "the ticket given")
	f.StringVar(&at, "time", "", "when, RFC 3339; default now")
	return cmd
}

func (a *app) readQuestion() (authz.Question, error) {
	text, err := io.ReadAll(io.LimitReader(a.stdin, maxQuestion))
	if err != nil {
		return authz.Question{}, fmt.Errorf("read standard input: %w", err)
	}
	return authz.ParseQuestion(text)
}

func (a *app) completeQuestion(q *authz.Question, roles []string, at, claims string) error {
	if claims != "" && json.Unmarshal([]byte(claims), &q.Claims) != nil {
		return usagef("--claims must be a JSON object")
	}
	for _, r := range roles {
		q.Roles = append(q.Roles, authz.Role(r))
	}
	if q.Action == authz.ActionDetokenize && q.Reveal == "" {
		q.Reveal = authz.Plain
	}
	q.Time = a.now()
	if at != "" {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return usagef("--time must be RFC 3339")
		}
		q.Time = when
	}
	return nil
}

// whyText puts what decided first.
func whyText(q authz.Question, d authz.Decision, reasons []authz.Reason) string {
	var b strings.Builder
	switch {
	case !d.Allowed && len(d.Policies) == 0:
		b.WriteString("denied: no policy permits it\n")
	case !d.Allowed:
		fmt.Fprintf(&b, "denied by %s\n", strings.Join(d.Policies, ", "))
	case d.Reveal != q.Reveal && d.Reveal != "":
		fmt.Fprintf(&b, "allowed, %s at most, by %s\n", d.Reveal, strings.Join(d.Policies, ", "))
	default:
		fmt.Fprintf(&b, "allowed by %s\n", strings.Join(d.Policies, ", "))
	}
	for _, r := range reasons {
		effect := "forbid"
		if r.Permit {
			effect = "permit"
		}
		if r.Masked {
			effect += ", masked"
		}
		fmt.Fprintf(&b, "  %s (%s; %s:%d): %s\n", r.Policy, effect, printable(r.File), r.Line, partOf(r))
	}
	fmt.Fprintf(&b, "policy set %s\n", d.PolicySet)
	return b.String()
}

func partOf(r authz.Reason) string {
	switch {
	case r.Matches:
		return "matches"
	case r.Fails:
		return "cannot be evaluated, which denies: " + r.Why
	default:
		return "does not match; " + r.Why
	}
}

func newPolicyExportCommand(a *app) *cobra.Command {
	var file string
	return claimsFlag(&cobra.Command{
		Use:   "export DIR",
		Short: "Write the default policies, their cases and the schema, to start from",
		Long: `Write the default policies, their cases and the schema to a directory, which is
made where it is missing: to start one's own from. No file there is replaced.
The schema is for editors: vault serve has its own.`,
		Args: oneArgument("the directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := authz.DefaultPolicyFiles()
			if err != nil {
				return err
			}
			claims, err := a.claimsOf(file)
			if err != nil {
				return err
			}
			if files["schema.cedarschema"], err = claims.PolicySchema(); err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // policies are no secret: instances of another user read them
				return errors.New("the directory cannot be made")
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				if err := writeNew(filepath.Join(args[0], name), files[name]); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			a.note("wrote %d files: name the directory as policies in the configuration", len(files))
			return nil
		},
	}, &file)
}

// writeNew never replaces a file.
func writeNew(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if errors.Is(err, os.ErrExist) {
		return errors.New("the file is there already")
	}
	if err != nil {
		return errors.New("the file cannot be written")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(text)
	return err
}
