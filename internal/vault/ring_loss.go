package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// ErrRingLoses reports a new key ring under which some record or tenant secret
// could be opened by nobody, or too much to tell in the time of a start: its
// regions' copies must be made before the others leave. Config.AcceptLoss
// overrides it.
var ErrRingLoses = errors.New("vault: there are records or tenant secrets that no region of the configured key ring could open")

const (
	// lossRecords bounds the records that a look for losses reads, and
	// lossAtOnce how many at a time.
	lossRecords = 10_000
	lossAtOnce  = 16
)

// RingCheck looks, before a ring is taken into use, for what none of its
// regions could open, in one region's tables.
type RingCheck struct {
	Ring    *crypto.Ring
	Control authz.Control
	Table   store.Store
	Now     func() time.Time
}

// RingLoss counts what would be lost with a ring.
type RingLoss struct {
	Secrets, Records int
	// Unknown: there is more to look at than lossRecords.
	Unknown bool
}

// None reports that nothing would be.
func (l RingLoss) None() bool { return l == RingLoss{} }

// Loss is what would be lost with this ring. It is zero for one that is in use
// already, and for a deployment's first. It looks at every tenant secret, at
// the records that lack the copy of one of the ring's regions and, where the
// last ring change is not done in this region, at those of older epochs. Of
// records that are not in this region's table yet it knows nothing.
func (c RingCheck) Loss(ctx context.Context) (RingLoss, error) {
	last, first, err := c.before(ctx)
	if err != nil || last == 0 {
		return RingLoss{}, err
	}
	l := looking{RingCheck: c, seen: map[store.Key]bool{}}
	if err := l.secrets(ctx); err != nil {
		return RingLoss{}, err
	}
	for _, region := range c.Ring.Names() {
		if err := l.gaps(ctx, region); err != nil {
			return RingLoss{}, err
		}
	}
	if first < last {
		err = l.outdated(ctx, last)
	}
	return l.RingLoss, err
}

// before are the last epoch and the first that were claimed before the ring's;
// 0 where there is none, or the ring's is claimed, too.
func (c RingCheck) before(ctx context.Context) (last, first uint64, err error) {
	claimed := false
	err = eachItem(ctx, c.Control, authz.KindRing, "", func(item authz.Item) error {
		switch epoch, err := strconv.ParseUint(item.ID, 10, 64); {
		case err == nil && epoch == c.Ring.Epoch():
			claimed = true
		case err == nil && epoch < c.Ring.Epoch():
			last = epoch
			first = cmp.Or(first, epoch)
		}
		return nil
	})
	if claimed {
		return 0, 0, err
	}
	return last, first, err
}

// looking is a look under way.
type looking struct {
	RingCheck
	read int
	seen map[store.Key]bool

	mu sync.Mutex // guards RingLoss while records are read
	RingLoss
}

func (l *looking) secrets(ctx context.Context) error {
	return eachItem(ctx, l.Control, authz.KindTenantSecret, "", func(item authz.Item) error {
		if !l.opens(item.Body) {
			l.Secrets++
		}
		return nil
	})
}

// opens is true for what is no message: no ring opens that.
func (l *looking) opens(message []byte) bool {
	m, err := crypto.Parse(message)
	return err != nil || l.Ring.Opens(m)
}

// gaps looks at the records that lack a region's copy.
func (l *looking) gaps(ctx context.Context, region string) error {
	for page := (store.Page{Limit: repairPage}); !l.Unknown; {
		keys, next, err := l.Table.Degraded(ctx, region, page)
		if err == nil {
			err = l.records(ctx, keys)
		}
		if err != nil || next == "" {
			return err
		}
		page.After = next
	}
	return nil
}

// outdated looks at the records of epochs before the last, unless its change is done here.
func (l *looking) outdated(ctx context.Context, last uint64) error {
	_, err := l.Control.Get(ctx, authz.KindRingDone, ringID(last)+"#"+l.Ring.Local())
	if !errors.Is(err, authz.ErrNotFound) {
		return err
	}
	part := store.Part{Segments: 1, Below: last}
	for page := (store.Page{Limit: scanPage}); !l.Unknown; {
		rows, next, err := l.Table.Scan(ctx, part, page)
		if err != nil {
			return err
		}
		keys := make([]store.Key, len(rows))
		for i, row := range rows {
			keys[i] = row.Key
		}
		if err := l.records(ctx, keys); err != nil || next == "" {
			return err
		}
		page.After = next
	}
	return nil
}

// records reads each that was not looked at and counts those that are lost.
// What has expired or is buried cannot be.
func (l *looking) records(ctx context.Context, keys []store.Key) error {
	now := l.Now().UnixMilli()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lossAtOnce)
	for _, key := range keys {
		if l.seen[key] {
			continue
		}
		if l.read++; l.read > lossRecords {
			l.Unknown = true
			break
		}
		l.seen[key] = true
		group.Go(func() error {
			r, buried, err := l.Table.Get(ctx, key)
			if err != nil || r == nil || buried || r.Expires != 0 && r.Expires <= now || l.opens(r.Message) {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.Records++
			return nil
		})
	}
	return group.Wait()
}

// ringLoses fails where the configured ring is new and would lose something.
func (v *Vault) ringLoses(ctx context.Context) error {
	if v.AcceptLoss {
		return nil
	}
	loss, err := RingCheck{Ring: v.Ring, Control: v.control, Table: v.local, Now: v.Now}.Loss(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("vault: look for what the ring would lose: %w", err)
	case loss.None():
		return nil
	}
	var more string
	if loss.Unknown {
		more = ", and more than can be looked at: repair first"
	}
	return fmt.Errorf("%w: %d records, %d tenant secrets%s", ErrRingLoses, loss.Records, loss.Secrets, more)
}
