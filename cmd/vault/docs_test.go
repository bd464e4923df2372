package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
)

const repository = "../.."

// readTree gives the text of every file of the repository that ends so, by
// path, but for those of fetched things.
func readTree(t *testing.T, suffix string, under ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, dir := range under {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "target" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
				return fs.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, suffix):
				return nil
			}
			text, err := os.ReadFile(path)
			texts[path] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// operators are the pages whose every name is looked up.
func operators(t *testing.T) map[string]string {
	t.Helper()
	texts := readTree(t, ".md", "docs")
	maps.DeleteFunc(texts, func(path, _ string) bool {
		name := filepath.Base(path)
		return name != "operations.md" && name != "resilience.md"
	})
	if len(texts) != 2 {
		t.Fatalf("%d pages", len(texts))
	}
	return texts
}

// blocks are the fenced blocks of a language in a page, without indentation.
func blocks(text, language string) (found []string) {
	var block []string
	open, indent := false, ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		rest := strings.TrimLeft(line, " ")
		switch {
		case !open && rest == "```"+language:
			open, indent, block = true, line[:len(line)-len(rest)], nil
		case open && rest == "```":
			open, found = false, append(found, strings.Join(block, "\n"))
		case open:
			block = append(block, strings.TrimPrefix(line, indent))
		}
	}
	return found
}

var (
	quoted     = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	separators = regexp.MustCompile(`\s(?:\||&&|;|<|>)\s`)
	assignment = regexp.MustCompile(`^[A-Z_]+=\S*$`)
	span       = regexp.MustCompile("`([^`\n]+)`")
)

// vaultCommands are the arguments of every call of the vault in a shell's text.
func vaultCommands(block string) (calls [][]string) {
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		line, _, _ = strings.Cut(quoted.ReplaceAllString(line, "x"), " #")
		for _, part := range separators.Split(" "+line+" ", -1) {
			words := strings.Fields(part)
			for len(words) > 0 && (words[0] == "export" || assignment.MatchString(words[0])) {
				words = words[1:]
			}
			switch {
			case len(words) > 2 && words[0] == "go" && words[1] == "run" && words[2] == "./cmd/vault":
				calls = append(calls, words[3:])
			case len(words) > 0 && (words[0] == "vault" || words[0] == "bin/vault"):
				calls = append(calls, words[1:])
			}
		}
	}
	return calls
}

// Every command line in a shell block of the documentation is one that the
// vault takes.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	n := 0
	for path, text := range readTree(t, ".md", ".") {
		for _, block := range blocks(text, "sh") {
			for _, args := range vaultCommands(block) {
				n++
				cmd, rest, err := newRoot(newApp()).Find(args)
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
				if err != nil || !cmd.HasParent() || cmd.HasSubCommands() && !cmd.HasFlags() {
					t.Errorf("%s: vault %s: %v", path, strings.Join(args, " "), err)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands were found", n)
	}
}

// Commands named in the operators' pages exist, and so do their flags.
func TestNamedCommands(t *testing.T) {
	t.Parallel()
	for path, text := range operators(t) {
		for _, found := range span.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(found[1])
			if words[0] != "vault" || len(words) == 1 {
				continue
			}
			cmd := newRoot(newApp())
			for words = words[1:]; len(words) > 0 && cmd.HasSubCommands() && !strings.HasPrefix(words[0], "-"); words = words[1:] {
				if cmd = subcommand(cmd, words[0]); cmd == nil {
					t.Errorf("%s: %s: no such command", path, found[1])
					break
				}
			}
			for _, word := range words {
				if name, isFlag := strings.CutPrefix(word, "--"); isFlag && cmd != nil && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: %s: no such flag", path, found[1])
				}
			}
		}
	}
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
	if i < 0 {
		return nil
	}
	return cmd.Commands()[i]
}

// keysOf are all keys of a configuration, with those above them.
func keysOf(t *testing.T, text string) map[string]bool {
	t.Helper()
	var root any
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	var walk func(value any, at string)
	walk = func(value any, at string) {
		switch v := value.(type) {
		case []any:
			for _, element := range v {
				walk(element, at)
			}
		case map[string]any:
			for name, child := range v {
				key := strings.TrimPrefix(at+"."+name, ".")
				keys[key] = true
				walk(child, key)
			}
		}
	}
	walk(root, "")
	return keys
}

// Every configuration key in the operators' pages exists.
func TestDocumentedKeys(t *testing.T) {
	t.Parallel()
	known := keysOf(t, string(config.Example()))
	for short := range maps.Clone(known) { // a type's and a region's are named without their list
		for _, list := range []string{"types.", "regions."} {
			if key, ok := strings.CutPrefix(short, list); ok {
				known[key] = true
			}
		}
	}
	dotted := regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)
	for path, text := range operators(t) {
		for _, block := range blocks(text, "yaml") {
			for key := range keysOf(t, block) {
				if !known[key] {
					t.Errorf("%s: there is no key %s", path, key)
				}
			}
		}
		for _, found := range span.FindAllStringSubmatch(text, -1) {
			first, _, _ := strings.Cut(found[1], ".")
			if dotted.MatchString(found[1]) && known[first] && !known[found[1]] {
				t.Errorf("%s: there is no key %s", path, found[1])
			}
		}
	}
}

// Every metric, log message, refusal and test that the operators' pages name
// is there.
func TestDocumentedNames(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, text := range readTree(t, ".go", "cmd", "internal", "test") {
		code.WriteString(text)
	}
	contract, err := os.ReadFile(filepath.Join(repository, "api", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		name  string
		named *regexp.Regexp
		in    string
		as    [2]string // what stands around it there
	}{
		{"metric", regexp.MustCompile(`\b(vault_[a-z_]+?)(?:_count|_bucket|_sum)?\b[^.]`), code.String(), [2]string{`"`, `"`}},
		{"message", regexp.MustCompile("`\"([^\"`]+)\"`"), code.String(), [2]string{`"`, `"`}},
		{"refusal", regexp.MustCompile("\\b[45][0-9]{2} `([a-z_]+)`"), string(contract), [2]string{"", ""}},
		{"test", regexp.MustCompile(`\b(Test[A-Z]\w*)`), code.String(), [2]string{"func ", "(t *testing.T)"}},
	} {
		n := 0
		for path, text := range operators(t) {
			for _, found := range kind.named.FindAllStringSubmatch(text, -1) {
				n++
				if !strings.Contains(kind.in, kind.as[0]+found[1]+kind.as[1]) {
					t.Errorf("%s: there is no %s %s", path, kind.name, found[1])
				}
			}
		}
		if n == 0 {
			t.Errorf("no %s is named", kind.name)
		}
	}
}
