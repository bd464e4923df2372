package simulation

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/authz"
	authzdynamo "piivault/internal/authz/dynamo"
	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/dynamo"
	"piivault/internal/pii"
	"piivault/internal/sim/simdynamo"
	storedynamo "piivault/internal/store/dynamo"
	"piivault/internal/vault"
)

const (
	env   = "sim"
	login = "login" // the deterministic type
	// quiet is ErasureQuiet: longer than replication may lag.
	quiet = 5 * time.Second
	// maxLag is how long replication lags at most while links are up.
	maxLag = 2 * time.Second
	// calm is how long an endpoint must be without a fault before clients may
	// expect that everybody knows: probes, and a call's timeouts.
	calm = 5 * time.Second
)

// Config of a run.
type Config struct {
	Seed  uint64
	Steps int    // of faults and clients, before everything is healed
	Dir   string // of the KMS key files, which do not depend on the seed
	Keep  int    // lines of trace kept for a failure
	// Log gets every line of the trace. Optional.
	Log func(string)
}

// Result of a run.
type Result struct {
	Seed       uint64
	Steps      int
	Operations map[string]int // by kind and how they ended
	Virtual    time.Duration
	Hash       string // of the trace
	Trace      []string
	Violations []string
}

// region is one region's services and instances.
type region struct {
	name      string
	db        *simdynamo.Region
	keys      *localkms.KMS
	tables    *endpoint
	kms       *endpoint
	instances []*instance
	skew      time.Duration // of DynamoDB's clock
	indexed   time.Time     // when all indexes were right
}

// instance is one process life.
type instance struct {
	name   string // of the instance, and its life
	host   string // the same after a restart
	life   int
	region *region
	epoch  int // of its ring
	skew   time.Duration
	dead   atomic.Bool
	cancel context.CancelFunc
	ready  bool // says the scheduler
	warm   bool // has unwrapped the tenant's secret
	busy   int  // client operations under way
	// spending: those of them that may take from budgets.
	spending int
	// acceptsLoss: of what a region that is lost could open alone.
	acceptsLoss bool

	counters authz.Counters
	vault    *vault.Vault     // set before it says that it is ready
	sealer   *crypto.Sealer   // likewise
	log      *auditdynamo.Log // guarded by World.mu until then
}

// World is one run.
type World struct {
	*scheduler
	cfg      Config
	regions  []*region
	rings    []*ring // by epoch, from 1
	epoch    int     // that instances start with now
	lost     *region // for good; nil: none
	revived  int     // instances that were started once more when all was healed
	types    *pii.Catalog
	rules    *authz.PolicySource
	links    map[string]time.Time // pairs of regions that do not reach each other, since when
	repaired map[string]time.Time // pairs whose link was mended, when
	// partitionRefuses: over a cut link calls fail at once, instead of hanging.
	partitionRefuses bool
	ttl              bool // DynamoDB removes what has expired
	twoRegions       bool // a tokenize waits for a second region's table
	ahead            bool // data keys are made ahead
	dataKeys         *keyNames
	replicas         replicas
	oracle           *oracle
	theft            *theft
	tenant           string
	running          sync.WaitGroup
	names            map[string]string // short names of record ids
	life             context.Context   // of instances
}

// Run runs one seed in a bubble of its own.
func Run(t *testing.T, cfg Config) (result Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.life = context.WithoutCancel(t.Context())
		w.run()
		leased, got := w.oracle.stranded()
		w.oracle.counts["units leased to thieves"], w.oracle.counts["units that told them something"] = leased, got
		result = Result{
			Seed: cfg.Seed, Steps: w.step, Operations: w.oracle.counts, Virtual: time.Since(epoch), Hash: w.hash(),
			Trace: w.trace, Violations: w.oracle.violations,
		}
	})
	return result
}

func regionNames() []string { return []string{"eu-west-1", "us-east-1", "ap-south-1", "sa-east-1"} }

func newWorld(cfg Config) (*World, error) {
	if cfg.Keep == 0 {
		cfg.Keep = 100
	}
	w := &World{scheduler: newScheduler(cfg.Seed, cfg.Keep), cfg: cfg, links: map[string]time.Time{}, names: map[string]string{}, dataKeys: newKeyNames()}
	w.log = cfg.Log
	var err error
	if w.types, err = pii.NewCatalog(piiTypes()); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	if w.rules, err = authz.NewPolicySource(authz.PolicySourceConfig{}); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	w.ttl, w.partitionRefuses = w.oneIn(2), w.oneIn(2)
	w.twoRegions, w.ahead = twoRegions(cfg.Seed), cfg.Seed%2 == 0
	w.theft = newTheft(w.scheduler)
	w.oracle = newOracle(w)
	n := 2 + w.random.IntN(3)
	for _, name := range regionNames()[:n] {
		if err := w.addRegion(name); err != nil {
			return nil, err
		}
	}
	w.drawRings()
	return w, nil
}

