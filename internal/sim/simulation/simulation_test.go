package simulation_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"piivault/internal/sim/simulation"
)

// number is an environment variable's, or a default.
func number(t *testing.T, name string, or uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestSimulation(t *testing.T) {
	dir := t.TempDir()
	if err := simulation.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	from, n := number(t, "SIM_SEED", 1), number(t, "SIM_SEEDS", 8)
	total := map[string]int{}
	for seed := from; seed < from+n; seed++ {
		var logf func(string)
		if path := os.Getenv("SIM_TRACE"); path != "" {
			file, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			logf = func(line string) { fmt.Fprintln(file, line) }
		}
		r := simulation.Run(t, simulation.Config{Seed: seed, Steps: int(number(t, "SIM_STEPS", 3000)), Dir: dir, Log: logf})
		again := simulation.Run(t, simulation.Config{Seed: seed, Steps: int(number(t, "SIM_STEPS", 3000)), Dir: dir})
		for k, v := range r.Operations {
			total[k] += v
		}
		if r.Hash != again.Hash {
			for i := range r.Trace {
				if i < len(again.Trace) && r.Trace[i] != again.Trace[i] {
					t.Errorf("seed %d differs:\n%s\n%s", seed, r.Trace[i], again.Trace[i])
					break
				}
			}
			t.Errorf("seed %d: %s, then %s", seed, r.Hash, again.Hash)
		}
		t.Logf("seed %d: %d steps, %v", seed, r.Steps, r.Virtual)
		if len(r.Violations) > 0 {
			for _, line := range r.Trace {
				t.Log(line)
			}
			t.Fatal(r.Violations)
		}
	}
	t.Log(total)
}
