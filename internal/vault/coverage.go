package vault

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// actionCoverage is what a look at the coverage is called in the audit log.
const actionCoverage = "coverage"

// coverageScans is how many segments of the table are counted at once.
const coverageScans = 4

// CoverageResult says what would stay readable, counted to the record: what
// was written while it was counted may be in it or not. What expired is not
// counted; what was erased is until it is swept, a minute later.
type CoverageResult struct {
	CountedAt     time.Time // when the count began
	Epoch         uint64    // of this instance's ring
	Records       int
	Unreadable    int // records that no region can open now
	Degraded      int // records that lack some region's copy
	Outdated      int // records that an older ring wrapped for other keys
	TenantSecrets int
	Regions       []RegionCoverage // in the ring's order
}

// RegionCoverage is what losing a region, or its KMS, would mean.
type RegionCoverage struct {
	Name          string
	KMS           string // up, down, denied
	MissingCopies int    // records without this region's copy
	// IfLost: records, and SecretsIfLost tenant secrets, that none of the
	// other regions could open: a copy under a key that is denied or out of
	// reach counts for nothing.
	IfLost, SecretsIfLost int
	// Lag is how much of what the region wrote is at most not here yet, in
	// time; LagKnown is false for the local region and where none was heard of.
	Lag      time.Duration
	LagKnown bool
}

// Coverage counts this region's table, which is read as a whole.
func (v *Vault) Coverage(ctx context.Context, c Call) (CoverageResult, error) {
	if err := v.allow(ctx, c, authz.ActionRepair); err != nil {
		return CoverageResult{}, err
	}
	if err := v.permitted(ctx, c, authz.ActionRepair, actionCoverage); err != nil {
		return CoverageResult{}, err
	}
	count := v.newCoverage()
	var err error
	if count.rings, err = v.rings(ctx); err == nil {
		err = count.secrets(ctx)
	}
	if err == nil {
		err = count.scan(ctx)
	}
	if err != nil {
		return CoverageResult{}, unavailable("unavailable", err)
	}
	lag, err := v.ReplicationLag(ctx)
	if err != nil {
		return CoverageResult{}, err
	}
	for i := range count.Regions {
		r := &count.Regions[i]
		behind, known := lag[r.Name]
		r.Lag, r.LagKnown = behind, known
	}
	return count.CoverageResult, nil
}

// coverage is a count under way.
type coverage struct {
	v     *Vault
	now   int64
	rings rings
	up    map[string][]string // by tenant with keys of its own, "" for all others: regions whose key opens now

	mu             sync.Mutex // guards the result
	CoverageResult            // what was counted
}

func (v *Vault) newCoverage() *coverage {
	now := v.Now()
	c := &coverage{v: v, now: now.UnixMilli(), CoverageResult: CoverageResult{CountedAt: now, Epoch: v.Ring.Epoch()}}
	for _, h := range v.Ring.Health() {
		c.Regions = append(c.Regions, RegionCoverage{Name: h.Name, KMS: kmsState(h.State)})
	}
	c.up = map[string][]string{}
	for _, tenant := range append(v.Ring.Tenants(), "") {
		c.up[tenant] = nil // has keys of its own, whether they open or not
		for _, h := range v.Ring.For(tenant).Health() {
			if h.State == crypto.Up {
				c.up[tenant] = append(c.up[tenant], h.Name)
			}
		}
	}
	return c
}

// lostWith says for each region whether it is the last that opens what lacks
// these copies of a tenant's, and whether anything does.
func (c *coverage) lostWith(tenant string, missing []string, lost func(region int)) (readable bool) {
	up, own := c.up[tenant]
	if !own {
		up = c.up[""]
	}
	var open []string
	for _, region := range up {
		if !slices.Contains(missing, region) {
			open = append(open, region)
		}
	}
	for i := range c.Regions {
		if len(open) == 0 || len(open) == 1 && open[0] == c.Regions[i].Name {
			lost(i)
		}
	}
	return len(open) > 0
}

func (c *coverage) secrets(ctx context.Context) error {
	return eachItem(ctx, c.v.control, authz.KindTenantSecret, "", func(item authz.Item) error {
		c.TenantSecrets++
		c.lostWith(item.ID, c.v.missingIn(item.Body), func(i int) { c.Regions[i].SecretsIfLost++ })
		return nil
	})
}

// missingIn is all regions for what is no message.
func (v *Vault) missingIn(message []byte) []string {
	m, err := crypto.Parse(message)
	if err != nil {
		return v.Ring.Names()
	}
	_, missing := v.Ring.Copies(m)
	return missing
}

func (c *coverage) scan(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(coverageScans)
	for segment := range scanSegments {
		group.Go(func() error {
			return c.v.scanPart(ctx, store.Part{Segment: segment, Segments: scanSegments}, func(rows []store.Row) error {
				return c.rows(ctx, rows)
			})
		})
	}
	return group.Wait()
}

func (c *coverage) rows(ctx context.Context, rows []store.Row) error {
	for _, row := range rows {
		if row.Expires != 0 && row.Expires <= c.now {
			continue
		}
		missing := row.Missing
		outdated := c.v.outdated(c.rings, row.Tenant, row.RingEpoch)
		if outdated || row.RingEpoch > c.Epoch { // its row speaks of another ring
			r, _, err := c.v.local.Get(ctx, row.Key)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			missing = c.v.missingIn(r.Message)
		}
		c.add(row, missing, outdated)
	}
	return nil
}

func (c *coverage) add(row store.Row, missing []string, outdated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Records++
	if outdated {
		c.Outdated++
	}
	if len(missing) > 0 {
		c.Degraded++
	}
	for i := range c.Regions {
		if slices.Contains(missing, c.Regions[i].Name) {
			c.Regions[i].MissingCopies++
		}
	}
	if !c.lostWith(row.Tenant, missing, func(i int) { c.Regions[i].IfLost++ }) {
		c.Unreadable++
	}
}
