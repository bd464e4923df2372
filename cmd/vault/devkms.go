package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"piivault/internal/sim/kmsserver"
)

// devKMSConfig is the flags of `vault dev-kms`.
type devKMSConfig struct {
	addr      string
	regions   []string
	data      string
	mrk       bool
	json      bool
	listenAny bool
}

func newDevKMSCommand() *cobra.Command {
	var cfg devKMSConfig
	cmd := &cobra.Command{
		Use:   "dev-kms",
		Short: "Run a KMS for development that speaks AWS's protocol",
		Long: `Run a KMS for development: one endpoint for several regions, in the protocol
of AWS KMS. The region is the one that a request is signed for; signatures are
not verified, so any credentials do, and whoever reaches it may use every key.

The first run makes a key in every region, or with --mrk one multi-Region key
with a replica in every other. A key's ARN depends on the region alone, its
material is random: configuration can name a key before it is there. With
--data keys are kept; without it they are gone when it stops.

  GET  /_health   204 when it serves
  GET  /_keys     regions and keys, as --json prints them
  POST /_faults   {"region":"us-east-1","mode":"up|down|hang|throttle|deny|broken|slow|late","delay_ms":0,"times":0}

It has no TLS and no access control, and listens on loopback only. --listen-any
lifts that for a private network, such as one of containers: never another.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDevKMS(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.addr, "addr", "127.0.0.1:8203", "loopback address; port 0 takes a free one")
	flags.StringSliceVar(&cfg.regions, "regions", devRegions(), "regions to serve")
	flags.StringVar(&cfg.data, "data", "", "directory that keeps the keys (default: none, they are lost)")
	flags.BoolVar(&cfg.mrk, "mrk", false, "one multi-Region key with replicas instead of a key per region")
	flags.BoolVar(&cfg.json, "json", false, "print endpoint, regions and keys as one line of JSON")
	flags.BoolVar(&cfg.listenAny, "listen-any", false, "allow an address that other machines can reach")
	return cmd
}

// runDevKMS serves until ctx is done or the listener fails.
func runDevKMS(ctx context.Context, cfg devKMSConfig, stdout io.Writer) (err error) {
	listener, err := listenDevKMS(ctx, cfg)
	if err != nil {
		return err
	}
	dir := cfg.data
	if dir == "" {
		if dir, err = os.MkdirTemp("", "vault-dev-kms-"); err != nil {
			return errors.Join(fmt.Errorf("make a directory for the keys: %w", err), listener.Close())
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	kms, err := kmsserver.Open(kmsserver.Config{Dir: dir, Regions: cfg.regions})
	if err == nil {
		err = ensureKeys(kms, cfg) //nolint:contextcheck // in memory and on disk: nothing waits
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := printDevKMS(stdout, cfg, "http://"+listener.Addr().String(), kms.Regions()); err != nil {
		return errors.Join(err, listener.Close())
	}
	return serveDevKMS(ctx, listener, kms)
}

func listenDevKMS(ctx context.Context, cfg devKMSConfig) (net.Listener, error) {
	host, _, err := net.SplitHostPort(cfg.addr)
	if err != nil {
		return nil, usagef("--addr is not a host:port address")
	}
	if ip := net.ParseIP(host); !cfg.listenAny && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usagef("--addr is not a loopback address, and whoever reaches a dev-kms may use its keys: see --listen-any")
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// ensureKeys makes the keys that are not there. A directory can hold both kinds.
func ensureKeys(kms *kmsserver.Server, cfg devKMSConfig) error {
	have := func(region, id string) bool {
		return slices.ContainsFunc(kms.Regions(), func(r kmsserver.Region) bool {
			return r.Name == region && slices.ContainsFunc(r.Keys, func(k kmsserver.Key) bool { return k.ARN == kmsserver.ARN(region, id) })
		})
	}
	primary := cfg.regions[0]
	for _, region := range cfg.regions {
		id := devKeyID(region)
		if cfg.mrk {
			id = "mrk-" + strings.ReplaceAll(devKeyID("every region"), "-", "")
		}
		var err error
		switch {
		case have(region, id):
		case cfg.mrk && region != primary:
			_, err = kms.Replicate(kmsserver.ARN(primary, id), region)
		default:
			_, err = kms.CreateKey(kmsserver.KeySpec{Region: region, ID: id, Description: "vault dev-kms"})
		}
		if err != nil {
			return fmt.Errorf("make a key in %s: %w", region, err)
		}
	}
	return nil
}

// devKeyID is a key id, in AWS's form, that depends on the region alone.
func devKeyID(region string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("vault dev-kms "+region)).String()
}

func printDevKMS(w io.Writer, cfg devKMSConfig, endpoint string, regions []kmsserver.Region) error {
	if cfg.json {
		err := json.MarshalWrite(w, struct {
			Endpoint string             `json:"endpoint"`
			Regions  []kmsserver.Region `json:"regions"`
		}{endpoint, regions})
		_, newline := fmt.Fprintln(w)
		return errors.Join(err, newline)
	}
	fmt.Fprintf(w, "A KMS for development: for trying out, not for real data.\n\n  endpoint  %s\n", endpoint)
	for _, r := range regions {
		for _, k := range r.Keys {
			fmt.Fprintf(w, "  %-12s  %s\n", r.Name, k.ARN)
		}
	}
	kept := "the keys are lost"
	if cfg.data != "" {
		kept = "the keys are kept"
	}
	_, err := fmt.Fprintf(w, "\nCtrl-C stops it; %s.\n", kept)
	return err
}

// serveDevKMS lets requests under way finish; those that a fault holds back are cut off.
func serveDevKMS(ctx context.Context, listener net.Listener, kms *kmsserver.Server) error {
	server := &http.Server{
		Handler: kms, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	kms.Close()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
