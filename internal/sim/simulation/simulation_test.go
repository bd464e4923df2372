package simulation_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/sim/simulation"
)

// shown is how many lines of a failing seed's trace are printed.
const shown = 60

// setting is an environment variable's number, or a default (make sim).
func setting(t *testing.T, name string, or uint64) uint64 {
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
func run(t *testing.T, cfg simulation.Config, suffix string) simulation.Result {
	t.Helper()
	if path := os.Getenv("SIM_TRACE"); path != "" {
		file, err := os.Create(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		cfg.Log = func(line string) { _, _ = fmt.Fprintln(file, line) }
	}
	return simulation.Run(t, cfg)
}

// totals are of all seeds.
type totals struct {
	mu         sync.Mutex // guards what follows
	seeds      int
	steps      int
	violations int
	virtual    time.Duration
	operations map[string]int
}

func (s *totals) add(r simulation.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	s.steps += r.Steps
	s.virtual += r.Virtual
	s.violations += min(1, len(r.Violations))
	for k, v := range r.Operations {
		s.operations[k] += v
	}
}

// G1, G2, G3, G6, G8, G9 after every step of every seed, and that a seed is
// the same twice. SIM_SEED is the first seed, SIM_SEEDS how many, SIM_STEPS
// how long each, SIM_ONCE leaves out the second run, SIM_TRACE is a file for
// the trace.
func TestSimulation(t *testing.T) {
	cfg := simulation.Config{Steps: int(setting(t, "SIM_STEPS", 3000)), Dir: t.TempDir(), Keep: shown}
	if err := simulation.Prepare(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	first, n := setting(t, "SIM_SEED", 1), setting(t, "SIM_SEEDS", 12)
	twice := os.Getenv("SIM_ONCE") == ""
	sum := &totals{operations: map[string]int{}}
	begun := time.Now()
	var next atomic.Uint64
	var failed atomic.Bool
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for i := next.Add(1) - 1; i < n && !failed.Load(); i = next.Add(1) - 1 {
					cfg := cfg
					cfg.Seed = first + i
					if !one(t, cfg, twice, sum) {
						failed.Store(true)
					}
				}
			})
		}
	})
	took := time.Since(begun)
	t.Logf("%d seeds, %d steps, %v simulated, %d seeds with violations, in %v (%.1f seeds/s)",
		sum.seeds, sum.steps, sum.virtual.Round(time.Second), sum.violations, took.Round(time.Millisecond), float64(sum.seeds)/took.Seconds())
	t.Logf("%v", sum.operations)
	if first == 1 && n >= 12 {
		for _, name := range reached() {
			if sum.operations[name] == 0 && !failed.Load() {
				t.Errorf("%d seeds, and not once: %s", n, name)
			}
		}
	}
}

// reached is what CI's seeds must have come to, or they prove less than they
// seem to: each kind of operation, and each fault.
func reached() []string {
	names := []string{
		"tokenize ok", "tokenize erasing", "tokenize too_few_copies", "tokenize durable in two regions", "detokenize ok", "detokenize not_found",
		"inspect ok", "erase token ok", "erase subject ok", "tamper integrity", "histories",
		"tokenize batch ok", "tokenize batch, continued ok", "detokenize batch ok", "detokenize batch not_found", "detokenize batch, continued ok",
		"item of a tokenize batch, continued erasing", "item of a detokenize batch aborted", "a batch refused whole",
		"fault: crash", "fault: link cut", "a region joins the ring", "a region leaves the ring", "a region is lost for good", "data keys made ahead and used",
		"a region's key is replaced", "copies become multi_region", "multi_region becomes copies",
		"a tenant gets keys of its own", "a tenant gives up its own keys",
	}
	for _, mode := range []string{"up", "hangs", "refuses", "flaps", "throttle"} {
		names = append(names, "fault: kms "+mode, "fault: tables "+mode)
	}
	return append(names, "fault: kms denied", "fault: kms disabled", "fault: kms slow")
}

func one(t *testing.T, cfg simulation.Config, twice bool, sum *totals) bool {
	t.Helper()
	r := run(t, cfg, "")
	sum.add(r)
	if len(r.Violations) > 0 {
		for _, line := range r.Trace[max(0, len(r.Trace)-shown):] {
			t.Log(line)
		}
		t.Errorf("seed %d: %q\nreplay: make sim SEED=%d SEEDS=1 TRACE=sim.trace", cfg.Seed, r.Violations, cfg.Seed)
		return false
	}
	if !twice {
		return true
	}
	again := run(t, cfg, ".again")
	if again.Hash != r.Hash {
		t.Errorf("seed %d: trace %s, then %s\ncompare: make sim SEED=%d SEEDS=1 TWICE=1 TRACE=sim.trace; diff sim.trace sim.trace.again", cfg.Seed, r.Hash, again.Hash, cfg.Seed)
	}
	return again.Hash == r.Hash
}

// G1, G9: interleavings of the store's calls, each interrupted by others.
func TestInterleavings(t *testing.T) {
	n, first := setting(t, "SIM_INTERLEAVINGS", 1000), setting(t, "SIM_SEED", 1)
	begun := time.Now()
	var operations atomic.Int64
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				did, wrong := simulation.Interleave(t.Context(), first+i)
				operations.Add(int64(did))
				if wrong != "" {
					t.Errorf("interleaving %d: %s\nreplay: make sim SEED=%d INTERLEAVINGS=1", first+i, wrong, first+i)
					return
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(begun)
	t.Logf("%d interleavings, %d operations on tables, in %v (%.0f/s)", n, operations.Load(), took.Round(time.Millisecond), float64(n)/took.Seconds())
}
