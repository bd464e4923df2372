package authz

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shareMargin is how much longer than a poll may be late a ring has to be known
// everywhere before it alone counts.
const shareMargin = time.Minute

// Rings say how Budgets learn that the ring changes. Without Tables it never does.
type Rings struct {
	Tables  []RegionControl // this region's first, then those of the ring's others
	Epoch   uint64
	Regions []string // of the ring, in its order
}

// shares are this region's parts of the limits, while rings come and go. Each
// ring of an epoch says in every region's table which regions it has. A window
// has the smallest part that any ring gives the region which may be in force
// in it; a ring is the oldest in force in windows that begin when all of its
// regions' tables have told of it for longer than an instance that cannot read
// its table goes on granting. So in no window do parts of two rings add up, and
// a region that joins grants from the next hour, and the next day, on. A region
// that leaves must have stopped, or know of the new ring. Guesses alone do not
// wait, since writes must not: while the ring changes, parts of them overlap.
type shares struct {
	cfg  *BudgetsConfig
	poll poller

	mu    sync.Mutex       // guards what follows
	rings map[uint64]Share // by epoch: this region's
	alone map[uint64]int64 // by epoch: since when (Unix ms, by the counters' clock) none older is in force here
	ahead time.Duration    // the counters' clock, of cfg.Now
}

func newShares(cfg *BudgetsConfig) *shares {
	s := &shares{cfg: cfg, rings: map[uint64]Share{cfg.Rings.Epoch: cfg.Share}, alone: map[uint64]int64{}}
	s.poll = poller{
		every: defaultPollEvery, refresh: s.refresh, logger: cfg.Logger,
		fails: "reading the regions' shares fails", works: "reading the regions' shares works again",
	}
	return s
}

// of is the part of a limit in the present window.
func (s *shares) of(kind BudgetKind, limit int64, span Span) int64 {
	if kind == BudgetGuesses {
		return s.cfg.Share.of(limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := span.Window(s.cfg.Now().Add(s.ahead)) * time.Duration(span).Milliseconds()
	oldest := uint64(0)
	for epoch, since := range s.alone {
		if since <= begun {
			oldest = max(oldest, epoch)
		}
	}
	part := limit
	for epoch, share := range s.rings {
		if epoch >= oldest {
			part = min(part, share.of(limit))
		}
	}
	return part
}

func (s *shares) fixed() bool { return len(s.cfg.Rings.Tables) == 0 }

func (s *shares) id() string { return fmt.Sprintf("%020d", s.cfg.Rings.Epoch) }

// refresh reads this region's table and, while the ring is not known in every
// region, tells of it.
func (s *shares) refresh(ctx context.Context) error {
	if err := s.read(ctx, s.cfg.Rings.Tables[0].Control); err != nil {
		return err
	}
	s.mu.Lock()
	_, known := s.alone[s.cfg.Rings.Epoch]
	s.mu.Unlock()
	if known {
		return nil
	}
	return s.announce(ctx)
}

// read learns what a region's table says of rings.
func (s *shares) read(ctx context.Context, table Control) error {
	items, err := listAll(ctx, table, KindShare)
	if err != nil {
		return fmt.Errorf("read the regions' shares: %w", err)
	}
	now, err := s.cfg.Counters.Now(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = now.Sub(s.cfg.Now())
	for _, item := range items {
		s.learn(item)
	}
	return nil
}

// learn takes note of an item. One that cannot be read gives nobody anything.
func (s *shares) learn(item Item) {
	id, region, since := strings.Cut(item.ID, "#")
	epoch, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return
	}
	if !since {
		body, _ := decodeShareBody(item.Body)
		s.rings[epoch] = Share{slices.Index(body.Regions, s.region()), len(body.Regions)}
	} else if body, err := decodeAloneBody(item.Body); err == nil && region == s.region() {
		s.alone[epoch] = body.Since
	}
}

func (s *shares) region() string { return s.cfg.Rings.Tables[0].Region }

// announce tells every region of the ring, and asks each for others: with the
// last of them, it counts alone from then on, or from ever if it is the first.
func (s *shares) announce(ctx context.Context) error {
	body, err := encodeBody(shareBody{bodyVersion, s.cfg.Rings.Regions})
	if err != nil {
		return err
	}
	tables := s.cfg.Rings.Tables
	notReached, err := InsertEverywhere(ctx, tables, Item{KindShare, s.id(), body})
	if err != nil {
		return err
	}
	everywhere := len(notReached) == 0
	for _, t := range tables[1:] {
		everywhere = s.read(ctx, t.Control) == nil && everywhere
	}
	if !everywhere {
		return nil // the next poll tries again
	}
	alone := aloneBody{bodyVersion, 1}
	s.mu.Lock()
	for epoch := range s.rings {
		if epoch < s.cfg.Rings.Epoch {
			alone.Since = s.cfg.Now().Add(s.ahead + shareMargin).UnixMilli()
		}
	}
	s.mu.Unlock()
	if body, err = encodeBody(alone); err != nil {
		return err
	}
	item := Item{KindShare, s.id() + "#" + s.region(), body}
	// ErrExists: another instance was first; the next poll reads when.
	if err := tables[0].Control.Insert(ctx, item); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.learn(item)
	}
	return nil
}

// shareBody is the regions of a ring, in its order.
type shareBody struct {
	Version int      `json:"v"`
	Regions []string `json:"regions"`
}

// aloneBody is since when a ring is the oldest in force in a region.
type aloneBody struct {
	Version int   `json:"v"`
	Since   int64 `json:"since"`
}

func decodeShareBody(b []byte) (shareBody, error) {
	body, err := decodeBody[shareBody](b)
	if err != nil || body.Version != bodyVersion || len(body.Regions) == 0 {
		return shareBody{}, errBody
	}
	return body, nil
}

func decodeAloneBody(b []byte) (aloneBody, error) {
	body, err := decodeBody[aloneBody](b)
	if err != nil || body.Version != bodyVersion || body.Since <= 0 {
		return aloneBody{}, errBody
	}
	return body, nil
}
