package crypto

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
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

const (
	defaultProbeEvery = 2 * time.Second
	// labelRing starts the hash that ring epochs record.
	labelRing = "piivault/ring/v1"
)

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
	// ProbeEvery is the interval of Run's probes; 0: two seconds.
	ProbeEvery time.Duration
	// OnRestored is told of each region that is Up again, from a probe or a
	// call; it must return at once. Optional.
	OnRestored func(region string)
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
	regions    []*region // as configured
	order      []*region // local first
	names      []string  // as configured
	sorted     []string
	mode       Mode
	minCopies  int
	epoch      uint64
	hash       string
	random     io.Reader
	logger     zerolog.Logger
	probeEvery time.Duration
	onRestored func(string)
	// decisions counts the denials that began or ended: a data key that was
	// kept or prepared at an earlier count is dropped.
	decisions atomic.Uint64
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
	local := slices.Index(r.names, c.Local)
	r.order = append([]*region{r.regions[local]}, slices.Delete(slices.Clone(r.regions), local, local+1)...)
	for i, g := range r.order {
		g.rank = i
	}
	r.sorted = slices.Sorted(slices.Values(r.names))
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
	g := &region{name: m.Name, kms: m.KMS, timeout: m.Timeout, changed: r.changed, now: now, since: now()}
	if g.timeout <= 0 {
		g.timeout = defaultTimeout
	}
	g.healthy.Store(true)
	var err error
	if g.key, err = parseARN(m.KeyARN); err != nil {
		return err
	}
	for _, text := range m.Former {
		former, err := parseARN(text)
		if err != nil {
			return fmt.Errorf("former key: %w", err)
		}
		g.former = append(g.former, former)
	}
	r.regions, r.names = append(r.regions, g), append(r.names, m.Name)
	return nil
}

func (r *Ring) validate(c RingConfig) error {
	switch {
	case len(r.regions) == 0 || len(r.regions) > MaxCopies:
		return fmt.Errorf("%d regions, not 1 to %d", len(r.regions), MaxCopies)
	case !slices.Contains(r.names, c.Local):
		return errors.New("the local region is not a member")
	case c.Mode != Copies && c.Mode != MultiRegion:
		return errors.New("unknown mode")
	case r.minCopies > len(r.regions):
		return errors.New("min_copies is more than there are regions")
	}
	first := r.regions[0].key
	for i, g := range r.regions {
		if c.Mode == MultiRegion && (!first.multiRegion() || !first.opens([]byte(g.key.text))) {
			return fmt.Errorf("%s: not a replica of the multi-Region key", g.name)
		}
		for _, h := range r.regions[:i] {
			if g.key.text == h.key.text || (c.Mode == Copies && g.key.opens([]byte(h.key.text))) {
				return fmt.Errorf("%s and %s share a key", h.name, g.name)
			}
		}
	}
	return nil
}

// fingerprint hashes the ordered regions, their ARNs and the mode.
func (r *Ring) fingerprint() string {
	b := appendField16([]byte(labelRing), string(r.mode))
	for _, g := range r.regions {
		b = appendField16(appendField16(b, g.name), g.key.text)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Names are the regions in the ring's order.
func (r *Ring) Names() []string { return slices.Clone(r.names) }

// Local is the region this instance runs in.
func (r *Ring) Local() string { return r.order[0].name }

// Epoch is the configured ring epoch.
func (r *Ring) Epoch() uint64 { return r.epoch }

// Hash identifies the ordered regions, their keys and the mode, alike in every
// region: base64url of SHA-256 (docs/design/format.md §1).
func (r *Ring) Hash() string { return r.hash }

// Health is what the ring knows of each region, in the ring's order.
func (r *Ring) Health() []RegionHealth {
	health := make([]RegionHealth, len(r.regions))
	for i, g := range r.regions {
		health[i] = g.health()
	}
	return health
}

// Copies says which regions have a copy of the message's data key under their
// present key, and which have none: sorted, missing nil if none is. A copy
// under a former key counts as missing: it opens, and repair replaces it.
func (r *Ring) Copies(m *Message) (present, missing []string) {
	return r.split(m.keys)
}

// split sorts the ring's names by whether a copy serves them.
func (r *Ring) split(keys []encryptedKey) (present, missing []string) {
	for _, g := range r.regions {
		if copyUnder(keys, g.key) != nil {
			present = append(present, g.name)
		} else {
			missing = append(missing, g.name)
		}
	}
	slices.Sort(present)
	slices.Sort(missing)
	return present, missing
}

func (k encryptedKey) isFor(key keyARN) bool {
	return string(k.provider) == providerID && key.opens(k.info)
}

// copyUnder finds the copy that a key opens, nil where there is none.
func copyUnder(keys []encryptedKey, key keyARN) *encryptedKey {
	for i := range keys {
		if keys[i].isFor(key) {
			return &keys[i]
		}
	}
	return nil
}

// prompt reports that no region's KMS waits for anything at present.
func (r *Ring) prompt() bool {
	return !slices.ContainsFunc(r.regions, func(g *region) bool { return !g.newCall(false).inline })
}

// whole reports that a data key made now would have every copy.
func (r *Ring) whole() bool {
	return r.mode == MultiRegion || !slices.ContainsFunc(r.regions, func(g *region) bool { return !g.healthy.Load() })
}

// changed is told of every transition of a region, in no particular order when they race.
func (r *Ring) changed(g *region, t transition) {
	if t.decided {
		r.decisions.Add(1)
	}
	if t.from == t.to {
		return
	}
	level := zerolog.WarnLevel
	if t.to == Up {
		level = zerolog.InfoLevel
	}
	r.logger.WithLevel(level).Str("region", g.name).Str("from", string(t.from)).Str("to", string(t.to)).Msg("kms state changed")
	if t.to == Up {
		r.onRestored(g.name)
	}
}
