// Package rig is a deployment of two regions for tests: DynamoDB Local with
// streams.Replicator between the regions' tables, a KMS in each region, and two
// `vault serve` per region, real processes whose every call to a service goes
// through a proxy of their own that counts it and can let a fault befall it.
// Tables, tenant and key are made with the real commands.
package rig

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
	"piivault/internal/sim/kmsserver"
	"piivault/internal/sim/streams"
)

// The regions, in ring order.
const (
	EU = "eu-west-1"
	US = "us-east-1"
)

// What is not configured.
const (
	perRegion  = 2
	kmsTimeout = 5 * time.Second
	// streamPoll leaves the machine to the tests: looking costs DynamoDB Local 2 ms.
	streamPoll = 100 * time.Millisecond
)

// Config of a Rig. The zero value is two instances per region and a copy of
// each data key for every region.
type Config struct {
	PerRegion   int            // instances of each region; default 2
	KMSTimeout  time.Duration  // of one call; default 5 s, so that a busy machine is no outage
	MultiRegion bool           // one multi-Region key instead of a key per region
	Orders      streams.Orders // of replication
	Seed        uint64         // of replication
	// Budgets are the limits, lines of YAML; default: plenty.
	Budgets string
	// More is added to every instance's configuration: whole lines of YAML.
	More string
	// Transport, where set, is put in front of every client: the contract's check.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Rig is a running deployment. Its methods are for one goroutine, those of its
// parts for any.
type Rig struct {
	Instances  []*Instance // region by region
	Replicator *streams.Replicator
	Services   *kmsserver.Server // the KMS of both regions
	Names      dynamo.Names
	Key        string // an API key with every role

	ground  *Ground
	account dynamolocal.Account
	dir     string
	keys    [2]string // ARNs
	env     []string
	http    *http.Client
	proxies []*proxy
}

// New starts a deployment that ends with the test. A process that ends badly
// or by itself, or has a data race, fails the test.
func New(tb testing.TB, ground *Ground, c Config) *Rig {
	tb.Helper()
	if c.PerRegion == 0 {
		c.PerRegion = perRegion
	}
	if c.KMSTimeout == 0 {
		c.KMSTimeout = kmsTimeout
	}
	r := &Rig{ground: ground, account: ground.DynamoDB.Account(), dir: tb.TempDir(), Names: dynamo.NamesWith("vault-")}
	for _, step := range []func(testing.TB, Config) error{r.startKMS, r.startProxies, r.bootstrap, r.startInstances} {
		if err := step(tb, c); err != nil {
			tb.Fatalf("rig: %v", err)
		}
	}
	return r
}

func (r *Rig) startKMS(tb testing.TB, c Config) (err error) {
	tb.Helper()
	if r.Services, err = kmsserver.Open(kmsserver.Config{Dir: filepath.Join(r.dir, "kms"), Regions: regions()}); err != nil {
		return err
	}
	tb.Cleanup(r.Services.Close)
	if r.keys[0], err = r.Services.CreateKey(kmsserver.KeySpec{Region: EU, MultiRegion: c.MultiRegion}); err != nil {
		return err
	}
	if c.MultiRegion {
		r.keys[1], err = r.Services.Replicate(r.keys[0], US)
	} else {
		r.keys[1], err = r.Services.CreateKey(kmsserver.KeySpec{Region: US})
	}
	return err
}

func regions() []string { return []string{EU, US} }

// startProxies makes the instances' proxies and configurations, and a client for them.
func (r *Rig) startProxies(tb testing.TB, c Config) error {
	tb.Helper()
	onward, closeIdle, err := forward(r.ground.DynamoDB.Endpoint)
	if err != nil {
		return err
	}
	tb.Cleanup(func() {
		for _, p := range r.proxies {
			p.close()
		}
		closeIdle()
	})
	// The longer name first: a table is known by its whole name in quotes.
	tables := []string{r.Names.Records, r.Names.AuditIndex, r.Names.Audit, r.Names.Control, r.Names.Counters}
	for _, region := range regions() {
		for n := range c.PerRegion {
			i := &Instance{Name: fmt.Sprintf("%s-%d", region[:2], n+1), Region: region, rig: r}
			services := map[string]string{}
			for _, of := range regions() {
				for service, next := range map[string]http.Handler{DynamoDB: onward, KMS: r.Services} {
					p := newProxy(Where{i.Name, of, service}, tables, next)
					r.proxies = append(r.proxies, p)
					services[of+service] = p.url
				}
			}
			if err := r.configure(i, c, services); err != nil {
				return err
			}
			r.Instances = append(r.Instances, i)
		}
	}
	var transport http.RoundTripper = &http.Transport{MaxIdleConnsPerHost: 64}
	r.http = &http.Client{Transport: transport}
	tb.Cleanup(r.http.CloseIdleConnections)
	if c.Transport != nil {
		r.http.Transport = c.Transport(transport)
	}
	return nil
}

func (r *Rig) configure(i *Instance, c Config, services map[string]string) error {
	mode := map[bool]string{false: "copies", true: "multi_region"}[c.MultiRegion]
	var text strings.Builder
	fmt.Fprintf(&text, `env: test
region: %s
instance: %s
listen: 127.0.0.1:0
metrics: {listen: "off"}
pprof: {listen: "off"}
ring: {mode: %s}
regions:
`, i.Region, i.Name, mode)
	for n, of := range regions() {
		fmt.Fprintf(&text, "  - {name: %s, dynamodb: {endpoint: %s}, kms: {key_arn: %q, endpoint: %s, timeout: %s}}\n",
			of, services[of+DynamoDB], r.keys[n], services[of+KMS], c.KMSTimeout)
	}
	text.WriteString("drain: {wait: 0s, timeout: 20s}\nerasure_quiet: 1s\n" + cmp.Or(c.Budgets, plenty()) + c.More)
	i.config = filepath.Join(r.dir, i.Name+".yaml")
	return os.WriteFile(i.config, []byte(text.String()), 0o600)
}

// plenty are budgets that no test uses up.
func plenty() string {
	const limit = "{hour: 1000000, day: 1000000}"
	const all = "plain: " + limit + ", masked: " + limit + ", misses: " + limit + ", guesses: " + limit
	return "budgets:\n  principal: {" + all + ", subjects: " + limit + "}\n  tenant: {" + all + "}\n"
}

// bootstrap makes the tables, lets them replicate, and makes a tenant and its
// first key, as an operator does.
func (r *Rig) bootstrap(tb testing.TB, c Config) error {
	tb.Helper()
	credentials, err := r.account.Config(EU).Credentials.Retrieve(tb.Context())
	if err != nil {
		return err
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		r.env = append(r.env, name+"="+os.Getenv(name))
	}
	r.env = append(r.env, "AWS_ACCESS_KEY_ID="+credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+credentials.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	if _, err := r.Command(tb.Context(), "tables", "create"); err != nil {
		return err
	}
	if err := r.replicate(tb, c); err != nil {
		return err
	}
	if _, err := r.Command(tb.Context(), "tenant", "create", "--alias", "acme"); err != nil {
		return err
	}
	r.Key, err = r.Command(tb.Context(), "key", "create", "--name", "rig", "--tenant", "acme",
		"--roles", "admin,writer,reader,eraser,auditor,operator")
	return err
}

// replicate starts the replication between the regions.
func (r *Rig) replicate(tb testing.TB, c Config) (err error) {
	tb.Helper()
	cfg := streams.Config{Tables: []string{r.Names.Records, r.Names.Audit, r.Names.Control}, Seed: c.Seed, Poll: streamPoll, Logger: zerolog.New(tb.Output())}
	for _, region := range regions() {
		cfg.Regions = append(cfg.Regions, r.account.Config(region))
	}
	if r.Replicator, err = streams.New(cfg); err != nil {
		return err
	}
	r.Replicator.Order(c.Orders)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Replicator.Run(ctx); err != nil && ctx.Err() == nil {
			tb.Errorf("rig: %v", err)
		}
	})
	tb.Cleanup(func() { cancel(); running.Wait(); r.Replicator.Close() })
	return nil
}

