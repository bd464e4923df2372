// Package vault is the domain and its only orchestrator: each use case reads
// top-down and calls the leaves (crypto, store, audit, authz, pii), which do
// not know each other.
//
// It keeps the promises of design §1: nothing is acknowledged before it is
// durable (G1), no value leaves before its audit entry is durable (G6), what
// is written without a region's key copy says so and is repaired (G3), and
// what is erased stays erased (G9).
package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/pii"
	"piivault/internal/store"
)

// RegionTable is another region's records table, reached directly: to look
// for tokens that have not replicated yet and, with TwoRegions, to write. Its
// calls are store.Store's; any error says that the region cannot be asked now.
type RegionTable struct {
	Region string
	Read   func(ctx context.Context, refs []store.Ref) ([]store.State, error)
	Insert func(ctx context.Context, records []store.New) ([]store.Outcome, error)
}

// Config wires a Vault. Every field but those with a default is required.
type Config struct {
	Env      string                // environment name in tokens: [a-z0-9]{1,8}
	Store    store.Store           // this region's table
	Others   []RegionTable         // the other regions' tables, in the ring's order
	Controls []authz.RegionControl // this region's table first, then the others'
	Log      audit.Log
	Audit    audit.Reader
	Logs     audit.Source // the same logs as they are stored, for ReplayErasures
	LogReady func() error // whether entries can be appended now; nil: they can
	Ring     *crypto.Ring
	Sealer   *crypto.Sealer
	Catalog  *pii.Catalog
	Policies *authz.PolicySource
	Keys     *authz.Keys
	SignIn   *authz.SignIn // default: by Keys alone
	Budgets  *authz.Budgets
	Now      func() time.Time
	Random   io.Reader
	Logger   zerolog.Logger

	// Can are this instance's duties. Nil: all.
	Can []Duty
	// AcceptLoss: a new ring may be taken into use though some records or tenant
	// secrets could then be opened by nobody (ErrRingLoses): they are given up.
	AcceptLoss bool
	// TwoRegions: a tokenize is acknowledged only when its records are durable
	// in another region's table too, and is refused while there is none
	// (503 second_region_unavailable).
	TwoRegions bool
	// ErasureQuiet must be longer than the replication lag: a region confirms
	// an erasure when it has found nothing new for so long. Default 30 s.
	ErasureQuiet time.Duration
	// PollEvery is how often erasure jobs are looked for. Default 1 s.
	PollEvery time.Duration
	// RepairEvery is the reconciler's period beside being woken by a region
	// that came back. Default 1 minute.
	RepairEvery time.Duration
	// RepairRate bounds the records that repair takes up a second. Default 200.
	RepairRate float64
	// RepairWorkers is how many records repair rewraps at once. Default 8; 1:
	// one after the other, on the reconciler's goroutine.
	RepairWorkers int
	// SweepEvery is the sweeper's period. Default 1 minute.
	SweepEvery time.Duration
	// BeatEvery is the period of the heartbeat by which the other regions know
	// the replication lag. Default 5 s.
	BeatEvery time.Duration
	// RemoteMisses bounds look-ups in other regions per second, of tokens that
	// turn out to exist nowhere. Default 50.
	RemoteMisses float64
}

