package crypto

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// labelRing starts the hash of a keyset that ring epochs record.
const labelRing = "piivault/ring/v1"

// Keyset is the keys that wrap a tenant's data keys, one in each region of the
// ring: its own, or those that all tenants without own ones share. What one
// keyset's key refuses says nothing of another's. It is safe for concurrent use.
type Keyset struct {
	ring    *Ring
	tenant  string    // "": all that have none of their own
	own     bool      // its keys are not the ring's
	regions []*region // as configured
	order   []*region // local first
	hash    string
	// decisions counts the denials that began or ended: a data key that was
	// kept or prepared at an earlier count is dropped.
	decisions atomic.Uint64
}

// For returns the keys that wrap a tenant's data keys.
func (r *Ring) For(tenant string) *Keyset {
	if ks := r.tenants[tenant]; ks != nil {
		return ks
	}
	return r.keys
}

func (r *Ring) keysOf(tenant []byte) *Keyset {
	if ks := r.tenants[string(tenant)]; ks != nil {
		return ks
	}
	return r.keys
}

// Tenants are those with keys of their own, or with former ones, sorted.
func (r *Ring) Tenants() []string { return slices.Sorted(maps.Keys(r.tenants)) }

// setKeys makes the keysets, and has no two tenants share a key.
func (r *Ring) setKeys(c RingConfig) error {
	r.keys = &Keyset{ring: r}
	for i, m := range c.Regions {
		if err := r.keys.add(r.sites[i], m.KeyARN, m.Former); err != nil {
			return fmt.Errorf("region %q: %w", m.Name, err)
		}
	}
	if err := r.keys.finish(); err != nil {
		return err
	}
	if len(c.Tenants) > 0 {
		r.tenants = make(map[string]*Keyset, len(c.Tenants))
	}
	for _, t := range c.Tenants {
		if err := r.addTenant(t); err != nil {
			return fmt.Errorf("tenant %q: %w", t.Tenant, err)
		}
	}
	for i, s := range r.sites {
		s.first = r.keys.regions[i]
		for _, tenant := range r.Tenants() {
			s.tenants = append(s.tenants, r.tenants[tenant].regions[i])
		}
	}
	return r.apart()
}

func (r *Ring) addTenant(t TenantRegions) error {
	switch {
	case t.Tenant == "" || strings.ContainsFunc(t.Tenant, func(c rune) bool { return c <= ' ' || c > '~' }):
		return errors.New("this is no tenant's id")
	case r.tenants[t.Tenant] != nil:
		return errors.New("it has keys already")
	case len(t.Regions) != len(r.names):
		return errors.New("every region of the ring must be named, once")
	}
	ks := &Keyset{ring: r, tenant: t.Tenant, own: t.Regions[0].KeyARN != ""}
	for i, name := range r.names {
		at := slices.IndexFunc(t.Regions, func(m TenantRegion) bool { return m.Name == name })
		if at < 0 {
			return fmt.Errorf("region %q is not named", name)
		}
		m := t.Regions[at]
		if (m.KeyARN != "") != ks.own {
			return errors.New("it must have a key of its own in every region, or in none")
		}
		if !ks.own {
			shared := r.keys.regions[i]
			m.KeyARN = shared.key.text
			for _, former := range shared.former {
				m.Former = append(slices.Clone(m.Former), former.text)
			}
		}
		if err := ks.add(r.sites[i], m.KeyARN, m.Former); err != nil {
			return fmt.Errorf("region %q: %w", name, err)
		}
	}
	r.tenants[t.Tenant] = ks
	return ks.finish()
}

func (ks *Keyset) add(s *site, keyARN string, former []string) error {
	g := &region{site: s, of: ks}
	var err error
	if g.key, err = parseARN(keyARN); err != nil {
		return err
	}
	for _, text := range former {
		key, err := parseARN(text)
		if err != nil {
			return fmt.Errorf("former key: %w", err)
		}
		g.former = append(g.former, key)
	}
	ks.regions = append(ks.regions, g)
	return nil
}

