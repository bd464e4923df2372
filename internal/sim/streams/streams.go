// Package streams makes the tables of several DynamoDB Local regions behave as
// global tables: it reads every region's DynamoDB Streams and puts what it
// sees into the others, whole items, last writer wins, with delay, disorder
// and partition to order. It is for development and tests.
//
// The stamp of a write is its place in the order in which the replicator saw
// all writes: DynamoDB Local cuts the times of its streams to the minute. Of
// two writes that concur within a poll either may win, but the same in every
// region. A write of the replicator's own is known again by what it replaced
// and what by, and is no write to replicate.
package streams

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/dynamo"
)

const (
	defaultPoll = 25 * time.Millisecond
	// retryPause is how long a call that failed is not repeated.
	retryPause = 100 * time.Millisecond
	// parallel bounds the deliveries under way.
	parallel = 8
)

// Config of a Replicator. Regions and Tables are required.
type Config struct {
	Regions []dynamo.Config // two or more, of different names
	// Tables exist in every region under the same names, with streams of new
	// and old images and keys pk and sk; Run waits for them.
	Tables []string
	Poll   time.Duration // between looks at a stream that had nothing; default 25 ms
	Seed   uint64        // of Orders.Jitter
	Logger zerolog.Logger
}

// Orders say how writes travel. The zero value: at once.
type Orders struct {
	// Delay is how long a write takes at least, from when it is seen.
	Delay time.Duration
	// Jitter is drawn for each item and region and added, so that items overtake
	// each other. Writes of one item arrive in their order.
	Jitter time.Duration
	// Coalesce lets an item that changed again before it left arrive once, as it is then.
	Coalesce bool
}

// Replicator keeps the tables of its regions alike. Its methods may be called
// at any time from any goroutine.
type Replicator struct {
	cfg     Config
	regions []*region

	mu     sync.Mutex // guards what follows, and every item
	orders Orders
	cut    bool
	random *rand.Rand
	clock  uint64 // the last stamp
	items  map[itemKey]*item
	due    schedule
	wake   chan struct{} // the schedule's head, or the cut, has changed
}

// New makes a replicator and calls nothing: see Run.
func New(c Config) (*Replicator, error) {
	if len(c.Regions) < 2 || len(c.Tables) == 0 || c.Poll < 0 {
		return nil, errors.New("streams: two regions and one table are needed")
	}
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	r := &Replicator{
		cfg: c, items: map[itemKey]*item{}, wake: make(chan struct{}, 1),
		random: rand.New(rand.NewPCG(c.Seed, 0)), //nolint:gosec // G404: draws delays, keeps no secret
	}
	names := map[string]bool{}
	for _, rc := range c.Regions {
		if names[rc.Region] {
			return nil, fmt.Errorf("streams: region %s is there twice", rc.Region)
		}
		names[rc.Region] = true
		one, err := newRegion(rc, c.Tables)
		if err != nil {
			return nil, err
		}
		r.regions = append(r.regions, one)
	}
	return r, nil
}

// Run replicates until ctx is done. What is in the tables when it begins has
// no stamps: an item that some region lacks is copied there, and of items that
// differ the first region's stays. A service that does not answer is tried
// again; other errors, and an end before it has begun, are returned.
func (r *Replicator) Run(ctx context.Context) error {
	for _, one := range r.regions {
		for _, s := range one.streams {
			if err := s.open(ctx, r.cfg.Poll); err != nil {
				return fmt.Errorf("streams: open %s of %s: %w", s.table, one.name, err)
			}
		}
	}
	for table := range r.cfg.Tables {
		if err := r.adopt(ctx, table); err != nil {
			return fmt.Errorf("streams: read %s: %w", r.cfg.Tables[table], err)
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	for of, one := range r.regions {
		for table, s := range one.streams {
			running.Go(func() { r.follow(ctx, s, of, table) })
		}
	}
	r.deliver(ctx)
	return nil
}

// Close closes the idle connections. Run must have ended.
func (r *Replicator) Close() {
	for _, one := range r.regions {
		one.http.CloseIdleConnections()
	}
}

// Order changes how writes travel that are seen from now on.
func (r *Replicator) Order(o Orders) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orders = o
}

// Partition cuts all regions off from each other, or lets them meet again.
// While they are cut, no write arrives anywhere but those that were on their
// way; all are seen and stamped, so that the last still wins afterwards.
func (r *Replicator) Partition(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = on
	r.wakeUp()
}

// InFlight is the number of items that some region has seen and another lacks.
func (r *Replicator) InFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.items)
}

// wakeUp makes deliver look again.
func (r *Replicator) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pause waits, or less when ctx ends, of which it is the error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
