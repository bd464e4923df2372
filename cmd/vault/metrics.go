package main

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"piivault/internal/crypto"
	"piivault/internal/vault"
)

// metrics is one instance's registry. Labels are routes, statuses and region
// names: nothing that a client sent.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

// scrapeTimeout bounds what a scrape asks the store.
const scrapeTimeout = 2 * time.Second

func newMetrics(region string, v *vault.Vault) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vault_request_seconds", Help: "Duration of requests by route and status.",
			ConstLabels: prometheus.Labels{"region": region}, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"route", "status"}),
	}
	m.registry.MustRegister(m.requests, &ringCollector{
		vault:    v,
		up:       prometheus.NewDesc("vault_kms_up", "1 where the region's KMS answers, as this instance sees it.", []string{"of"}, prometheus.Labels{"region": region}),
		denied:   prometheus.NewDesc("vault_tenant_keys_denied", "Tenants whose own key in the region refuses, as this instance sees it.", []string{"of"}, prometheus.Labels{"region": region}),
		degraded: prometheus.NewDesc("vault_missing_copies", "Records of this region's table without the region's key copy.", []string{"of"}, prometheus.Labels{"region": region}),
	}, &lagCollector{v, prometheus.NewDesc("vault_replication_lag_seconds",
		"Age of another region's newest heartbeat that has arrived here: what it wrote is behind by no more. +Inf where none ever arrived.",
		[]string{"of"}, prometheus.Labels{"region": region})},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(_ context.Context, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// ringCollector asks the vault at scrape time.
type ringCollector struct {
	vault                *vault.Vault
	up, denied, degraded *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *ringCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.denied
	out <- c.degraded
}

// Collect implements prometheus.Collector.
func (c *ringCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	state, err := c.vault.Regions(ctx, vault.Call{})
	if err != nil {
		return
	}
	ring := c.vault.Ring
	tenants := ring.Tenants()
	for _, r := range state.Regions {
		denied := 0
		for _, tenant := range tenants {
			if ring.For(tenant).State(r.Name) == crypto.Denied {
				denied++
			}
		}
		out <- prometheus.MustNewConstMetric(c.denied, prometheus.GaugeValue, float64(denied), r.Name)
		up := 0.0
		if r.KMS == "up" {
			up = 1
		}
		out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up, r.Name)
		out <- prometheus.MustNewConstMetric(c.degraded, prometheus.GaugeValue, float64(r.MissingCopies), r.Name)
	}
}

// lagCollector asks the vault at scrape time.
type lagCollector struct {
	vault *vault.Vault
	lag   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *lagCollector) Describe(out chan<- *prometheus.Desc) { out <- c.lag }

// Collect implements prometheus.Collector.
func (c *lagCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	lag, err := c.vault.ReplicationLag(ctx)
	if err != nil {
		return
	}
	for _, other := range c.vault.Others {
		seconds := math.Inf(1)
		if behind, seen := lag[other.Region]; seen {
			seconds = behind.Seconds()
		}
		out <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, seconds, other.Region)
	}
}
