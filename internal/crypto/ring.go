package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// Mode is how the ring's regions share data keys.
type Mode string

// The modes of a ring.
const (
	// Copies: a key per region, and a copy of each data key under each of them.
	Copies Mode = "copies"
	// MultiRegion: replicas of one multi-Region key; one copy, which each region opens with its own.
	MultiRegion Mode = "multi_region"
)

const defaultProbeEvery = 2 * time.Second

// Region is one member of a ring.
type Region struct {
	Name   string
	KMS    KMS
	KeyARN string
	// Former are ARNs of this region's keys that a ring change replaced. Their
	// copies are still opened, so that records stay readable until repair has
	// given them a copy under KeyARN; nothing is written under them.
	Former []string
	// Timeout bounds each call; 0: a second.
	Timeout time.Duration
}

// RingConfig describes a ring. Regions are in the same order everywhere; Local differs.
type RingConfig struct {
	Regions []Region // 1 to MaxCopies
	Local   string   // the region this instance runs in
	Mode    Mode
	// MinCopies is how many regions must be able to open a new record; 0: one.
	MinCopies int
	Epoch     uint64           // what Sealed carries
	Now       func() time.Time // nil: time.Now
	Random    io.Reader        // nil: crypto/rand; safe for concurrent use
	Logger    zerolog.Logger
	// Tenants have keys of their own; all others use those of Regions.
	Tenants []TenantRegions
	// ProbeEvery is the interval of Run's probes; 0: two seconds.
	ProbeEvery time.Duration
	// OnRestored is told of each region that is Up again, from a probe or a
	// call; it must return at once. Optional.
	OnRestored func(region string)
}

// TenantRegions are the keys that wrap one tenant's data keys, in every region
// of the ring.
type TenantRegions struct {
	Tenant  string
	Regions []TenantRegion
}

// TenantRegion is a tenant's key in one region, used by that region's KMS.
type TenantRegion struct {
	Name string
	// KeyARN is no other tenant's. It is given for all regions, or for none:
	// the tenant then uses the ring's keys, and has Former alone.
	KeyARN string
	// Former are ARNs whose copies of this tenant's data keys are still opened,
	// as a Region's are; those of the ring's own keys among them, if need be.
	Former []string
}

// RegionHealth is what the ring last learned of a region.
type RegionHealth struct {
	Name  string
	State State
	Since time.Time
}

// Ring is the ordered set of regional KMS keys that wrap every data key. It is
// safe for concurrent use. Until Run has probed, every region counts as Up.
type Ring struct {
	sites      []*site  // as configured
	names      []string // as configured
	local      int      // of names
	sorted     []string
	mode       Mode
	minCopies  int
	epoch      uint64
	hash       string
	random     io.Reader
	logger     zerolog.Logger
	probeEvery time.Duration
	onRestored func(string)

	keys    *Keyset            // of every tenant but those below
	tenants map[string]*Keyset // tenants with keys of their own, or with former ones
}

// NewRing validates the configuration. It calls no KMS.
func NewRing(c RingConfig) (*Ring, error) {
	r := &Ring{
		mode: c.Mode, minCopies: max(1, c.MinCopies), epoch: c.Epoch, random: c.Random,
		logger: c.Logger, probeEvery: c.ProbeEvery, onRestored: c.OnRestored,
	}
	if r.random == nil {
		r.random = rand.Reader
	}
	if r.probeEvery <= 0 {
		r.probeEvery = defaultProbeEvery
	}
	if r.onRestored == nil {
		r.onRestored = func(string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, m := range c.Regions {
		if err := r.add(m, c.Now); err != nil {
			return nil, fmt.Errorf("crypto: ring: region %q: %w", m.Name, err)
		}
	}
	if err := r.validate(c); err != nil {
		return nil, fmt.Errorf("crypto: ring: %w", err)
	}
	r.local = slices.Index(r.names, c.Local)
	for i, s := range r.sites {
		switch {
		case i < r.local:
			s.rank = i + 1
		case i > r.local:
			s.rank = i
		}
	}
	r.sorted = slices.Sorted(slices.Values(r.names))
	if err := r.setKeys(c); err != nil {
		return nil, fmt.Errorf("crypto: ring: %w", err)
	}
	r.hash = r.fingerprint()
	return r, nil
}

func (r *Ring) add(m Region, now func() time.Time) error {
	if m.Name == "" || slices.Contains(r.names, m.Name) {
		return errors.New("the name is empty or taken")
	}
	if m.KMS == nil {
		return errors.New("no KMS")
	}
	s := &site{name: m.Name, kms: m.KMS, timeout: m.Timeout, changed: r.changed, now: now, since: now()}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	r.sites, r.names = append(r.sites, s), append(r.names, m.Name)
	return nil
}

func (r *Ring) validate(c RingConfig) error {
	switch {
	case len(r.sites) == 0 || len(r.sites) > MaxCopies:
		return fmt.Errorf("%d regions, not 1 to %d", len(r.sites), MaxCopies)
	case !slices.Contains(r.names, c.Local):
		return errors.New("the local region is not a member")
	case c.Mode != Copies && c.Mode != MultiRegion:
		return errors.New("unknown mode")
	case r.minCopies > len(r.sites):
		return errors.New("min_copies is more than there are regions")
	}
	return nil
}

// Names are the regions in the ring's order.
func (r *Ring) Names() []string { return slices.Clone(r.names) }

// Local is the region this instance runs in.
func (r *Ring) Local() string { return r.names[r.local] }

// Epoch is the configured ring epoch.
func (r *Ring) Epoch() uint64 { return r.epoch }

// Hash identifies the ordered regions, their keys and the mode, and each
// tenant's own keys, alike in every region (docs/design/format.md §1). See
// ParseHash.
func (r *Ring) Hash() string { return r.hash }

// Health is what the ring knows of each region, in the ring's order: of its
// KMS, and of the key that tenants without one of their own use.
func (r *Ring) Health() []RegionHealth { return r.keys.Health() }

// Copies says which regions have a copy of the message's data key under its
// tenant's present keys, and which have none: sorted, missing nil if none is.
// A copy under a former key counts as missing: it opens, and repair replaces it.
func (r *Ring) Copies(m *Message) (present, missing []string) {
	return r.keysOf(m.lookup(contextTenant)).Copies(m)
}

// prompt reports that no region's KMS waits for anything at present.
func (r *Ring) prompt() bool {
	return !slices.ContainsFunc(r.sites, func(s *site) bool { return !s.prompt() })
}

// reachable reports that every site that a new data key needs can be asked.
func (r *Ring) reachable() bool {
	return r.mode == MultiRegion || !slices.ContainsFunc(r.sites, func(s *site) bool { return s.down.Load() })
}

// changed is told of every transition of a region, in no particular order when they race.
func (r *Ring) changed(g *region, t transition) {
	if t.decided {
		g.of.decisions.Add(1)
	}
	if t.from != t.to {
		level := zerolog.WarnLevel
		if t.to == Up {
			level = zerolog.InfoLevel
		}
		event := r.logger.WithLevel(level).Str("region", g.name).Str("from", string(t.from)).Str("to", string(t.to))
		if g.of.tenant != "" { // whose own key it is
			event = event.Str("tenant", g.of.tenant)
		}
		event.Msg("kms state changed")
	}
	if t.from != t.to && t.to == Up || t.closed && slices.ContainsFunc(g.tenants, (*region).healthy) {
		r.onRestored(g.name)
	}
}
