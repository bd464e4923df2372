package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/authz"
	"piivault/internal/authz/oidc"
	"piivault/internal/vault"
)

// signIns make an instance's SignIn, once it has its tables and keys.
func (i *instance) signIns(cfg *config.Config, s surroundings, v *vault.Config) (err error) {
	c := authz.SignInConfig{
		Keys: v.Keys, Tenants: v.Controls[0].Control, Certificates: cfg.SignIn.Certificates, Failures: cfg.SignIn.Failures,
		Now: s.now, Logger: s.logger,
	}
	if i.issuers, err = oidc.New(oidc.Config{Issuers: cfg.SignIn.Issuers, Now: s.now, Logger: s.logger}); err != nil {
		return err
	}
	if len(cfg.SignIn.Issuers) > 0 {
		c.Tokens = i.issuers
	}
	v.SignIn, err = authz.NewSignIn(c)
	return err
}

// Run does the background work of the vault and of signing in.
func (i *instance) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { i.Vault.Run(ctx) })
	wg.Go(func() { i.issuers.Run(ctx) })
	wg.Wait()
}

// signInCollector reads the counts of sign-ins and the state of issuers' keys.
type signInCollector struct {
	signIn                 *authz.SignIn
	issuers                *oidc.Issuers
	now                    func() time.Time
	attempts, age, fetches *prometheus.Desc
}

func newSignInCollector(region string, i *instance) *signInCollector {
	labels := prometheus.Labels{"region": region}
	return &signInCollector{
		i.SignIn, i.issuers, time.Now,
		prometheus.NewDesc("vault_sign_ins_total", "Sign-ins by method and outcome: limited were not looked at, as their address failed too often.", []string{"method", "outcome"}, labels),
		prometheus.NewDesc("vault_oidc_keys_age_seconds", "Time since the issuer's key set was last read. Absent where it never was.", []string{"issuer"}, labels),
		prometheus.NewDesc("vault_oidc_reads_total", "Readings of the issuer's key set.", []string{"issuer", "outcome"}, labels),
	}
}

// Describe implements prometheus.Collector.
func (c *signInCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.attempts
	out <- c.age
	out <- c.fetches
}

// Collect implements prometheus.Collector.
func (c *signInCollector) Collect(out chan<- prometheus.Metric) {
	for _, n := range c.signIn.Counts() {
		out <- prometheus.MustNewConstMetric(c.attempts, prometheus.CounterValue, float64(n.N), n.Method, n.Outcome)
	}
	for _, st := range c.issuers.Status() {
		out <- prometheus.MustNewConstMetric(c.fetches, prometheus.CounterValue, float64(st.Failed), st.Issuer, "failed")
		out <- prometheus.MustNewConstMetric(c.fetches, prometheus.CounterValue, float64(st.Fetches-st.Failed), st.Issuer, "ok")
		if !st.Read.IsZero() {
			out <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, c.now().Sub(st.Read).Seconds(), st.Issuer)
		}
	}
}
