package main

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

type stage struct {
	Name, Base, Platform string
	Runs                 []string
	Copies               []copied
	Env                  map[string]string
	User                 string
	Entrypoint, Cmd      []string
	Exposed              []string
	Healthcheck          []string
	StopSignal           string
}

type copied struct {
	From         string
	Sources      []string
	To           string
	Chown, Chmod string
}

// readDockerfile gives the stages; a finding of the linter is an error.
func readDockerfile(file string) ([]stage, error) {
	text, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer text.Close()
	result, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	var findings []string
	for _, w := range result.Warnings {
		findings = append(findings, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		findings = append(findings, rule+": "+message)
	}})
	parsed, _, err := instructions.Parse(result.AST, lint)
	if err != nil {
		return nil, err
	}
	if len(findings) > 0 {
		return nil, fmt.Errorf("%s: %q", file, findings)
	}
	var stages []stage
	for _, p := range parsed {
		s := stage{Name: p.Name, Base: p.BaseName, Platform: p.Platform, Env: map[string]string{}}
		for _, c := range p.Commands {
			if err := s.add(c); err != nil {
				return nil, err
			}
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func (s *stage) add(command instructions.Command) error {
	switch c := command.(type) {
	case *instructions.RunCommand:
		if !c.PrependShell {
			return fmt.Errorf("RUN of words, not of a shell's line: %q", c.CmdLine)
		}
		s.Runs = append(s.Runs, c.CmdLine...)
	case *instructions.CopyCommand:
		s.Copies = append(s.Copies, copied{c.From, c.SourcePaths, c.DestPath, c.Chown, c.Chmod})
	case *instructions.EnvCommand:
		for _, pair := range c.Env {
			s.Env[pair.Key] = pair.Value
		}
	case *instructions.UserCommand:
		s.User = c.User
	case *instructions.EntrypointCommand:
		s.Entrypoint = words(c.ShellDependantCmdLine)
	case *instructions.CmdCommand:
		s.Cmd = words(c.ShellDependantCmdLine)
	case *instructions.ExposeCommand:
		s.Exposed = c.Ports
	case *instructions.HealthCheckCommand:
		s.Healthcheck = c.Health.Test
	case *instructions.StopSignalCommand:
		s.StopSignal = c.Signal
	case *instructions.WorkdirCommand, *instructions.ArgCommand:
	default:
		return fmt.Errorf("an instruction that is not looked at: %s", c.Name())
	}
	return nil
}

// words are a command's; a line for a shell, which there is none of, is "sh" first.
func words(line instructions.ShellDependantCmdLine) []string {
	if line.PrependShell {
		return append([]string{"sh", "-c"}, line.CmdLine...)
	}
	return line.CmdLine
}
