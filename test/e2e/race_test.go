//go:build race

package e2e

// buildFlags build the command as this test is built.
func buildFlags() []string { return []string{"-race"} }
