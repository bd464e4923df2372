// Package sim is several regions in one process, for `vault dev` and for
// tests: each region has an embedded engine, a local KMS and a vault of its
// own, replication between the engines behaves as DynamoDB global tables do
// (whole item, last writer wins, out of order across items), and faults can be
// switched on. Nothing of it is reachable from `vault serve`.
package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/authz"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/vault"
	"piivault/internal/wal"
)

// Config of a World. Dir and Regions are required.
type Config struct {
	Dir     string           // one directory per region below it
	Regions []string         // in ring order
	Solo    bool             // run the first region alone; of the others there is a KMS and nothing else
	Env     string           // default dev
	Types   []pii.Type       // default pii.BuiltIn
	Now     func() time.Time // default time.Now
	Random  io.Reader        // default crypto/rand
	Seed    uint64           // of the order in which replication delivers
	Logger  zerolog.Logger
	// ErasureQuiet, RepairEvery, PollEvery: see vault.Config.
	ErasureQuiet, RepairEvery, PollEvery time.Duration
	// Limits are the budgets of every principal and tenant. Default
	// authz.DefaultLimits for principals and, so that a bulk job can be tried
	// with a key that has limits of its own, unbounded ones for tenants.
	Limits *authz.BudgetLimits
	// Wrap may replace parts of a region's vault before it is made: how tests
	// inject failing tables and logs.
	Wrap func(region string, cfg *vault.Config)
	// Engine may change how a region's engine is opened: how tests inject
	// failing file systems.
	Engine func(region string, o *wal.Options)
	// OnPoison is told when a region's engine must be reopened: the process should end.
	OnPoison func(region string, err error)
}

func (c *Config) setDefaults() {
	if c.Env == "" {
		c.Env = "dev"
	}
	if c.Types == nil {
		c.Types = pii.BuiltIn()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.OnPoison == nil {
		c.OnPoison = func(string, error) {}
	}
	if c.Limits == nil {
		c.Limits = &authz.BudgetLimits{Principal: authz.DefaultLimits().Principal, Tenant: authz.Unbounded().Tenant}
	}
	if c.Engine == nil {
		c.Engine = func(string, *wal.Options) {}
	}
	if c.ErasureQuiet == 0 {
		c.ErasureQuiet = 2 * time.Second
	}
}

// World is the regions and the links between them.
type World struct {
	cfg     Config
	Regions []*Region // those that run
	ring    []*kmsRegion
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open opens or creates every region and starts nothing: see Run. A directory
// that is corrupt or in use is an error that says so.
func Open(ctx context.Context, cfg Config) (*World, error) {
	cfg.setDefaults()
	w := &World{cfg: cfg}
	for i, name := range cfg.Regions {
		if err := w.openRegion(ctx, name, i == 0 || !cfg.Solo); err != nil {
			return nil, errors.Join(fmt.Errorf("open region %s: %w", name, err), w.Close())
		}
	}
	for _, r := range w.Regions {
		if err := w.wire(r); err != nil {
			return nil, errors.Join(fmt.Errorf("wire region %s: %w", r.Name, err), w.Close())
		}
	}
	for _, r := range w.Regions {
		if err := r.Vault.Start(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("start region %s: %w", r.Name, err), w.Close())
		}
	}
	return w, nil
}

// Run starts the regions' background work and the replication between them.
// Close ends it.
func (w *World) Run(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	for _, r := range w.Regions {
		w.running.Go(func() { r.Vault.Run(ctx) })
		w.running.Go(func() { w.newPump(r).run(ctx) })
	}
}

// Close ends the background work and closes the engines. What was
// acknowledged is durable with or without it.
func (w *World) Close() error {
	if w.stop != nil {
		w.stop()
	}
	w.running.Wait()
	var failures []error
	for _, r := range w.Regions {
		failures = append(failures, r.close())
	}
	return errors.Join(failures...)
}

// Region finds a region by its name; nil where there is none.
func (w *World) Region(name string) *Region {
	for _, r := range w.Regions {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Bootstrap makes tenant default, where it is missing, and an API key with
// every role and no limits that works in every region. The credential is returned this once.
func (w *World) Bootstrap(ctx context.Context) (secret.Text, error) {
	local := w.Regions[0]
	tenant, err := authz.FindTenant(ctx, local.control, "default")
	if err != nil || !tenant.Active {
		if tenant.ID, err = local.Vault.CreateTenant(ctx, "default"); err != nil {
			return secret.Text{}, fmt.Errorf("create tenant default: %w", err)
		}
	}
	_, credential, _, err := local.keys.Create(ctx, tenant.ID, authz.NewKey{Name: "dev", Roles: authz.Roles(), Limits: new(authz.Unbounded().Principal)})
	if err != nil {
		return secret.Text{}, fmt.Errorf("create the dev key: %w", err)
	}
	for _, r := range w.Regions[1:] {
		if err := r.keys.Refresh(ctx); err != nil {
			return secret.Text{}, fmt.Errorf("read API keys: %w", err)
		}
	}
	return credential, nil
}

func (w *World) dir(region string) string { return filepath.Join(w.cfg.Dir, region) }

// vaultConfig is what every region's vault has in common.
func (w *World) vaultConfig() vault.Config {
	return vault.Config{
		Env: w.cfg.Env, Now: w.cfg.Now, Random: w.cfg.Random, Logger: w.cfg.Logger,
		ErasureQuiet: w.cfg.ErasureQuiet, RepairEvery: w.cfg.RepairEvery, PollEvery: w.cfg.PollEvery,
	}
}

// Random is the world's source of randomness.
func (w *World) Random() io.Reader { return w.cfg.Random }