func piiTypes() []pii.Type {
	return []pii.Type{
		{Name: "email", Kind: "email", Token: pii.Random, Bound: true},
		{Name: login, Kind: "email", Token: pii.Deterministic},
		{Name: "shared", Kind: "email", Token: pii.Random, DataKey: pii.DataKeyPolicy{Reuse: true, MaxMessages: 5, MaxBytes: 1 << 20, MaxAge: time.Minute}},
		{Name: "brief", Kind: "email", Token: pii.Random, Bound: true, TTL: 3 * time.Hour},
	}
}

// addRegion makes a region; its instances are started later.
func (w *World) addRegion(name string) error {
	r := &region{name: name, skew: w.upTo(2*time.Second) - time.Second}
	if w.oneIn(4) {
		r.skew = w.upTo(2*time.Hour) - time.Hour
	}
	r.tables, r.kms = &endpoint{region: r, mode: up, since: epoch}, &endpoint{region: r, kms: true, mode: up, since: epoch}
	var err error
	keys := localkms.Config{Path: filepath.Join(w.cfg.Dir, name), Region: name, Random: w.stream("kms " + name)}
	if r.keys, err = localkms.Open(keys); err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	r.db = simdynamo.New(simdynamo.Config{
		Name: name, Tables: dynamo.NamesWith("").Tables(), Lag: true, Page: 20, OnChange: w.changed,
		Now: func() time.Time { return time.Now().Add(r.skew) },
	})
	for n := range 1 + w.random.IntN(3) {
		host := fmt.Sprintf("%c%d", name[0], n)
		i := &instance{host: host, name: host, region: r}
		i.dead.Store(true) // until it is started
		r.instances = append(r.instances, i)
	}
	w.regions = append(w.regions, r)
	return nil
}

// stream is randomness of its own for a purpose.
func (w *World) stream(purpose string) io.Reader {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%016x%s", w.cfg.Seed, purpose))
	return &locked{random: rand.NewChaCha8(seed)}
}

// locked is a reader for several goroutines.
type locked struct {
	mu     sync.Mutex // guards random
	random *rand.ChaCha8
}

func (l *locked) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.Read(p)
}

// start begins the next life of an instance.
func (w *World) start(r *region, at int) *instance {
	old := r.instances[at]
	i := &instance{host: old.host, life: old.life + 1, region: r, epoch: w.epoch, skew: old.skew}
	if i.life == 1 || w.oneIn(4) {
		i.skew = w.upTo(2*time.Hour) - time.Hour
	}
	i.name = fmt.Sprintf("%s.%d", i.host, i.life)
	r.instances[at] = i
	ctx, cancel := context.WithCancel(as(w.life, i.name))
	i.cancel = cancel
	i.acceptsLoss = w.lost != nil && !slices.Contains(w.members(i.epoch), w.lost)
	w.running.Go(func() {
		if err := w.boot(ctx, i); err != nil {
			w.tell(i, "cannot start")
			return
		}
		w.tell(i, "is ready")
		i.vault.Run(ctx)
	})
	return i
}

// boot opens the log and wires the vault, as cmd/vault does.
func (w *World) boot(ctx context.Context, i *instance) error {
	now := func() time.Time { return time.Now().Add(i.skew) }
	random := w.stream(i.name)
	cfg := vault.Config{
		Env: env, Now: now, Random: random, Logger: zerolog.Nop(), Catalog: w.types, Policies: w.rules,
		ErasureQuiet: quiet, PollEvery: 700 * time.Millisecond, RepairEvery: 10 * time.Second, SweepEvery: 15 * time.Second, BeatEvery: 10 * time.Second,
		RepairRate: 1e6, RepairWorkers: 1, TwoRegions: w.twoRegions, AcceptLoss: i.acceptsLoss,
	}
	if err := w.tablesOf(ctx, i, &cfg); err != nil {
		return err
	}
	keys := w.ringConfig(i.epoch, w.members(i.epoch), func(r *region) crypto.KMS { return &kms{w, i, r} })
	keys.Local, keys.Now, keys.Random, keys.Logger = i.region.name, now, w.stream(i.name+" keys made ahead"), zerolog.Nop()
	keys.ProbeEvery, keys.OnRestored = 700*time.Millisecond, func(name string) { i.vault.Restored(name) }
	var err error
	if cfg.Ring, err = crypto.NewRing(keys); err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	i.sealer = crypto.NewSealer(cfg.Ring, now, random)
	cfg.Sealer = i.sealer
	if w.ahead {
		i.sealer.EnablePrefetch(ahead())
	}
	cfg.Keys = authz.NewKeys(authz.KeysConfig{Tables: cfg.Controls, Now: now, Random: random, PollEvery: 10 * time.Second, Logger: zerolog.Nop()})
	cfg.Budgets = authz.NewBudgets(authz.BudgetsConfig{
		Counters: i.counters, Limits: w.theft.limits(), Share: w.share(i), Now: now, Logger: zerolog.Nop(),
		Rings: authz.Rings{Tables: cfg.Controls, Epoch: cfg.Ring.Epoch(), Regions: cfg.Ring.Names()},
	})
	if i.vault, err = vault.New(cfg); err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	return i.vault.Start(ctx)
}

