package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
	"piivault/cmd/vault/internal/tracing"
	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	auditembedded "piivault/internal/audit/embedded"
	"piivault/internal/authz"
	authzdynamo "piivault/internal/authz/dynamo"
	authzembedded "piivault/internal/authz/embedded"
	"piivault/internal/authz/oidc"
	"piivault/internal/crypto"
	"piivault/internal/crypto/kms"
	"piivault/internal/crypto/localkms"
	"piivault/internal/dynamo"
	"piivault/internal/pii"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
	storeembedded "piivault/internal/store/embedded"
	"piivault/internal/vault"
	"piivault/internal/wal"
)

// edges are the clients of every region, in the configuration's order.
type edges struct {
	cfg    *config.Config
	tables []*dynamo.Client // none with the embedded store
	ring   []crypto.Region
	closes []func()
}

// dial makes every client and calls nothing. Credentials are those that AWS's
// own tools would find.
func dial(ctx context.Context, cfg *config.Config) (_ *edges, err error) {
	e := &edges{cfg: cfg}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	credentials, err := kms.DefaultCredentials(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Regions {
		r := &cfg.Regions[i]
		member := crypto.Region{Name: r.Name, KeyARN: r.KMS.KeyARN, Former: r.KMS.Former, Timeout: r.KMS.Timeout}
		if r.KMS.Local != "" {
			local, err := localkms.Open(localkms.Config{Path: r.KMS.Local, Region: r.Name})
			if err != nil {
				return nil, fmt.Errorf("open the local KMS of %s: %w", r.Name, err)
			}
			member.KMS, member.KeyARN = local, local.Keys()[0]
		} else {
			client, err := kms.New(kms.Config{Region: r.Name, Endpoint: r.KMS.Endpoint, FIPS: r.KMS.FIPS, Credentials: credentials})
			if err != nil {
				return nil, fmt.Errorf("region %s: %w", r.Name, err)
			}
			member.KMS, e.closes = client, append(e.closes, client.Close)
		}
		e.ring = append(e.ring, member)
		if cfg.Store == config.DynamoDB {
			client, err := dynamo.New(dynamo.Config{Region: r.Name, Endpoint: r.DynamoDB.URL, Credentials: credentials})
			if err != nil {
				return nil, fmt.Errorf("region %s: %w", r.Name, err)
			}
			e.tables, e.closes = append(e.tables, client), append(e.closes, client.Close)
		}
	}
	return e, nil
}

// share is this region's part of every budget.
func (e *edges) share() authz.Share {
	i := slices.IndexFunc(e.cfg.Regions, func(r config.Region) bool { return r.Name == e.cfg.Region })
	return authz.Share{Index: i, Of: len(e.cfg.Regions)}
}

func (e *edges) close() {
	for _, c := range e.closes {
		c()
	}
}

// localFirst are the DynamoDB clients, that of the local region in front.
func (e *edges) localFirst() []*dynamo.Client {
	clients := slices.Clone(e.tables)
	slices.SortStableFunc(clients, func(a, b *dynamo.Client) int {
		return rank(a.Region() != e.cfg.Region) - rank(b.Region() != e.cfg.Region)
	})
	return clients
}

func rank(other bool) int {
	if other {
		return 1
	}
	return 0
}

// surroundings are what an instance is given besides its configuration.
type surroundings struct {
	name   string       // of the instance, in the audit logs' names
	can    []vault.Duty // nil: all
	now    func() time.Time
	random io.Reader
	logger zerolog.Logger
	// poisoned is told when the store or the log must be reopened: the process
	// must end. It must not block.
	poisoned func(error)
	// observe may replace a region's KMS by one that measures it; nil: not.
	observe func(region string, k crypto.KMS) crypto.KMS
	// tracer records what requests wait for; nil: nobody does.
	tracer *tracing.Tracer
}

// instance is one region's vault and all that it stands on.
type instance struct {
	*vault.Vault
	control  authz.Control
	issuers  *oidc.Issuers
	counters authz.Counters
	log      *timedLog
	tracer   *tracing.Tracer
	closes   []func() error // in order
}

func (i *instance) close() error {
	var failures []error
	for _, c := range i.closes {
		failures = append(failures, c())
	}
	return errors.Join(failures...)
}

// openInstance opens the store and a new epoch of the audit log, and wires the
// vault. Start verifies the ring; nothing runs before Run.
func openInstance(ctx context.Context, cfg *config.Config, s surroundings) (_ *instance, err error) {
	if err := ensureLocalKeys(cfg, s.random); err != nil {
		return nil, err
	}
	e, err := dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	i := &instance{tracer: s.tracer}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	i.closes = []func() error{func() error { e.close(); return nil }}
	v := vault.Config{Env: cfg.Env, Can: s.can, Now: s.now, Random: s.random, Logger: s.logger, ErasureQuiet: cfg.ErasureQuiet, TwoRegions: cfg.TwoRegions, RepairRate: float64(cfg.Repair.Rate)}
	v.AcceptLoss = cfg.Ring.AcceptLoss
	if cfg.Store == config.Embedded {
		err = i.embedded(ctx, cfg, s, &v)
	} else {
		err = i.dynamo(ctx, e, s, &v)
	}
	if err != nil {
		return nil, err
	}
	i.log = newTimedLog(cfg.Region, v.Log)
	v.Log = i.log
	if s.tracer != nil {
		traced(cfg.Region, &v)
	}
	if v.Ring, err = newRing(e, s, func(region string) { i.Restored(region) }); err != nil {
		return nil, err
	}
	v.Sealer = crypto.NewSealer(v.Ring, s.now, s.random)
	v.Sealer.EnablePrefetch(cfg.Prefetch)
	if v.Catalog, err = pii.NewCatalog(cfg.Types); err != nil {
		return nil, err
	}
	claims, err := oidc.ClaimTypes(cfg.SignIn.Issuers...)
	if err != nil {
		return nil, err
	}
	if v.Policies, err = authz.NewPolicySource(authz.PolicySourceConfig{Dir: cfg.Policies, Claims: claims, Logger: s.logger}); err != nil {
		return nil, err
	}
	v.Keys = authz.NewKeys(authz.KeysConfig{Tables: v.Controls, Now: s.now, Random: s.random, Logger: s.logger})
	if err := i.signIns(cfg, s, &v); err != nil {
		return nil, err
	}
	v.Budgets = authz.NewBudgets(authz.BudgetsConfig{
		Counters: i.counters, Limits: cfg.Budgets, Share: e.share(), Now: s.now, Logger: s.logger,
		Rings: authz.Rings{Tables: v.Controls, Epoch: v.Ring.Epoch(), Regions: v.Ring.Names()},
	})
	i.control = v.Controls[0].Control
	i.Vault, err = vault.New(v)
	return i, err
}

// ensureLocalKeys makes the file of a local KMS where there is none, and no
// data: a new key opens nothing. With tables the ring's epoch tells.
func ensureLocalKeys(cfg *config.Config, random io.Reader) error {
	for _, r := range cfg.Regions {
		if r.KMS.Local == "" {
			continue
		}
		if _, err := os.Stat(r.KMS.Local); !errors.Is(err, fs.ErrNotExist) {
			continue // dial judges
		}
		if _, err := os.Stat(cfg.Data); cfg.Data != "" && err == nil {
			return errors.New("there is data without its keys: the file of the local KMS is gone")
		}
		if _, err := localkms.Create(localkms.Config{Path: r.KMS.Local, Region: r.Name, Random: random}); err != nil {
			return fmt.Errorf("make the local KMS of %s: %w", r.Name, err)
		}
	}
	return nil
}

// closeFirst runs c before everything that was opened earlier is closed.
func (i *instance) closeFirst(c func() error) { i.closes = slices.Insert(i.closes, 0, c) }

func (i *instance) embedded(ctx context.Context, cfg *config.Config, s surroundings, v *vault.Config) error {
	engine, err := wal.Open(wal.Options{
		Dir: cfg.Data, Region: cfg.Region, Now: s.now, Logger: s.logger, OnPoison: s.poisoned,
		Tables: []wal.Table{storeembedded.Table(), authzembedded.Table(), auditembedded.Table()},
	})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	i.closeFirst(engine.Close)
	log, err := auditembedded.Open(ctx, auditembedded.Config{
		Engine: engine, Region: cfg.Region, Instance: s.name, Now: s.now, Random: s.random, Logger: s.logger,
	})
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	i.closeFirst(func() error { log.Close(); return nil })
	v.Store, v.Log, v.Audit, v.Logs = storeembedded.New(engine), log, log, auditembedded.Stored{Engine: engine}
	v.Controls = []authz.RegionControl{{Region: cfg.Region, Control: authzembedded.New(engine)}}
	i.counters = authzembedded.NewCounters(engine)
	return nil
}

func (i *instance) dynamo(ctx context.Context, e *edges, s surroundings, v *vault.Config) error {
	names := e.cfg.Tables
	for n, client := range e.localFirst() {
		records := storedynamo.New(storedynamo.Config{Client: client, Table: names.Records, Now: s.now, TTL: true})
		v.Controls = append(v.Controls, authz.RegionControl{Region: client.Region(), Control: authzdynamo.New(client, names.Control)})
		if n > 0 {
			v.Others = append(v.Others, vault.RegionTable{Region: client.Region(), Read: records.Read, Insert: records.Insert})
			continue
		}
		log, err := auditdynamo.Open(ctx, auditdynamo.Config{
			Client: client, Table: names.Audit, Index: names.AuditIndex, Instance: s.name, Random: s.random, Now: s.now, Logger: s.logger,
			OnEnd: s.poisoned,
		})
		if err != nil {
			return fmt.Errorf("open the audit log: %w", err)
		}
		i.closeFirst(func() error { log.Close(); return nil })
		v.LogReady = log.Ready
		v.Store, v.Log, v.Audit, v.Logs = store.Store(records), audit.Log(log), audit.Reader(log), audit.Source(log)
		i.counters = authzdynamo.NewCounters(client, names.Counters)
	}
	return nil
}

func newRing(e *edges, s surroundings, restored func(string)) (*crypto.Ring, error) {
	regions := slices.Clone(e.ring)
	for n := range regions {
		if s.observe != nil {
			regions[n].KMS = s.observe(regions[n].Name, regions[n].KMS)
		}
		if s.tracer != nil {
			regions[n].KMS = newTracedKMS(regions[n].Name, regions[n].KMS)
		}
	}
	return crypto.NewRing(crypto.RingConfig{
		Regions: regions, Local: e.cfg.Region, Mode: e.cfg.Ring.Mode, MinCopies: e.cfg.Ring.MinCopies, Epoch: e.cfg.Ring.Epoch, Tenants: e.cfg.TenantRegions(),
		Now: s.now, Random: s.random, Logger: s.logger, OnRestored: restored,
	})
}

// instanceName names an instance in its audit logs: alike after a restart, and
// no other running instance's, which opening a log of that name would end.
func instanceName(cfg *config.Config) (string, error) {
	if cfg.Instance != "" {
		return cfg.Instance, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", errors.New("this machine has no name: give instance in the configuration")
	}
	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, host)
	return name[:min(len(name), 63)], nil
}
