package simulation

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"piivault/internal/crypto"
	"piivault/internal/crypto/localkms"
	"piivault/internal/dynamo"
)

// The ids of each region's KMS keys: that of its first rings, what replaces it,
// its replica of a multi-Region key, and the tenant's own.
const (
	firstKey  = "first"
	nextKey   = "next"
	replica   = "mrk-all"
	tenantKey = "tenant"
)

// change is what a ring differs in from the one before it.
type change string

// The changes of a ring.
const (
	joins    change = "a region joins the ring"
	leaves   change = "a region leaves the ring"
	isLost   change = "a region is lost for good"
	replaced change = "a region's key is replaced"
	toOne    change = "copies become multi_region"
	toCopies change = "multi_region becomes copies"
	toOwn    change = "a tenant gets keys of its own"
	toShared change = "a tenant gives up its own keys"
)

// kmsTimeout is how long a KMS call may take. It never ends together with a tick.
const kmsTimeout = 1013 * time.Millisecond

// ring is what the configuration says of one epoch.
type ring struct {
	change   change
	members  []*region
	mode     crypto.Mode
	replaced *region // its key here is the next one
	own      bool    // the tenant has keys of its own
}

// key is the ARN of a region's key in the ring.
func (g *ring) key(r *region) string {
	switch {
	case g.mode == crypto.MultiRegion:
		return arnOf(r, replica)
	case g.replaced == r:
		return arnOf(r, nextKey)
	default:
		return arnOf(r, firstKey)
	}
}

// sameKeys reports that two rings wrap the tenant's data keys alike.
func (g *ring) sameKeys(other *ring) bool {
	if !slices.Equal(g.members, other.members) || g.mode != other.mode || g.own != other.own {
		return false
	}
	return g.own || !slices.ContainsFunc(g.members, func(r *region) bool { return g.key(r) != other.key(r) })
}

func arnOf(r *region, id string) string { return arnIn(r.keys, id) }

func arnIn(keys *localkms.KMS, id string) string {
	all := keys.Keys()
	return all[slices.IndexFunc(all, func(arn string) bool { return strings.HasSuffix(arn, "/"+id) })]
}

// drawRings decides how the ring will change, if it will: a region comes,
// goes or is lost, and keys are replaced or shared in another way, before or after. It is
// drawn apart, so that what else a seed does is the same without.
func (w *World) drawRings() {
	random := rand.New(rand.NewPCG(w.cfg.Seed, 0x4196)) //nolint:gosec // G404: draws schedules
	first := &ring{members: w.regions, mode: crypto.Copies}
	var changes []change
	switch n := random.IntN(4); {
	case n == 0 && (len(w.regions) > 2 || !w.twoRegions):
		changes = append(changes, isLost)
	case n == 1 && len(w.regions) > 2:
		changes = append(changes, joins)
		first.members = w.regions[:len(w.regions)-1]
	case n == 2 && len(w.regions) > 2:
		changes = append(changes, leaves)
	}
	switch random.IntN(6) {
	case 0:
		changes = append(changes, replaced)
	case 1:
		changes = append(changes, toOne)
	case 2:
		changes = append(changes, toCopies)
		first.mode = crypto.MultiRegion
	case 3:
		changes = append(changes, toOwn)
	case 4:
		changes = append(changes, toOwn, toShared)
	}
	if len(changes) == 2 && random.IntN(2) == 0 {
		changes[0], changes[1] = changes[1], changes[0]
	}
	w.epoch, w.rings = 1, []*ring{first}
	for _, c := range changes {
		w.rings = append(w.rings, w.rings[len(w.rings)-1].with(c, w.regions, random))
	}
}

// with is the ring after a change.
func (g *ring) with(c change, all []*region, random *rand.Rand) *ring {
	next := *g
	next.change = c
	switch c {
	case joins:
		next.members = all
	case leaves:
		next.members = all[:len(all)-1]
	case isLost:
		next.members = slices.Delete(slices.Clone(g.members), 0, 1)
		if random.IntN(2) == 0 {
			next.members = g.members[:len(g.members)-1]
		}
	case replaced:
		next.replaced = g.members[random.IntN(len(g.members))]
	case toOne:
		next.mode = crypto.MultiRegion
	case toCopies:
		next.mode = crypto.Copies
	case toOwn, toShared:
		next.own = c == toOwn
	}
	return &next
}

// members are the regions of a ring.
func (w *World) members(epoch int) []*region { return w.rings[epoch-1].members }

// ringConfig is the configuration of an epoch for some of its regions. Keys of
// the rings before and after it are former ones: instances can open what those
// of the next ring write before there are any (docs/operations.md).
func (w *World) ringConfig(epoch int, of []*region, kms func(*region) crypto.KMS) crypto.RingConfig {
	g := w.rings[epoch-1]
	cfg := crypto.RingConfig{Local: of[0].name, Mode: g.mode, Epoch: uint64(epoch)}
	for _, r := range of {
		member := crypto.Region{Name: r.name, KMS: kms(r), KeyARN: g.key(r), Timeout: kmsTimeout}
		for _, other := range w.rings {
			if arn := other.key(r); arn != member.KeyARN && !slices.Contains(member.Former, arn) {
				member.Former = append(member.Former, arn)
			}
		}
		cfg.Regions = append(cfg.Regions, member)
	}
	if w.tenant != "" && w.mayOwn() {
		cfg.Tenants = []crypto.TenantRegions{w.tenantKeys(g, of, cfg.Regions)}
	}
	return cfg
}