func (w *World) tablesOf(ctx context.Context, i *instance, cfg *vault.Config) error {
	ordered := slices.Clone(w.members(i.epoch))
	slices.SortStableFunc(ordered, func(a, b *region) int { return rank(a != i.region) - rank(b != i.region) })
	for n, r := range ordered {
		client, err := dynamo.New(dynamo.Config{Region: r.name, Data: &tables{w, i, r}, Clock: func() time.Time { return w.clock(r) }})
		if err != nil {
			return fmt.Errorf("simulation: %w", err)
		}
		records := storedynamo.New(storedynamo.Config{Client: client, Table: "records", Now: cfg.Now, TTL: w.ttl})
		cfg.Controls = append(cfg.Controls, authz.RegionControl{Region: r.name, Control: authzdynamo.New(client, "control")})
		if n > 0 {
			cfg.Others = append(cfg.Others, vault.RegionTable{Region: r.name, Read: records.Read, Insert: records.Insert})
			continue
		}
		cfg.Store, i.counters = records, authzdynamo.NewCounters(client, "counters")
		log, err := auditdynamo.Open(as(ctx, i.name+" log"), auditdynamo.Config{
			Client: client, Table: "audit", Index: "audit-index", Instance: i.host, Random: cfg.Random, Now: cfg.Now, Logger: zerolog.Nop(),
			OnEnd: func(error) { w.tell(i, "lost its log") },
		})
		if err != nil {
			return fmt.Errorf("simulation: %w", err)
		}
		w.mu.Lock()
		i.log = log
		w.mu.Unlock()
		cfg.Log, cfg.Audit, cfg.Logs = &serialLog{log, w, i}, audit.Reader(log), audit.Source(log)
	}
	return nil
}

func rank(other bool) int {
	if other {
		return 1
	}
	return 0
}

// stop ends a life: what is under way is applied or not, and nobody hears.
func (w *World) stop(i *instance) {
	i.dead.Store(true)
	w.countAhead(i)
	i.ready = false
	for _, c := range w.waiting() {
		if c.from != i {
			continue
		}
		if c.write && !c.orphan.Load() && w.oneIn(2) && !w.cut(i.region, c.to.region) && c.to.mode != hangs && c.to.region != w.lost {
			w.tracef("%s: applied at the crash", w.short(c.name))
			_ = c.do(func(int) bool { return w.oneIn(2) })
		}
		w.finish(c, errCrashed)
	}
	i.cancel()
	w.mu.Lock()
	log := i.log
	w.mu.Unlock()
	if log != nil {
		w.running.Go(log.Close)
	}
}

// pair names a link.
func pair(a, b *region) string {
	if a.name > b.name {
		a, b = b, a
	}
	return a.name + "–" + b.name
}

func (w *World) cut(a, b *region) bool {
	_, is := w.links[pair(a, b)]
	return is && a != b
}

// short names record ids by order of appearance.
func (w *World) short(text string) string {
	if w.tenant == "" {
		return text
	}
	prefix := w.tenant + "#"
	for from := 0; ; {
		at := strings.Index(text[from:], prefix)
		if at < 0 {
			break
		}
		at += from
		end := at + len(prefix)
		for end < len(text) && text[end] != '|' && text[end] != ',' && text[end] != ' ' && text[end] != '#' {
			end++
		}
		id := text[at+len(prefix) : end]
		text = text[:at] + w.alias(id) + text[end:]
		from = at
	}
	return text
}

func (w *World) alias(id string) string {
	if w.names[id] == "" {
		w.names[id] = fmt.Sprintf("r%d", len(w.names)+1)
	}
	return w.names[id]
}
