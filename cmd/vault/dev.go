package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"piivault/internal/httpapi"
	"piivault/internal/pii"
	"piivault/internal/sim"
)

// Timeouts of the servers around the handler, which has its own for a request.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	idleTimeout       = 120 * time.Second
	drainTimeout      = 15 * time.Second
	maxHeaderBytes    = 16 << 10
)

// devConfig is the flags of `vault dev`.
type devConfig struct {
	addrs [2]string
	data  string
	types string // file, "" for the built-in types
	solo  bool
	log   string
}

func devRegions() []string { return []string{"eu-west-1", "us-east-1"} }

func newDevCommand() *cobra.Command {
	var cfg devConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run two regions in one process, for development",
		Long: `Run two regions in one process: an embedded store and a local KMS each,
replicating as DynamoDB global tables do. The first run makes tenant default
and DIR/dev.key, a credential with every role. Everything is kept in DIR.

Faults can be switched on while it runs:
  POST /dev/faults {"region":"us-east-1","kms":"up|down|slow|denied","link":"up|down"}

For development only: the local KMS keeps its master keys in a file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := dumpOff(); err != nil {
				return err
			}
			return runDev(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.addrs[0], "addr", "127.0.0.1:8201", "loopback address of region eu-west-1")
	flags.StringVar(&cfg.addrs[1], "addr2", "127.0.0.1:8202", "loopback address of region us-east-1")
	flags.StringVar(&cfg.data, "data", ".vault-dev", "directory for everything that is kept")
	flags.StringVar(&cfg.types, "types", "", "YAML file with the list of types (default: the built-in ones)")
	flags.BoolVar(&cfg.solo, "solo", false, "serve the first region only; the second is a KMS and nothing else")
	flags.StringVar(&cfg.log, "log", "info", "log level: debug, info, warn, error")
	return cmd
}

// runDev opens the world, serves until ctx is done or a region fails, drains
// and closes. What was acknowledged survives any other end too.
func runDev(ctx context.Context, cfg devConfig, stdout, stderr io.Writer) error {
	logger, err := newLogger(stderr, cfg.log)
	if err != nil {
		return err
	}
	types, err := loadTypes(cfg.types)
	if err != nil {
		return err
	}
	tuneMemory()
	poisoned := make(chan error, 2*len(cfg.addrs))
	world, err := sim.Open(ctx, sim.Config{
		Dir: cfg.data, Regions: devRegions(), Solo: cfg.solo, Types: types, Logger: logger,
		OnPoison: func(region string, err error) {
			poisoned <- fmt.Errorf("the store of %s failed and must be recovered by a restart: %w", region, err)
		},
	})
	if err != nil {
		return err
	}
	keyFile, err := ensureDevKey(ctx, world, cfg.data)
	if err != nil {
		return errors.Join(err, world.Close())
	}
	world.Run(context.WithoutCancel(ctx))
	servers, err := listenDev(ctx, world, cfg, logger)
	if err != nil {
		return errors.Join(err, world.Close())
	}
	servers.screen(stdout, keyFile)
	err = servers.serve(ctx, poisoned)
	return errors.Join(err, world.Close())
}

func newLogger(w io.Writer, level string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), errors.New("--log must be debug, info, warn or error")
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger(), nil
}

func loadTypes(file string) ([]pii.Type, error) {
	if file == "" {
		return pii.BuiltIn(), nil
	}
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, fmt.Errorf("read the types: %w", err)
	}
	return pii.LoadTypes(text)
}

// devServer is one region's HTTP server.
type devServer struct {
	region   string
	listener net.Listener
	server   *http.Server
}

type devServers []devServer

// listenDev binds every address before any is served, so that a taken port is
// a clean failure.
func listenDev(ctx context.Context, world *sim.World, cfg devConfig, logger zerolog.Logger) (servers devServers, err error) {
	for i, r := range world.Regions {
		handler, err := devHandler(world, r, logger)
		if err != nil {
			return nil, errors.Join(err, servers.close())
		}
		listener, err := listenLoopback(ctx, cfg.addrs[i])
		if err != nil {
			return nil, errors.Join(err, servers.close())
		}
		servers = append(servers, devServer{region: r.Name, listener: listener, server: &http.Server{
			Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		}})
	}
	return servers, nil
}

func devHandler(world *sim.World, r *sim.Region, logger zerolog.Logger) (http.Handler, error) {
	metrics := newMetrics(r.Name, r.Vault)
	handler, err := httpapi.New(httpapi.Config{
		Vault: r.Vault, Logger: logger.With().Str("region", r.Name).Logger(), Now: time.Now, Random: world.Random(),
		Metrics: metrics.handler(), Observe: metrics.observe,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("POST /dev/faults", faultsHandler(world))
	return mux, nil
}

// listenLoopback refuses any address that another machine could reach.
func listenLoopback(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not a host:port address", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%q is not a loopback address: vault dev has no TLS", addr)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

func (s devServers) close() error {
	var failures []error
	for _, d := range s {
		failures = append(failures, d.listener.Close())
	}
	return errors.Join(failures...)
}

// serve answers requests until ctx is done, a listener fails or a store is
// poisoned; requests under way are then let finish.
func (s devServers) serve(ctx context.Context, poisoned <-chan error) error {
	failed := make(chan error, len(s))
	var wg sync.WaitGroup
	for _, d := range s {
		wg.Go(func() {
			if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case err = <-poisoned:
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	drained := make([]error, len(s))
	for i, d := range s {
		wg.Go(func() { drained[i] = d.server.Shutdown(drain) }) // all at once: none goes on taking requests
	}
	wg.Wait()
	return errors.Join(append(drained, err)...)
}

// screen is what somebody who has just started it needs to see.
func (s devServers) screen(w io.Writer, keyFile string) {
	fmt.Fprintln(w, "PII Vault, development mode: for trying out, not for real data.")
	fmt.Fprintln(w)
	for _, d := range s {
		fmt.Fprintf(w, "  region %-12s http://%s\n", d.region, d.listener.Addr())
	}
	fmt.Fprintf(w, "  credential          %s (every role)\n\n", keyFile)
	fmt.Fprintf(w, "Keep a value:\n\n  curl -s http://%s/v1/tokenize -H \"Authorization: Bearer $(cat %s)\" \\\n"+
		"    -H 'Content-Type: application/json' \\\n"+
		"    -d '{\"items\":[{\"type\":\"email\",\"value\":\"ann@example.com\"}]}'\n\n", s[0].listener.Addr(), keyFile)
	fmt.Fprintf(w, "Or with the commands of this program, in another terminal:\n\n"+
		"  export VAULT_ADDR=http://%s VAULT_KEY=$(cat %s)\n"+
		"  printf %%s ann@example.com | go run ./cmd/vault tokenize --type email\n\n", s[0].listener.Addr(), keyFile)
	fmt.Fprintln(w, "Ctrl-C stops it; everything is kept.")
}
