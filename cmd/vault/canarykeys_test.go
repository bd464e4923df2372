package main

import (
	"path/filepath"

	"github.com/rs/zerolog"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/sim"
	"piivault/internal/vault"
)

// makeKeys makes a KMS in each region and, once there is the tenant whose id
// the key ring is to name, keys of its own.
func (c *canaries) makeKeys(dir string) {
	c.t.Helper()
	for _, region := range devRegions() {
		k, err := localkms.Create(localkms.Config{Path: filepath.Join(c.t.TempDir(), "keys.json"), Region: region})
		if err != nil {
			c.t.Fatal(err)
		}
		c.kms = append(c.kms, k)
	}
	world, err := sim.Open(c.t.Context(), sim.Config{
		Dir: dir, Regions: devRegions(), Logger: zerolog.Nop(), Wrap: func(region string, cfg *vault.Config) { c.useRing(region, cfg) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := world.Bootstrap(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	principal, err := world.Regions[0].Vault.Authenticate(c.t.Context(), vault.Credentials{Bearer: root})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := world.Close(); err != nil {
		c.t.Fatal(err)
	}
	own := crypto.TenantRegions{Tenant: principal.Tenant}
	for i, region := range devRegions() {
		shared := c.kms[i].Keys()[0]
		arn, err := c.kms[i].CreateKeyAs("own") // sorts behind the shared one, which is hexadecimal
		if err != nil {
			c.t.Fatal(err)
		}
		own.Regions = append(own.Regions, crypto.TenantRegion{Name: region, KeyARN: arn, Former: []string{shared}})
	}
	c.own = []crypto.TenantRegions{own}
}

// useRing gives a region's vault the key ring as the region sees it.
func (c *canaries) useRing(region string, cfg *vault.Config) *crypto.Ring {
	c.t.Helper()
	rc := crypto.RingConfig{Local: region, Mode: crypto.Copies, Epoch: uint64(1 + len(c.own)), Tenants: c.own, Logger: cfg.Logger}
	for i, name := range devRegions() {
		rc.Regions = append(rc.Regions, crypto.Region{Name: name, KMS: c.kms[i], KeyARN: c.kms[i].Keys()[0]})
	}
	ring, err := crypto.NewRing(rc)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg.Ring, cfg.Sealer = ring, crypto.NewSealer(ring, nil, nil)
	return ring
}

// fault has every KMS misbehave, or work again.
func (c *canaries) fault(on bool, f localkms.Fault) {
	if !on {
		f = localkms.Up
	}
	for _, k := range c.kms {
		k.SetFault(f, 0)
	}
	if !on {
		c.heal()
	}
}

// disable switches the tenant's own keys.
func (c *canaries) disable(on bool) {
	for i, k := range c.kms {
		if err := k.SetDisabled(c.own[0].Regions[i].KeyARN, on); err != nil {
			c.t.Error(err)
		}
	}
	if !on {
		c.heal()
	}
}

// heal has the ring find out that every KMS works. That one does not, requests
// find out.
func (c *canaries) heal() {
	const trials = 10 // that a breaker asks for, and more
	for range trials {
		c.ring.Probe(c.t.Context())
	}
	for _, h := range c.ring.For(c.own[0].Tenant).Health() {
		if h.State != crypto.Up {
			c.t.Errorf("%s is %s", h.Name, h.State)
		}
	}
}

// stop is the kill switch.
func (c *canaries) stop(on bool) {
	var ignored struct{}
	path := "/v1/resume"
	if on {
		path = "/v1/stop"
	}
	c.must(path, `{"reason":"a drill"}`, &ignored)
}