// finish validates the keys against each other and the mode.
func (ks *Keyset) finish() error {
	first := ks.regions[0].key
	for i, g := range ks.regions {
		if ks.ring.mode == MultiRegion && (!first.multiRegion() || !first.opens([]byte(g.key.text))) {
			return fmt.Errorf("%s: not a replica of the multi-Region key", g.name)
		}
		for _, h := range ks.regions[:i] {
			if g.key.text == h.key.text || (ks.ring.mode == Copies && g.key.opens([]byte(h.key.text))) {
				return fmt.Errorf("%s and %s share a key", h.name, g.name)
			}
		}
	}
	ks.order = make([]*region, len(ks.regions))
	for _, g := range ks.regions {
		ks.order[g.rank] = g
	}
	ks.hash = ks.fingerprint()
	return nil
}

// errShared reports a key that is not one tenant's alone.
var errShared = errors.New("its key is another's too")

// apart refuses a key of a tenant's that is another's, or the ring's; but the
// ring's keys may be anybody's former ones.
func (r *Ring) apart() error {
	owner := map[string]*Keyset{}
	claim := func(key keyARN, ks *Keyset) bool {
		id := key.identity()
		if owner[id] == nil {
			owner[id] = ks
		}
		return owner[id] == ks
	}
	for _, g := range r.keys.regions {
		claim(g.key, r.keys)
		for _, former := range g.former {
			claim(former, r.keys)
		}
	}
	for _, tenant := range r.Tenants() {
		for _, g := range r.tenants[tenant].regions {
			if r.tenants[tenant].own && !claim(g.key, g.of) {
				return fmt.Errorf("tenant %q: region %q: %w", tenant, g.name, errShared)
			}
		}
	}
	for _, tenant := range r.Tenants() {
		for _, g := range r.tenants[tenant].regions {
			for _, former := range g.former {
				if !claim(former, g.of) && owner[former.identity()] != r.keys {
					return fmt.Errorf("tenant %q: region %q: former key: %w", tenant, g.name, errShared)
				}
			}
		}
	}
	return nil
}

// fingerprint hashes the ordered regions, their ARNs and the mode.
func (ks *Keyset) fingerprint() string {
	b := appendField16([]byte(labelRing), string(ks.ring.mode))
	for _, g := range ks.regions {
		b = appendField16(appendField16(b, g.name), g.key.text)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// fingerprint is the ring's keys' hash and, below it, a line for each tenant
// with keys of its own.
func (r *Ring) fingerprint() string {
	lines := []string{r.keys.hash}
	for _, tenant := range r.Tenants() {
		if ks := r.tenants[tenant]; ks.own {
			lines = append(lines, tenant+" "+ks.hash)
		}
	}
	return strings.Join(lines, "\n")
}

// Hash is a ring's hash taken apart.
type Hash struct {
	keys    string
	tenants map[string]string
}

// ParseHash reads what Ring.Hash returned, of whatever ring. Of what is no
// such hash every tenant's keys are others.
func ParseHash(text string) Hash {
	lines := strings.Split(text, "\n")
	h := Hash{keys: lines[0], tenants: make(map[string]string, len(lines)-1)}
	for _, line := range lines[1:] {
		tenant, hash, ok := strings.Cut(line, " ")
		if !ok {
			return Hash{}
		}
		h.tenants[tenant] = hash
	}
	return h
}

// SameKeys reports that a ring with this hash wraps the tenant's data keys under
// the same keys in the same regions as this one.
func (r *Ring) SameKeys(tenant string, h Hash) bool {
	hash, own := h.tenants[tenant]
	if !own {
		hash = h.keys
	}
	return hash == r.For(tenant).hash
}

// Health is what the ring knows of each region, in its order: of its KMS, and
// of this keyset's key there.
func (ks *Keyset) Health() []RegionHealth {
	health := make([]RegionHealth, len(ks.regions))
	for i, g := range ks.regions {
		health[i] = g.health()
	}
	return health
}

// State is that of one region, Down where the ring has no such region.
func (ks *Keyset) State(region string) State {
	for _, g := range ks.regions {
		if g.name == region {
			return g.state()
		}
	}
	return Down
}

// Copies is Ring.Copies for a message of this keyset's tenant.
func (ks *Keyset) Copies(m *Message) (present, missing []string) { return ks.split(m.keys) }

// split sorts the ring's names by whether a copy serves them.
func (ks *Keyset) split(keys []encryptedKey) (present, missing []string) {
	for _, g := range ks.regions {
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

// willing reports that none of its keys refuses, as far as a new data key needs them.
func (ks *Keyset) willing() bool {
	return ks.ring.mode == MultiRegion || !slices.ContainsFunc(ks.regions, (*region).refuses)
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
