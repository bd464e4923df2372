package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/authz"
	authzembedded "piivault/internal/authz/embedded"
	"piivault/internal/crypto"
	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
	"piivault/internal/httpapi"
	"piivault/internal/pii"
	storedynamo "piivault/internal/store/dynamo"
	"piivault/internal/vault"
	"piivault/internal/wal"
)

const (
	recordsTable = "vault-records"
	auditTable   = "vault-audit"
	indexTable   = "vault-audit-index"
	readTokens   = 50 // tokens a BatchGetItem: R#0 and X#0 of each
	writeItems   = 25 // items a BatchWriteItem

	patience = 20 * time.Second // a busy machine is no fault
)

func staticCredentials() aws.CredentialsProvider {
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "bench", SecretAccessKey: "secret"}, nil
	}))
}

// instance is the vault as `serve` wires it, on stubs: records and audit in
// DynamoDB, two regions' KMS. Its control table is in memory: no request reads it.
type instance struct {
	tables, far *stub // the local region's DynamoDB and KMS; the other region's KMS
	handler     http.Handler
	key         string
	closes      []func() error
}

func (i *instance) close() (err error) {
	for _, c := range slices.Backward(i.closes) {
		err = errors.Join(err, c())
	}
	return err
}

func openInstance(ctx context.Context) (_ *instance, err error) {
	i := &instance{tables: newStub("eu-west-1"), far: newStub("us-east-1")}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	cfg := vault.Config{Env: "bench", Now: time.Now, Random: rand.Reader, Logger: zerolog.Nop()}
	if err := i.storage(ctx, &cfg); err != nil {
		return nil, err
	}
	if err := i.keys(&cfg); err != nil {
		return nil, err
	}
	if cfg.Catalog, err = pii.NewCatalog(pii.BuiltIn()); err != nil {
		return nil, err
	}
	if cfg.Policies, err = authz.NewPolicySource(authz.PolicySourceConfig{}); err != nil {
		return nil, err
	}
	cfg.Keys = authz.NewKeys(authz.KeysConfig{Tables: cfg.Controls, Now: time.Now, Random: rand.Reader, Logger: cfg.Logger})
	v, err := vault.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := v.Start(ctx); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); cfg.Keys.Run(background) }()
	i.closes = append(i.closes, func() error { stop(); <-done; return nil })
	tenant, err := v.CreateTenant(ctx, "default")
	if err != nil {
		return nil, fmt.Errorf("create the tenant: %w", err)
	}
	_, credential, _, err := cfg.Keys.Create(ctx, tenant, authz.NewKey{Name: "bench", Roles: authz.Roles()})
	if err != nil {
		return nil, fmt.Errorf("create the key: %w", err)
	}
	i.key = "Bearer " + credential.Reveal()
	i.handler, err = httpapi.New(httpapi.Config{Vault: v, Logger: cfg.Logger, Now: time.Now, Random: rand.Reader})
	return i, err
}

func (i *instance) storage(ctx context.Context, cfg *vault.Config) error {
	client, err := dynamo.New(dynamo.Config{Region: i.tables.region, Credentials: staticCredentials(), Transport: i.tables, Attempt: patience})
	if err != nil {
		return err
	}
	engine, err := wal.Open(wal.Options{Dir: "/bench", FS: vfs.NewMem(), Region: i.tables.region, Logger: cfg.Logger, Tables: []wal.Table{authzembedded.Table()}})
	if err != nil {
		return err
	}
	i.closes = append(i.closes, engine.Close)
	log, err := auditdynamo.Open(ctx, auditdynamo.Config{
		Client: client, Table: auditTable, Index: indexTable, Instance: "bench", Random: rand.Reader, Now: time.Now, Logger: cfg.Logger,
		Patience: patience,
	})
	if err != nil {
		return err
	}
	i.closes = append(i.closes, func() error { log.Close(); return nil })
	cfg.Store = storedynamo.New(storedynamo.Config{Client: client, Table: recordsTable, Now: time.Now, TTL: true})
	cfg.Log, cfg.Audit, cfg.Logs = log, log, log
	cfg.Controls = []authz.RegionControl{{Region: i.tables.region, Control: authzembedded.New(engine)}}
	limit := authz.Limit{Hour: authz.MaxLimit, Day: authz.MaxLimit}
	limits := authz.Limits{Plain: limit, Masked: limit, Misses: limit, Guesses: limit}
	cfg.Budgets = authz.NewBudgets(authz.BudgetsConfig{
		Counters: authzembedded.NewCounters(engine), Share: authz.Share{Of: 1}, Now: time.Now, Logger: cfg.Logger,
		Limits: authz.BudgetLimits{Principal: authz.PrincipalLimits{Limits: limits, Subjects: limit}, Tenant: limits},
	})
	return nil
}

func (i *instance) keys(cfg *vault.Config) error {
	var regions []crypto.Region
	for _, s := range []*stub{i.tables, i.far} {
		client, err := kms.New(kms.Config{Region: s.region, Credentials: staticCredentials(), Transport: s})
		if err != nil {
			return err
		}
		regions = append(regions, crypto.Region{Name: s.region, KMS: client, KeyARN: s.arn(), Timeout: patience})
	}
	ring, err := crypto.NewRing(crypto.RingConfig{Regions: regions, Local: i.tables.region, Mode: crypto.Copies, MinCopies: 1, Epoch: 1, Now: time.Now, Random: rand.Reader, Logger: cfg.Logger})
	cfg.Ring, cfg.Sealer = ring, crypto.NewSealer(ring, time.Now, rand.Reader)
	return err
}

// reply keeps a response; it is used again and again.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newReply() *reply { return &reply{header: http.Header{}} }

func (a *reply) Header() http.Header         { return a.header }
func (a *reply) WriteHeader(status int)      { a.status = status }
func (a *reply) Write(b []byte) (int, error) { return a.body.Write(b) }

// do answers one request in this process: all of the vault, without sockets.
func (i *instance) do(ctx context.Context, path string, body []byte, into *reply) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Authorization", i.key)
	r.Header.Set("Content-Type", "application/json")
	clear(into.header)
	into.body.Reset()
	i.handler.ServeHTTP(into, r)
	if into.status != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, into.status, into.body.Bytes())
	}
	return nil
}