func (c *Config) setDefaults() {
	if c.Can == nil {
		c.Can = Duties()
	}
	setDefault(&c.ErasureQuiet, 30*time.Second)
	setDefault(&c.PollEvery, time.Second)
	setDefault(&c.RepairEvery, time.Minute)
	setDefault(&c.SweepEvery, time.Minute)
	setDefault(&c.BeatEvery, 5*time.Second)
	if c.RepairRate == 0 {
		c.RepairRate = 200
	}
	if c.RepairWorkers == 0 {
		c.RepairWorkers = 8
	}
	if c.RemoteMisses == 0 {
		c.RemoteMisses = 50
	}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Vault is one region's instance. Its methods are safe for concurrent use.
type Vault struct {
	Config
	local   store.Store
	region  string
	control authz.Control
	tenants *tenants
	stops   *authz.Stops
	jobs    *jobs
	repair  *reconciler
	misses  *rate.Limiter
	seconds seconds
}

// New checks the wiring. Nothing runs before Run.
func New(cfg Config) (*Vault, error) {
	cfg.setDefaults()
	if len(cfg.Controls) == 0 || cfg.Controls[0].Region != cfg.Ring.Local() {
		return nil, errors.New("vault: the local region's control table must come first")
	}
	if cfg.Budgets == nil {
		return nil, errors.New("vault: budgets are needed: authz.Unbounded where nothing is to be bounded")
	}
	if cfg.TwoRegions && len(cfg.Others) == 0 {
		return nil, errors.New("vault: there is no second region to write to")
	}
	if err := cfg.setSignIn(); err != nil {
		return nil, err
	}
	v := &Vault{Config: cfg, local: cfg.Store, region: cfg.Ring.Local(), control: cfg.Controls[0].Control}
	v.seconds = make(seconds, len(cfg.Others))
	v.tenants = newTenants(v)
	v.stops = authz.NewStops(authz.StopsConfig{Tables: cfg.Controls, Now: cfg.Now, Random: cfg.Random, Logger: cfg.Logger})
	v.jobs = newJobs(v)
	v.repair = newReconciler(v)
	v.misses = rate.NewLimiter(rate.Limit(cfg.RemoteMisses), int(cfg.RemoteMisses)+1)
	return v, nil
}

// Start verifies that this instance's key ring is the one the deployment
// agreed on (design §5) and reads credentials and erasure jobs once.
func (v *Vault) Start(ctx context.Context) error {
	if err := v.claimRing(ctx); err != nil {
		return err
	}
	if err := v.Keys.Refresh(ctx); err != nil {
		return fmt.Errorf("vault: read API keys: %w", err)
	}
	if err := v.stops.Refresh(ctx); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	if err := v.Budgets.Refresh(ctx); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	return v.jobs.poll(ctx)
}

// Run does the background work of this instance's duties and returns when ctx
// is done and all of it has ended: credentials, stops, policies, budgets,
// heartbeats, KMS probes and erase jobs always; data keys ahead for tokenize;
// erasure, repair and sweeping for repair. The data keys kept for reuse are
// wiped then: no more requests are expected.
func (v *Vault) Run(ctx context.Context) {
	loops := []func(context.Context){v.Keys.Run, v.stops.Run, v.Policies.Run, v.Budgets.Run, v.Ring.Run, v.jobs.run, v.beat}
	if v.can(CanTokenize) {
		loops = append(loops, v.Sealer.Run)
	}
	if v.can(CanRepair) {
		loops = append(loops, v.repair.run, v.sweep)
	}
	var wg sync.WaitGroup
	for _, loop := range loops {
		wg.Go(func() { loop(ctx) })
	}
	wg.Wait()
	v.Sealer.Close()
}

// Restored tells the reconciler that a region's KMS answers again: pass it to
// the ring as OnRestored.
func (v *Vault) Restored(string) {
	v.repair.restored.Store(true)
	v.repair.wake()
}

// Ready names each dependency and why it is out, nil where it works.
func (v *Vault) Ready(ctx context.Context) map[string]error {
	_, _, store := v.local.Get(ctx, probeKey())
	_, control := v.control.List(ctx, authz.KindRing, "", 1)
	return map[string]error{
		"store": store, "control": control, "credentials": v.Keys.Ready(), "stops": v.stops.Ready(),
		"kms": v.kmsReady(), "ring": v.ringReady(ctx), "audit": v.auditReady(),
	}
}

func (v *Vault) auditReady() error {
	if v.LogReady == nil {
		return nil
	}
	return v.LogReady()
}

// probeKey names a record that no tenant has.
func probeKey() store.Key { return store.Key{Tenant: "ready", ID: "ready"} }

func (v *Vault) kmsReady() error {
	for _, h := range v.Ring.Health() {
		if h.State == crypto.Up {
			return nil
		}
	}
	return errors.New("vault: no region's KMS answers")
}

// every calls step at once and then each period or wake, until ctx is done. A
// period that ends while there is a wake is one step with it.
func every(ctx context.Context, period time.Duration, wake <-chan struct{}, step func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
		select {
		case <-tick.C:
		default:
		}
		select {
		case <-wake:
		default:
		}
	}
}
