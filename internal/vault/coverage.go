package vault

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
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
	// NextCursor is where to go on, "" when all was counted: the numbers are of
	// what this answer counted, and add up.
	NextCursor string
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

// Coverage counts this region's table, which is read as a whole: as much of it
// as half of ctx's time allows, from the cursor of an answer before or, with "",
// from the start and the tenant secrets with it.
func (v *Vault) Coverage(ctx context.Context, c Call, cursor string) (CoverageResult, error) {
	if err := v.allow(ctx, c, authz.ActionRepair); err != nil {
		return CoverageResult{}, err
	}
	places, ok := parsePlaces(cursor)
	if !ok {
		return CoverageResult{}, badCoverageCursor()
	}
	if err := v.permitted(ctx, c, authz.ActionRepair, actionCoverage); err != nil {
		return CoverageResult{}, err
	}
	count := v.newCoverage()
	var err error
	if count.rings, err = v.rings(ctx); err == nil && cursor == "" {
		err = count.secrets(ctx)
	}
	if err == nil {
		places, err = count.scan(ctx, places)
	}
	switch {
	case errors.Is(err, store.ErrCursor):
		return CoverageResult{}, badCoverageCursor()
	case err != nil:
		return CoverageResult{}, unavailable("unavailable", err)
	}
	count.NextCursor = formatPlaces(places)
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

func badCoverageCursor() error {
	return invalid("invalid_cursor", "cursor must be one that a count of this region returned.")
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

// scan counts from these places on until all is counted or half of the time is
// over, and gives the places from which there is more.
func (c *coverage) scan(ctx context.Context, places []place) (rest []place, err error) {
	enough, cancel := halfTime(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(coverageScans)
	for i := range places {
		group.Go(func() error {
			p := &places[i]
			for !p.done && (i == 0 || enough.Err() == nil) { // each answer gets further
				if err := c.page(ctx, p); err != nil || enough.Err() != nil {
					return err
				}
			}
			return nil
		})
	}
	err = group.Wait()
	return slices.DeleteFunc(places, func(p place) bool { return p.done }), err
}

func (c *coverage) page(ctx context.Context, p *place) error {
	part := store.Part{Segment: p.segment, Segments: scanSegments}
	rows, next, err := c.v.local.Scan(ctx, part, store.Page{After: p.after, Limit: scanPage})
	if err == nil {
		err = c.rows(ctx, rows)
	}
	p.after, p.done = next, next == ""
	return err
}

// halfTime ends when half of the time is over that ctx has left.
func halfTime(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}

// place is where the count of a segment goes on.
type place struct {
	segment int
	after   string // the store's cursor: base64url; "": from the start
	done    bool
}

// A cursor is its places in order: a segment's number, a dot and the store's
// cursor, with tildes between.
const (
	placeSeparator    = "~"
	maxCoverageCursor = 1024 // several times the longest
)

func formatPlaces(places []place) string {
	list := make([]string, len(places))
	for i, p := range places {
		list[i] = strconv.Itoa(p.segment) + "." + p.after
	}
	return strings.Join(list, placeSeparator)
}

// parsePlaces gives the places of a cursor; without one, the start of each segment.
func parsePlaces(cursor string) (places []place, ok bool) {
	if cursor == "" {
		for segment := range scanSegments {
			places = append(places, place{segment: segment})
		}
		return places, true
	}
	if len(cursor) > maxCoverageCursor {
		return nil, false
	}
	last := -1
	for text := range strings.SplitSeq(cursor, placeSeparator) {
		number, after, found := strings.Cut(text, ".")
		segment, err := strconv.Atoi(number)
		if !found || err != nil || strconv.Itoa(segment) != number || segment <= last || segment >= scanSegments {
			return nil, false
		}
		places, last = append(places, place{segment: segment, after: after}), segment
	}
	return places, true
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
