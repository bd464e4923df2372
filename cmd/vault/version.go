package main

import (
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArguments(""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, version(debug.ReadBuildInfo()))
			return err
		},
	}
}

// version names what was built, the module's version or the commit, and the
// module that computes in FIPS 140-3 mode.
func version(info *debug.BuildInfo, ok bool) string {
	text := "vault (unknown build)"
	if ok {
		text = "vault " + info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				text += " " + s.Value
			case "vcs.modified":
				if s.Value == "true" {
					text += " (modified)"
				}
			}
		}
	}
	if fips140.Enabled() {
		text += " FIPS 140-3 module " + fips140.Version()
	}
	return fmt.Sprintf("%s %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
