//go:build !race

package rig

// buildFlags build the command as the tests are.
func buildFlags() []string { return nil }
