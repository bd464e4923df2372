// Command scan looks through a data directory for values and tokens:
//
//	go run ./test/scan/cmd --dir DIR --needles FILE
//
// FILE holds one needle a line; reports name it by its line number. The exit
// status is 0 when nothing was found, 1 when something was, 2 on an error.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"

	"piivault/test/scan"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("scan", flag.ContinueOnError)
	flags.SetOutput(errOut)
	dir := flags.String("dir", "", "data directory to look through")
	file := flags.String("needles", "", "file with one value or token a line")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	report, err := look(*dir, *file)
	if err != nil {
		fmt.Fprintln(errOut, err)
		return 2
	}
	for _, h := range report.Hits {
		fmt.Fprintf(out, "%s: %s %s: %s as %s\n", h.File, h.Place, h.Key, h.Needle, h.Encoding)
	}
	fmt.Fprintf(out, "%d hits in %d files (%d bytes), %d databases, %d tables, %d logs, %d keys with values\n",
		len(report.Hits), report.Files, report.Bytes, report.Databases, report.Tables, report.Logs, report.Keys)
	if len(report.Hits) > 0 {
		return 1
	}
	return 0
}

func look(dir, file string) (scan.Report, error) {
	lines, err := os.ReadFile(file)
	if err != nil {
		return scan.Report{}, err
	}
	var needles []scan.Needle
	for i, line := range bytes.Split(lines, []byte("\n")) {
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 {
			needles = append(needles, scan.Needle{Name: fmt.Sprintf("line %d", i+1), Value: line})
		}
	}
	return scan.Dir(dir, needles)
}
