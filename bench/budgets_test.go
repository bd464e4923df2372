package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The whole measurement, small; both vaults are built from the repository's root.
func TestBudgets(t *testing.T) {
	if _, err := os.Stat("/proc/self/clear_refs"); err != nil {
		t.Log("no /proc here: the harness measures on Linux only")
		return
	}
	t.Chdir("..")
	out := new(strings.Builder)
	c := config{dir: t.TempDir(), vaultArgs: "dev --solo", connections: "2", rounds: 1, turn: 50 * time.Millisecond, tokens: batchSize}
	if err := budgets(t.Context(), c, out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"detokenize", "detokenize×100"} {
		if !strings.Contains(out.String(), "\n"+name+" ") {
			t.Errorf("no row for %s in\n%s", name, out)
		}
	}
}

// A function that is no longer there by this name must not be measured as if
// it were bypassed.
func TestOverlayFindsItsFunctions(t *testing.T) {
	t.Chdir("..")
	list := bypasses()
	list[0].function += "x"
	if _, err := overlay(t.TempDir(), list); err == nil {
		t.Error("a function was bypassed that does not exist")
	}
}