// mayOwn reports that the tenant has keys of its own in some ring.
func (w *World) mayOwn() bool {
	return slices.ContainsFunc(w.rings, func(g *ring) bool { return g.own })
}

// tenantKeys are the tenant's keys in a ring: its own, with the shared ones as
// former, or the other way round.
func (w *World) tenantKeys(g *ring, of []*region, shared []crypto.Region) crypto.TenantRegions {
	keys := crypto.TenantRegions{Tenant: w.tenant}
	for i, r := range of {
		own := arnOf(r, tenantKey)
		member := crypto.TenantRegion{Name: r.name, Former: []string{own}}
		if g.own {
			member.KeyARN, member.Former = own, append([]string{shared[i].KeyARN}, shared[i].Former...)
		}
		keys.Regions = append(keys.Regions, member)
	}
	return keys
}

// changeRing makes the next ring the one that instances start with. A region
// is removed when nothing depends on its key alone, and with no instance of the
// old ring left that could make such a record: what they were writing when they
// were stopped counts too. One that is lost for good is removed some time after,
// and with it what it alone could open: its KMS makes no such record any more.
func (w *World) changeRing() {
	if w.epoch == len(w.rings) {
		return
	}
	was, next := w.rings[w.epoch-1], w.rings[w.epoch]
	if next.change == leaves {
		if w.oracle.depends(w.epoch + 1) {
			return
		}
		w.stopAll(w.regions)
		if w.oracle.depends(w.epoch + 1) {
			return
		}
	}
	if next.change == isLost && w.lost == nil {
		w.lose(without(was.members, next.members)[0])
		if !w.healing {
			return
		}
	}
	w.epoch++
	w.tracef("ring %d: %s: %d regions", w.epoch, next.change, len(next.members))
	if next.change != isLost { // that has been counted
		w.oracle.counts[string(next.change)]++
	}
	w.stopAll(without(w.regions, next.members))
	w.oracle.jobsChanged()
	if next.change == leaves || w.healing {
		return // all are stopped, or will be started then
	}
	for _, joined := range without(next.members, was.members) {
		for range joined.instances {
			w.restart(joined)
		}
	}
	if r := pick(w.scheduler, was.members); !r.instances[0].dead.Load() { // the others follow as they are restarted
		w.stop(r.instances[0])
		w.restart(r)
	}
}

func without(all, some []*region) []*region {
	return slices.DeleteFunc(slices.Clone(all), func(r *region) bool { return slices.Contains(some, r) })
}

func (w *World) stopAll(of []*region) {
	for _, r := range of {
		for _, i := range r.instances {
			if !i.dead.Load() {
				w.stop(i)
			}
		}
	}
}

// superseded reports an instance that is not ready, and gets no requests, for
// some region has no record of its ring any more.
func (w *World) superseded(i *instance) bool { return w.oracle.done[i.region] > i.epoch }

// Prepare makes the KMS key files that every run shares.
func Prepare(dir string) error {
	var first *localkms.KMS
	for i, name := range regionNames() {
		random := rand.NewChaCha8([32]byte{byte(i), 'k', 'm', 's'})
		keys, err := localkms.Create(localkms.Config{Path: filepath.Join(dir, name), Region: name, Random: random, FirstKey: firstKey})
		if err == nil {
			_, err = keys.CreateKeyAs(nextKey)
		}
		if err == nil {
			_, err = keys.CreateKeyAs(tenantKey)
		}
		if err == nil && first == nil {
			first = keys
			_, err = keys.CreateKeyAs(replica)
		} else if err == nil {
			_, err = keys.Replicate(first, arnIn(first, replica))
		}
		if err != nil {
			return fmt.Errorf("simulation: %w", err)
		}
	}
	return nil
}

// prove makes the rings by which the oracle judges: each epoch's as a whole and,
// for what a region can open, of each of its regions alone.
func (o *oracle) prove() error {
	kms := func(r *region) crypto.KMS { return r.keys }
	for epoch := 1; epoch <= len(o.w.rings); epoch++ {
		whole, err := crypto.NewRing(o.w.ringConfig(epoch, o.w.members(epoch), kms))
		if err != nil {
			return fmt.Errorf("simulation: %w", err)
		}
		o.rings = append(o.rings, whole)
		alone := map[*region]*crypto.Ring{}
		for _, r := range o.w.members(epoch) {
			if alone[r], err = crypto.NewRing(o.w.ringConfig(epoch, []*region{r}, kms)); err != nil {
				return fmt.Errorf("simulation: %w", err)
			}
		}
		o.alone = append(o.alone, alone)
	}
	return nil
}

// opens are the regions of an epoch's ring whose keys, former ones too, open a
// message.
func (o *oracle) opens(epoch int, m *crypto.Message) (names []string) {
	for _, r := range o.w.members(epoch) {
		if o.alone[epoch-1][r].Opens(m) {
			names = append(names, r.name)
		}
	}
	return names
}

// opensIn is opens for a row's message; nil where it is none.
func (o *oracle) opensIn(epoch int, item dynamo.Item, attribute string) []string {
	m, err := crypto.Parse(dynamo.Read(item).Bytes(attribute))
	if err != nil {
		return nil
	}
	return o.opens(epoch, m)
}
