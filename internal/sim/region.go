package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"piivault/internal/audit"
	auditembedded "piivault/internal/audit/embedded"
	"piivault/internal/authz"
	authzembedded "piivault/internal/authz/embedded"
	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/pii"
	"piivault/internal/store"
	storeembedded "piivault/internal/store/embedded"
	"piivault/internal/vault"
	"piivault/internal/wal"
)

// ringEpoch of a development world: its ring never changes.
const ringEpoch = 1

// Region is one region of a World.
type Region struct {
	Name  string
	Vault *vault.Vault

	kms     *kmsRegion
	engine  *wal.Engine
	store   store.Store
	control authz.Control
	log     *auditembedded.Log
	keys    *authz.Keys
	cut     atomic.Bool // the link to the other regions is down
}

// kmsRegion is a region's KMS and its one key.
type kmsRegion struct {
	name string
	kms  *localkms.KMS
	arn  string
}

// openRegion opens a region's KMS and, where it runs, its engine and log;
// wire does what needs the others.
func (w *World) openRegion(ctx context.Context, name string, runs bool) error {
	if err := pii.CheckPlace(w.cfg.Env, name); err != nil {
		return err
	}
	k, err := w.openKMS(name)
	if err != nil {
		return err
	}
	w.ring = append(w.ring, k)
	if !runs {
		return nil
	}
	options := wal.Options{
		Dir: w.dataDir(name), Region: name, Now: w.cfg.Now, Outbox: len(w.cfg.Regions) > 1 && !w.cfg.Solo, Logger: w.cfg.Logger,
		Tables:   []wal.Table{storeembedded.Table(), authzembedded.Table(), auditembedded.Table()},
		OnPoison: func(err error) { w.cfg.OnPoison(name, err) },
	}
	w.cfg.Engine(name, &options)
	engine, err := wal.Open(options)
	if err != nil {
		return err
	}
	r := &Region{Name: name, kms: k, engine: engine, store: storeembedded.New(engine), control: authzembedded.New(engine)}
	w.Regions = append(w.Regions, r)
	if r.log, err = auditembedded.Open(ctx, auditembedded.Config{Engine: engine, Region: name, Instance: "dev", Now: w.cfg.Now, Random: w.cfg.Random, Logger: w.cfg.Logger}); err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	return nil
}

// openKMS opens a region's KMS, or makes it where the region is new. A key
// file that is gone while data is there is an error: a new key opens nothing.
func (w *World) openKMS(name string) (*kmsRegion, error) {
	cfg := localkms.Config{Path: filepath.Join(w.dir(name), "kms.json"), Region: name, Random: w.cfg.Random}
	kms, err := localkms.Open(cfg)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(w.dataDir(name)); statErr == nil {
			return nil, fmt.Errorf("there is data without its master keys: %w", err)
		}
		kms, err = localkms.Create(cfg)
	}
	if err != nil {
		return nil, err
	}
	return &kmsRegion{name: name, kms: kms, arn: kms.Keys()[0]}, nil
}

func (w *World) dataDir(name string) string { return filepath.Join(w.dir(name), "data") }

// wire makes the region's vault out of all regions' tables and KMS.
func (w *World) wire(r *Region) error {
	types, err := pii.NewCatalog(w.cfg.Types)
	if err != nil {
		return err
	}
	policies, err := authz.NewPolicySource(authz.PolicySourceConfig{})
	if err != nil {
		return err
	}
	ring, err := w.newRing(r)
	if err != nil {
		return err
	}
	cfg := w.vaultConfig()
	cfg.Store, cfg.Others, cfg.Controls = r.store, w.tables(r), w.controls(r)
	cfg.Log, cfg.Audit, cfg.Logs = r.log, audit.Reader(r.log), auditembedded.Stored{Engine: r.engine}
	cfg.Ring, cfg.Sealer = ring, crypto.NewSealer(ring, w.cfg.Now, w.cfg.Random)
	cfg.Catalog, cfg.Policies = types, policies
	r.keys = authz.NewKeys(authz.KeysConfig{Tables: cfg.Controls, Now: w.cfg.Now, Random: w.cfg.Random, Logger: w.cfg.Logger})
	cfg.Keys = r.keys
	cfg.Budgets = authz.NewBudgets(authz.BudgetsConfig{
		Counters: authzembedded.NewCounters(r.engine), Limits: *w.cfg.Limits, Now: w.cfg.Now, Logger: w.cfg.Logger,
		Share: authz.Share{Index: slices.IndexFunc(w.Regions, func(o *Region) bool { return o == r }), Of: len(w.Regions)},
	})
	if w.cfg.Wrap != nil {
		w.cfg.Wrap(r.Name, &cfg)
	}
	r.Vault, err = vault.New(cfg)
	return err
}

