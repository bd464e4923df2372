// Command bench measures the vault beside a floor: a bare HTTP server that does
// only the work nobody could leave out (see floor.go). Both run as processes of
// their own, take the same requests over keep-alive loopback connections from
// this one, and are measured in turns, A B A B, so that what the machine does
// meanwhile hits both. Figures are medians of the turns; ratios are medians of
// the pairs' ratios.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// config is what the command line sets.
type config struct {
	dir         string
	vaultArgs   string
	connections string
	only        string
	rounds      int
	turn        time.Duration
	tokens      int
	codec       bool
	sdk         bool
	timing      int
	budgets     bool
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(args) == 3 && args[0] == "floor" {
		return report(errOut, serveFloor(ctx, args[1], args[2]))
	}
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&c.dir, "dir", filepath.Join(".cache", "bench"), "where the servers keep their data: a real disk, or fsync costs nothing")
	flags.StringVar(&c.vaultArgs, "vault", "dev --solo", "the vault's command and further flags; floor compares the floor with itself, which shows the noise")
	flags.StringVar(&c.connections, "connections", "1,16,64", "numbers of connections")
	flags.StringVar(&c.only, "only", "", "measure only requests of this name, such as tokenize×100")
	flags.IntVar(&c.rounds, "rounds", 5, "turns of each server a row")
	flags.DurationVar(&c.turn, "turn", 1500*time.Millisecond, "length of a turn")
	flags.IntVar(&c.tokens, "tokens", 10_000, "tokens that detokenize picks from")
	flags.BoolVar(&c.codec, "codec", true, "run the codec's benchmarks first")
	flags.BoolVar(&c.sdk, "sdk", false, "instead: what a request costs on DynamoDB and KMS over the bare SDK calls of the same work")
	flags.IntVar(&c.timing, "timing", 0, "instead: whether denied, erased, expired and unknown tokens can be told apart by the time of so many answers of each")
	flags.BoolVar(&c.budgets, "budgets", false, "instead: what policies and budgets cost a detokenize")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if c.budgets {
		return report(errOut, budgets(ctx, c, out))
	}
	if c.timing > 0 {
		return report(errOut, timing(ctx, c.dir, c.timing, out))
	}
	if c.sdk {
		return report(errOut, sdk(ctx, c.rounds, out))
	}
	return report(errOut, bench(ctx, c, out, errOut))
}

func report(errOut io.Writer, err error) int {
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(errOut, "bench:", err)
		return 1
	}
	return 0
}

func bench(ctx context.Context, c config, out, errOut io.Writer) (err error) {
	counts, err := parseCounts(c.connections)
	if err != nil {
		return err
	}
	if c.codec {
		if err := codec(ctx, out, errOut); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.dir, 0o750); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	floor, err := startFloor(ctx, filepath.Join(dir, "floor"))
	if err != nil {
		return fmt.Errorf("start the floor: %w", err)
	}
	defer func() { err = errors.Join(err, floor.stop()) }()
	vault, err := startOther(ctx, dir, c.vaultArgs)
	if err != nil {
		return fmt.Errorf("start the vault: %w", err)
	}
	defer func() { err = errors.Join(err, vault.stop()) }()

	for _, s := range []*server{floor, vault} {
		if s.tokens, err = seed(ctx, s, c.tokens); err != nil {
			return fmt.Errorf("%s: prepare tokens: %w", s.name, err)
		}
	}
	fmt.Fprint(out, header)
	for _, load := range loads() {
		if c.only != "" && c.only != load.name {
			continue
		}
		for _, n := range counts {
			row, err := compare(ctx, floor, vault, load, n, c)
			if err != nil {
				return fmt.Errorf("%s at %d connections: %w", load.name, n, err)
			}
			fmt.Fprint(out, row)
		}
	}
	return nil
}

func startOther(ctx context.Context, dir, args string) (*server, error) {
	if args == "floor" {
		return startFloor(ctx, filepath.Join(dir, "floor-again"))
	}
	return startVault(ctx, dir, strings.Fields(args))
}

// codec runs the benchmarks of the message codec and of seal and open.
func codec(ctx context.Context, out, errOut io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "./internal/crypto/...")
	cmd.Stdout, cmd.Stderr = out, errOut
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("codec benchmarks: %w", err)
	}
	fmt.Fprintln(out)
	return nil
}

// compare measures one row: turns of both servers, one after the other.
func compare(ctx context.Context, floor, vault *server, l load, connections int, c config) (row, error) {
	r := row{load: l.name, connections: connections}
	if err := vault.resetPeak(); err != nil {
		return r, err
	}
	for round := range c.rounds {
		for _, s := range []*server{floor, vault} {
			t, err := takeTurn(ctx, s, l, connections, uint64(round), c.turn)
			if err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
			if s == floor {
				r.floor = append(r.floor, t)
			} else {
				r.vault = append(r.vault, t)
			}
		}
	}
	var err error
	r.rss, r.peak, err = vault.memory()
	return r, err
}
