package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// bypass is a function that answers at once in a vault built to be measured
// beside the real one. Nothing of it is in the source: the build gets other
// text for the function's file (go help build, -overlay).
type bypass struct{ file, function, body string }

// What policies and budgets do for a request.
func bypasses() []bypass {
	const away = " {\n\tif true {\n\t\treturn %s\n\t}\n"
	return []bypass{
		{"internal/authz/decide.go", "func (p *Policies) May(pr Principal, a Action) bool", fmt.Sprintf(away, "true")},
		{
			"internal/authz/decide.go", "func (p *Policies) Decide(pr Principal, r Request) Decision",
			fmt.Sprintf(away, "Decision{Allowed: true, Reveal: r.Reveal, PolicySet: p.hash}"),
		},
		{"internal/authz/cases.go", "func (p *Policies) runCase(c policyCase) error", fmt.Sprintf(away, "nil")}, // they would fail
		{
			"internal/authz/budgets.go",
			"func (b *Budgets) Spend(ctx context.Context, p Principal, uses []Use, together bool) ([]*Refusal, *Remaining, error)",
			fmt.Sprintf(away, "make([]*Refusal, len(uses)), nil, nil"),
		},
	}
}

// overlay writes the changed files and the list of them that the build reads,
// and returns the list's path.
func overlay(dir string, list []bypass) (string, error) {
	texts := map[string]string{}
	for _, b := range list {
		if texts[b.file] == "" {
			text, err := os.ReadFile(b.file)
			if err != nil {
				return "", err
			}
			texts[b.file] = string(text)
		}
		if strings.Count(texts[b.file], b.function+" {\n") != 1 {
			return "", fmt.Errorf("%s has no %s", b.file, b.function)
		}
		texts[b.file] = strings.Replace(texts[b.file], b.function+" {\n", b.function+b.body, 1)
	}
	var replaced struct{ Replace map[string]string }
	replaced.Replace = map[string]string{}
	for file, text := range texts {
		source, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if replaced.Replace[source], err = filepath.Abs(changed); err != nil {
			return "", err
		}
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	names, err := json.Marshal(replaced)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, names, 0o600)
}

// budgets measures what deciding and budgets cost: the vault beside itself
// without them, both with the default policies. Tokens belong to nobody in
// particular, so that each is a subject of its own, which is the dearest case.
func budgets(ctx context.Context, c config, out io.Writer) (err error) {
	counts, err := parseCounts(c.connections)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o750); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "budgets-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	without, err := startWithout(ctx, filepath.Join(dir, "without"), c, bypasses())
	if err != nil {
		return fmt.Errorf("start the vault without: %w", err)
	}
	defer func() { err = errors.Join(err, without.stop()) }()
	with, err := startVault(ctx, dir, strings.Fields(c.vaultArgs))
	if err != nil {
		return fmt.Errorf("start the vault: %w", err)
	}
	defer func() { err = errors.Join(err, with.stop()) }()
	for _, s := range []*server{without, with} {
		if s.tokens, err = seed(ctx, s, c.tokens); err != nil {
			return fmt.Errorf("%s: prepare tokens: %w", s.name, err)
		}
	}
	fmt.Fprint(out, "The floor is the same vault without policies and budgets.\n", header)
	for _, load := range loads() {
		if !strings.HasPrefix(load.name, "detokenize") || c.only != "" && c.only != load.name {
			continue
		}
		for _, n := range counts {
			row, err := compare(ctx, without, with, load, n, c)
			if err != nil {
				return fmt.Errorf("%s at %d connections: %w", load.name, n, err)
			}
			fmt.Fprint(out, row)
		}
	}
	return nil
}

func startWithout(ctx context.Context, dir string, c config, list []bypass) (*server, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	path, err := overlay(dir, list)
	if err != nil {
		return nil, err
	}
	return startVault(ctx, dir, strings.Fields(c.vaultArgs), "-overlay", path)
}