// newRing is the region's view of the key ring: the same regions, its own first.
func (w *World) newRing(r *Region) (*crypto.Ring, error) {
	regions := make([]crypto.Region, len(w.ring))
	for i, k := range w.ring {
		regions[i] = crypto.Region{Name: k.name, KMS: k.kms, KeyARN: k.arn}
	}
	return crypto.NewRing(crypto.RingConfig{
		Regions: regions, Local: r.Name, Mode: crypto.Copies, Epoch: ringEpoch,
		Now: w.cfg.Now, Random: w.cfg.Random, Logger: w.cfg.Logger,
		OnRestored: func(region string) { r.Vault.Restored(region) },
	})
}

// others ranges over the regions that r reaches over a link.
func (w *World) others(r *Region) []*Region {
	var out []*Region
	for _, other := range w.Regions {
		if other != r {
			out = append(out, other)
		}
	}
	return out
}

func (w *World) tables(r *Region) []vault.RegionTable {
	var tables []vault.RegionTable
	for _, other := range w.others(r) {
		tables = append(tables, vault.RegionTable{
			Region: other.Name,
			Read: func(ctx context.Context, refs []store.Ref) ([]store.State, error) {
				if linkDown(r, other) {
					return nil, store.ErrUnavailable
				}
				return other.store.Read(ctx, refs)
			},
			Insert: func(ctx context.Context, records []store.New) ([]store.Outcome, error) {
				if linkDown(r, other) {
					return nil, store.ErrUnavailable
				}
				return other.store.Insert(ctx, records)
			},
		})
	}
	return tables
}

func (w *World) controls(r *Region) []authz.RegionControl {
	tables := []authz.RegionControl{{Region: r.Name, Control: r.control}}
	for _, other := range w.others(r) {
		tables = append(tables, authz.RegionControl{Region: other.Name, Control: &linkedControl{other.control, r, other}})
	}
	return tables
}

// linkDown reports that two regions do not reach each other.
func linkDown(a, b *Region) bool { return a.cut.Load() || b.cut.Load() }

// linkedControl is another region's control table, while the link is up.
type linkedControl struct {
	table    authz.Control
	from, to *Region
}

func (l *linkedControl) err() error {
	if linkDown(l.from, l.to) {
		return authz.ErrUnavailable
	}
	return nil
}

// Insert implements authz.Control.
func (l *linkedControl) Insert(ctx context.Context, item authz.Item) error {
	if err := l.err(); err != nil {
		return err
	}
	return l.table.Insert(ctx, item)
}

// Get implements authz.Control.
func (l *linkedControl) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if err := l.err(); err != nil {
		return authz.Item{}, err
	}
	return l.table.Get(ctx, kind, id)
}

// List implements authz.Control.
func (l *linkedControl) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.table.List(ctx, kind, after, limit)
}

// Replace implements authz.Control.
func (l *linkedControl) Replace(ctx context.Context, old, next authz.Item) error {
	if err := l.err(); err != nil {
		return err
	}
	return l.table.Replace(ctx, old, next)
}

// Reindex makes every audit entry that is durable here findable now.
func (r *Region) Reindex() error { return r.log.Reindex() }

func (r *Region) close() error {
	if r.log != nil {
		r.log.Close()
	}
	return r.engine.Close()
}
