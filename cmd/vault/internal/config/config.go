// Package config reads the configuration of `vault serve`: one YAML file,
// every key of which the environment may override.
//
// It is strict: unknown and repeated keys, values of another kind and
// combinations that cannot work are refused, the first of them with its line
// and column. It holds no secrets: credentials come from where AWS's own tools
// find them, and no error quotes a value.
package config

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
	"piivault/internal/httpapi"
	"piivault/internal/pii"
)

// Store is where records, control items and the audit log are kept.
type Store string

// The stores.
const (
	DynamoDB Store = "dynamodb"
	Embedded Store = "embedded" // one directory, one region, one process
)

// Config of an instance. Load fills in every default.
type Config struct {
	Env      string // in tokens: [a-z0-9]{1,8}
	Region   string // this instance's, one of Regions
	Instance string // of the audit logs' names; "": the host's name
	Listen   string
	TLS      TLS
	SignIn   SignIn
	Metrics  string // address of /metrics, "" for none
	Pprof    string // loopback address of /debug/pprof/, "" for none
	LogLevel string
	Tracing  Tracing
	Store    Store
	Data     string // directory of the embedded store
	Tables   dynamo.Names
	Regions  []Region // in the ring's order
	Ring     Ring
	// TenantKeys are those of tenants with KMS keys of their own.
	TenantKeys []TenantKeys
	Prefetch   crypto.PrefetchConfig
	Repair     Repair
	// Budgets bound what each principal and tenant learns (design §8).
	Budgets authz.BudgetLimits
	// Policies is a directory of Cedar policies; "": the default set.
	Policies string
	Types    []pii.Type
	Limits   httpapi.Limits
	Drain    Drain
	// ErasureQuiet must be longer than the replication lag (vault.Config).
	ErasureQuiet time.Duration
	// TwoRegions: a record is in a second region's table before it is
	// acknowledged (vault.Config). The key is durability.
	TwoRegions bool
}

// Tracing is where spans go: an OTLP collector's URL, "" for nowhere, and the
// share of traces that are recorded.
type Tracing struct {
	Endpoint string
	Sample   float64
}

// TLS of the listener; without files it is plain HTTP.
type TLS struct {
	Cert, Key  string             // PEM files
	MinVersion uint16             // of crypto/tls
	ClientCA   string             // PEM file: whose client certificates are taken; "": nobody's
	ClientAuth tls.ClientAuthType // VerifyClientCertIfGiven or RequireAndVerifyClientCert
}

// Region is one member of the key ring and, with DynamoDB, one replica.
type Region struct {
	Name     string
	DynamoDB Endpoint
	KMS      KMS
}

// Endpoint is a compatible server's or a VPC endpoint's URL; "": AWS's own.
type Endpoint struct{ URL string }

// KMS is a region's key.
type KMS struct {
	KeyARN   string
	Former   []string // ARNs that a ring change replaced
	Endpoint string
	FIPS     bool
	Timeout  time.Duration
	Local    string // file of a local KMS, instead of all of the above but Timeout
}

// Ring is how the regions' keys wrap data keys.
type Ring struct {
	Mode      crypto.Mode
	MinCopies int
	Epoch     uint64
	// AcceptLoss gives up what no region of this ring could open (vault.Config).
	AcceptLoss bool
}

// Repair bounds what repair takes from live traffic, in records a second.
type Repair struct{ Rate int }

// Drain is how an instance ends: /readyz says no for Wait, so that load
// balancers turn away, then requests have Timeout to finish.
type Drain struct{ Wait, Timeout time.Duration }

// Local is the region of this instance.
func (c *Config) Local() *Region {
	return &c.Regions[slices.IndexFunc(c.Regions, func(r Region) bool { return r.Name == c.Region })]
}

// Load reads the text of a file and, over it, the environment. unknown are the
// variables that begin like a key's and are none: likely mistakes, but other
// programs name variables too. The error is a *MistakeError.
func Load(file string, text []byte, environ []string) (c *Config, unknown []string, err error) {
	variables := map[string]string{}
	for _, pair := range environ {
		if name, v, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, "VAULT_") {
			variables[name] = v
		}
	}
	d := &decoder{
		file: file, known: map[string]bool{}, places: map[string]place{},
		lookup: func(name string) (string, bool) { v, ok := variables[name]; return v, ok },
		names:  slices.Collect(maps.Keys(variables)),
	}
	root, err := parse(file, text)
	if err != nil {
		return nil, nil, err
	}
	l := &loader{decoder: d, c: defaults()}
	if err := d.mapping("", &value{source: file, node: root}, l.fields()); err != nil {
		return nil, nil, err
	}
	if err := l.tracing(environ); err != nil {
		return nil, nil, err
	}
	if err := l.check(); err != nil {
		return nil, nil, err
	}
	for name := range variables {
		if !d.known[name] && !isClientVariable(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return l.c, unknown, nil
}

// isClientVariable: the commands that call a vault read it.
func isClientVariable(name string) bool {
	return slices.Contains([]string{"VAULT_ADDR", "VAULT_KEY", "VAULT_KEY_FILE", "VAULT_ALLOW_HTTP", "VAULT_CONFIG"}, name)
}

func defaults() *Config {
	return &Config{
		Listen: "127.0.0.1:8200", Metrics: "127.0.0.1:9090", LogLevel: "info", Store: DynamoDB,
		TLS: TLS{MinVersion: tls.VersionTLS12, ClientAuth: tls.VerifyClientCertIfGiven}, Tables: dynamo.NamesWith("vault-"),
		Ring:     Ring{Mode: crypto.Copies, MinCopies: 1, Epoch: 1},
		Budgets:  authz.DefaultLimits(),
		Prefetch: crypto.PrefetchConfig{MaxKeys: 4096, MaxAge: 30 * time.Second}, // some 6 MB
		// The shortest deregistration that load balancers notice, and the longest request.
		Tracing:      Tracing{Sample: 0.01},
		Repair:       Repair{Rate: 200},
		Drain:        Drain{Wait: 5 * time.Second, Timeout: 30 * time.Second},
		ErasureQuiet: 30 * time.Second,
	}
}
