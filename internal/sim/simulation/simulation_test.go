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

// run runs a seed, and writes its whole trace where SIM_TRACE says.
func run(t *testing.T, dir string, seed uint64, suffix string) simulation.Result {
	t.Helper()
	cfg := simulation.Config{Seed: seed, Steps: int(number(t, "SIM_STEPS", 3000)), Dir: dir}
	if path := os.Getenv("SIM_TRACE"); path != "" {
		file, err := os.Create(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cfg.Log = func(line string) { _, _ = fmt.Fprintln(file, line) }
	}
	return simulation.Run(t, cfg)
}

func TestSimulation(t *testing.T) {
	dir := t.TempDir()
	if err := simulation.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	from, n := number(t, "SIM_SEED", 1), number(t, "SIM_SEEDS", 8)
	total := map[string]int{}
	once := os.Getenv("SIM_ONCE") != ""
	for seed := from; seed < from+n; seed++ {
		r := run(t, dir, seed, "")
		for k, v := range r.Operations {
			total[k] += v
		}
		t.Logf("seed %d: %d steps, %v, %d", seed, r.Steps, r.Virtual, len(r.Violations))
		if len(r.Violations) > 0 {
			for _, line := range r.Trace {
				t.Log(line)
			}
			t.Error(seed, r.Violations)
			if os.Getenv("SIM_STOP") != "" {
				return
			}
		}
		if once {
			continue
		}
		if again := run(t, dir, seed, ".again"); r.Hash != again.Hash {
			t.Fatalf("seed %d: %s, then %s", seed, r.Hash, again.Hash)
		}
	}
	t.Log(total)
}
