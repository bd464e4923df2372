package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/httpapi"
	"piivault/internal/vault"
)

// startTimeout bounds what is read and claimed before an instance serves.
const startTimeout = time.Minute

func newServeCommand(a *app) *cobra.Command {
	var file string
	var can []string
	cmd := &cobra.Command{
		Use:   "serve --config FILE [--can DUTY,…]",
		Short: "Run one region's instance",
		Long: `Run one region's instance, on AWS or on servers that speak its protocols.
vault config example prints a configuration with every key.

It refuses to start where its key ring is not the deployment's at this epoch,
and where its audit log is damaged. SIGTERM or Ctrl-C: /readyz says no for
drain.wait, requests get drain.timeout to finish, and it ends. It exits
non-zero when its store or its audit log must be reopened: start it again.

With --can it has these duties only, their routes and their background work:
tokenize (and inspect), detokenize, audit (queries), repair (erasure, repair,
sweeping, keys, stops). One without detokenize and repair asks the KMS to open
tenants' secrets and no record: with the rights to nothing else it can open none.

SIGHUP reads the policies again; changes are also taken up within five seconds.

Two instances of a region must not have the same name (key instance; the
host's, if unset): the later one ends the audit log of the other.`,
		Args: noArguments(""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := dumpOff(); err != nil {
				return err
			}
			cfg, err := a.loadConfig(file)
			if err != nil {
				return err
			}
			duties, err := dutiesOf(can)
			if err != nil {
				return err
			}
			return runServe(cmd.Context(), a, cfg, duties)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringSliceVar(&can, "can", nil, "its duties: tokenize, detokenize, audit, repair (default all)")
	return cmd
}

// dutiesOf reads --can; none is all.
func dutiesOf(can []string) ([]vault.Duty, error) {
	if len(can) == 0 {
		return vault.Duties(), nil
	}
	var duties []vault.Duty
	for _, word := range can {
		duty := vault.Duty(word)
		if !slices.Contains(vault.Duties(), duty) || slices.Contains(duties, duty) {
			return nil, usagef("--can takes some of tokenize, detokenize, audit, repair, each once")
		}
		duties = append(duties, duty)
	}
	return duties, nil
}

// runServe serves until ctx is done, a listener fails or the store does.
func runServe(ctx context.Context, a *app, cfg *config.Config, can []vault.Duty) error {
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		return errors.New("log.level is unknown")
	}
	name, err := instanceName(cfg)
	if err != nil {
		return err
	}
	logger := zerolog.New(a.stderr).Level(level).With().Timestamp().Str("instance", cfg.Region+"/"+name).Logger()
	tuneCollector()
	poisoned := make(chan error, 1)
	timing := newKMSTiming(cfg.Region)
	tracer, err := newTracer(ctx, cfg, name, logger)
	if err != nil {
		return err
	}
	defer tracer.Close()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	i, err := openInstance(starting, cfg, surroundings{
		name: name, can: can, now: time.Now, random: rand.Reader, logger: logger, observe: timing.observe, tracer: tracer,
		poisoned: func(err error) {
			select {
			case poisoned <- fmt.Errorf("the store or the audit log ended and must be opened again by a restart: %w", err):
			default: // told already
			}
		},
	})
	if err != nil {
		return err
	}
	if err := i.Start(starting); err != nil {
		return errors.Join(err, i.close())
	}
	cancel()
	return errors.Join(i.serve(ctx, cfg, logger, timing, poisoned), i.close())
}

// serve runs the listeners and the background work of an instance that was started.
func (i *instance) serve(ctx context.Context, cfg *config.Config, logger zerolog.Logger, timing *kmsTiming, poisoned <-chan error) error {
	m := newMetrics(cfg.Region, i.Vault)
	m.registry.MustRegister(timing.seconds, i.log.seconds, newReadyCollector(cfg.Region, i.Vault), newPolicyCollector(cfg.Region, i.Policies), newPrefetchCollector(cfg.Region, i.Sealer), newSignInCollector(cfg.Region, i))
	var draining atomic.Bool
	handler, err := httpapi.New(httpapi.Config{
		Vault: tracedCalls(i.tracer, i.Vault), Can: i.Can, Limits: cfg.Limits, Logger: logger, Now: time.Now, Random: rand.Reader,
		Observe: tracedAnswers(i.tracer, m.observe), Draining: draining.Load,
	})
	if err != nil {
		return err
	}
	servers := &servers{logger: logger, drain: cfg.Drain, draining: &draining}
	if err := servers.listen(ctx, cfg, i.tracer.Handler(handler), m.handler()); err != nil {
		return errors.Join(err, servers.close())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); i.Run(background) }()
	defer func() { stop(); <-done }()
	defer onHangup(i.Policies.Reload)()
	return servers.serve(ctx, poisoned)
}

// onHangup calls do at every SIGHUP until it is told to end.
func onHangup(do func()) (end func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range hangups {
			do()
		}
	}()
	return func() { signal.Stop(hangups); close(hangups); <-done }
}