// Command runs a command of the vault's with the first instance's
// configuration, and returns what it prints.
func (r *Rig) Command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.ground.Binary, append(args, "--config", r.Instances[0].config)...) //nolint:gosec // the binary that was built
	cmd.Env = r.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("vault %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *Rig) startInstances(tb testing.TB, _ Config) error {
	tb.Helper()
	tb.Cleanup(func() {
		if err := r.each((*Instance).Stop); err != nil {
			tb.Error(err)
		}
		for _, i := range r.Instances {
			if tb.Failed() {
				tb.Logf("%s said at last:\n%s", i.Name, i.Said())
			}
		}
	})
	return r.each((*Instance).Start)
}

// each does something with all instances at once.
func (r *Rig) each(do func(*Instance) error) error {
	failures := make([]error, len(r.Instances))
	var running sync.WaitGroup
	for n, i := range r.Instances {
		running.Go(func() { failures[n] = do(i) })
	}
	running.Wait()
	return errors.Join(failures...)
}

// In are the instances of a region.
func (r *Rig) In(region string) (in []*Instance) {
	for _, i := range r.Instances {
		if i.Region == region {
			in = append(in, i)
		}
	}
	return in
}

// Fault gives an order to the proxies that where covers; the zero Fault ends it.
func (r *Rig) Fault(where Where, f Fault) {
	for _, p := range r.proxies {
		if where.covers(p.where) {
			p.set(f)
		}
	}
}

// Calls counts what went through the proxies that where covers since the last
// time, without the calls that were given up before their answer. It waits for
// a moment without calls under way.
func (r *Rig) Calls(tb testing.TB, where Where) map[Call]int {
	tb.Helper()
	calls := map[Call]int{}
	for _, p := range r.proxies {
		if where.covers(p.where) {
			Eventually(tb, "a moment without calls", func() bool { return !p.busy() })
			p.take(calls)
		}
	}
	return calls
}

// Settle waits until both regions' tables are the same, which takes a while
// after tens of thousands of writes. Nobody may be writing but the instances
// themselves, who do so seldom.
func (r *Rig) Settle(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*patience)
	defer cancel()
	if err := r.Replicator.Settle(ctx); err != nil {
		tb.Fatal(err)
	}
}

// Eventually polls until ok says so, and fails the test if it does not: what is
// waited for happens in other processes, on their own clocks.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Errorf("not in %s: %s", patience, what)
			return
		}
	}
}
