// Command check reads the Terraform modules below a directory and prints what
// `terraform fmt` and `terraform validate` would say of them, a finding a line,
// without Terraform or its provider: form, syntax, references, arguments of
// modules and resources. What resources take comes from schema.json.
// With -tables it prints the tables that module tables defines, with -config
// the vault.yaml of every region that the example makes of several variables,
// as JSON.
//
// It is a module of its own, so that HCL is no dependency of the vault.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	schemaFile := flags.String("schema", "schema.json", "what the provider takes and gives")
	tables := flags.Bool("tables", false, "print the tables of the module in the directory")
	config := flags.Bool("config", false, "print what vault.yaml the example in the directory makes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one directory is needed")
	}
	if *tables {
		defined, err := tablesOf(flags.Arg(0))
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(defined)
	}
	if *config {
		files := map[string]map[string]string{}
		for name, given := range variants() {
			var err error
			if files[name], err = render(flags.Arg(0), given); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return json.NewEncoder(out).Encode(files)
	}
	s, err := readSchema(*schemaFile)
	if err != nil {
		return err
	}
	findings, err := checkAll(flags.Arg(0), s)
	if err != nil {
		return err
	}
	for _, f := range findings {
		fmt.Fprintln(out, f)
	}
	if len(findings) > 0 {
		return fmt.Errorf("%d findings", len(findings))
	}
	return nil
}
