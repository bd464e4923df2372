package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// kmsTiming measures the calls to every region's KMS.
type kmsTiming struct{ seconds *prometheus.HistogramVec }

func newKMSTiming(region string) *kmsTiming {
	return &kmsTiming{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "vault_kms_seconds", Help: "Duration of KMS calls by the KMS's region, operation and outcome.",
		ConstLabels: prometheus.Labels{"region": region}, Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
	}, []string{"of", "operation", "outcome"})}
}

// observe gives a KMS that measures k. One whose calls do not wait stays as it
// is: there is nothing to measure, and the ring treats it differently.
func (t *kmsTiming) observe(region string, k crypto.KMS) crypto.KMS {
	if _, ok := k.(crypto.Prompt); ok {
		return k
	}
	return &timedKMS{k, region, t.seconds}
}

// readyCollector asks the vault at scrape time which dependency is out.
type readyCollector struct {
	vault *vault.Vault
	up    *prometheus.Desc
}

func newReadyCollector(region string, v *vault.Vault) *readyCollector {
	return &readyCollector{v, prometheus.NewDesc("vault_ready", "1 where the dependency works, as /readyz says.",
		[]string{"dependency"}, prometheus.Labels{"region": region})}
}

// Describe implements prometheus.Collector.
func (c *readyCollector) Describe(out chan<- *prometheus.Desc) { out <- c.up }

// Collect implements prometheus.Collector.
func (c *readyCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	for name, err := range c.vault.Ready(ctx) {
		up := 1.0
		if err != nil {
			up = 0
		}
		out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up, name)
	}
}

// policyCollector tells which policies are in force.
type policyCollector struct {
	source         *authz.PolicySource
	info, failures *prometheus.Desc
}

func newPolicyCollector(region string, s *authz.PolicySource) *policyCollector {
	labels := prometheus.Labels{"region": region}
	return &policyCollector{
		s, prometheus.NewDesc("vault_policy_set_info", "The policies in force, by the hash that audit entries name.", []string{"hash"}, labels),
		prometheus.NewDesc("vault_policy_reload_failures_total", "Changed policy files that were wrong, so that the policies in force stayed.", nil, labels),
	}
}

// Describe implements prometheus.Collector.
func (c *policyCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.info
	out <- c.failures
}

// Collect implements prometheus.Collector.
func (c *policyCollector) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, c.source.Current().Hash())
	out <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(c.source.Failures()))
}

// prefetchCollector reads the counts of data keys made ahead.
type prefetchCollector struct {
	sealer      *crypto.Sealer
	keys, ready *prometheus.Desc
}

func newPrefetchCollector(region string, s *crypto.Sealer) *prefetchCollector {
	labels := prometheus.Labels{"region": region}
	return &prefetchCollector{
		s, prometheus.NewDesc("vault_prefetch_keys_total", "Data keys made ahead (prepared), then used or discarded, and needed while none was ready (missed).",
			[]string{"outcome"}, labels),
		prometheus.NewDesc("vault_prefetch_ready", "Data keys made ahead that wait for their use.", nil, labels),
	}
}

// Describe implements prometheus.Collector.
func (c *prefetchCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.keys
	out <- c.ready
}

// Collect implements prometheus.Collector.
func (c *prefetchCollector) Collect(out chan<- prometheus.Metric) {
	s := c.sealer.Prefetched()
	for outcome, n := range map[string]uint64{"prepared": s.Prepared, "used": s.Used, "discarded": s.Discarded, "missed": s.Missed} {
		out <- prometheus.MustNewConstMetric(c.keys, prometheus.CounterValue, float64(n), outcome)
	}
	out <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, float64(s.Ready))
}

// timedLog measures how long entries take to be durable, which requests wait for.
type timedLog struct {
	audit.Log
	seconds prometheus.Histogram
}

func newTimedLog(region string, log audit.Log) *timedLog {
	return &timedLog{log, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "vault_audit_append_seconds", Help: "Time until appended audit entries were durable, or were refused.",
		ConstLabels: prometheus.Labels{"region": region}, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	})}
}

// Append implements audit.Log.
func (t *timedLog) Append(entries []audit.Entry) audit.Pending {
	return &timedPending{t.Log.Append(entries), t.seconds, time.Now()}
}

type timedPending struct {
	audit.Pending
	seconds prometheus.Histogram
	begun   time.Time // zero once measured
}

// Wait implements audit.Pending.
func (p *timedPending) Wait(ctx context.Context) (audit.Receipt, error) {
	receipt, err := p.Pending.Wait(ctx)
	if !p.begun.IsZero() {
		p.seconds.Observe(time.Since(p.begun).Seconds())
		p.begun = time.Time{}
	}
	return receipt, err
}

// timedKMS implements crypto.KMS.
type timedKMS struct {
	kms     crypto.KMS
	region  string
	seconds *prometheus.HistogramVec
}

func (t *timedKMS) note(operation string, begun time.Time, err error) {
	t.seconds.WithLabelValues(t.region, operation, kmsOutcome(err)).Observe(time.Since(begun).Seconds())
}

func kmsOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, crypto.ErrThrottled):
		return "throttled"
	case errors.Is(err, crypto.ErrDenied):
		return "denied"
	case errors.Is(err, crypto.ErrDisabled):
		return "disabled"
	case errors.Is(err, crypto.ErrInvalidCiphertext):
		return "invalid"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "unreachable"
}

// GenerateDataKey implements crypto.KMS.
func (t *timedKMS) GenerateDataKey(ctx context.Context, keyARN string, ec map[string]string) (secret.Key, []byte, error) {
	begun := time.Now()
	key, ciphertext, err := t.kms.GenerateDataKey(ctx, keyARN, ec)
	t.note("generate", begun, err)
	return key, ciphertext, err
}

// Encrypt implements crypto.KMS.
func (t *timedKMS) Encrypt(ctx context.Context, keyARN string, key secret.Key, ec map[string]string) ([]byte, error) {
	begun := time.Now()
	ciphertext, err := t.kms.Encrypt(ctx, keyARN, key, ec)
	t.note("encrypt", begun, err)
	return ciphertext, err
}

// Decrypt implements crypto.KMS.
func (t *timedKMS) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, ec map[string]string) (secret.Key, error) {
	begun := time.Now()
	key, err := t.kms.Decrypt(ctx, keyARN, ciphertext, ec)
	t.note("decrypt", begun, err)
	return key, err
}

// Check implements crypto.KMS.
func (t *timedKMS) Check(ctx context.Context, keyARN string) error {
	begun := time.Now()
	err := t.kms.Check(ctx, keyARN)
	t.note("check", begun, err)
	return err
}
