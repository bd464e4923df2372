// Command load reads docker-compose.yml, the Dockerfile and .dockerignore as
// Docker's own programs do, and prints what they say, as JSON.
//
//	load -compose FILE     the project, anchors and defaults resolved
//	load -dockerfile FILE  its stages and the findings of BuildKit's linter
//	load -ignored FILE     those of the paths on standard input, a line each, that a build does not see
//
// It is a module of its own, so that neither is a dependency of the vault.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	compose := flags.String("compose", "", "a compose file")
	dockerfile := flags.String("dockerfile", "", "a Dockerfile")
	ignore := flags.String("ignored", "", "a .dockerignore")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var answer any
	var err error
	switch {
	case *compose != "":
		answer, err = readProject(*compose)
	case *dockerfile != "":
		answer, err = readDockerfile(*dockerfile)
	case *ignore != "":
		answer, err = ignored(*ignore, in)
	default:
		err = errors.New("what to read is missing")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answer)
}

// readProject is what `docker compose config --format json` prints.
func readProject(file string) (json.RawMessage, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(filepath.Dir(file)))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}

func ignored(file string, paths io.Reader) ([]string, error) {
	patterns, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer patterns.Close()
	lines, err := ignorefile.ReadAll(patterns)
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(lines)
	if err != nil {
		return nil, err
	}
	found := []string{}
	scanner := bufio.NewScanner(paths)
	for scanner.Scan() {
		match, err := matcher.MatchesOrParentMatches(strings.TrimSpace(scanner.Text()))
		if err != nil {
			return nil, err
		}
		if match {
			found = append(found, scanner.Text())
		}
	}
	return found, scanner.Err()
}
