package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
	"piivault/internal/store"
	storedynamo "piivault/internal/store/dynamo"
)

const (
	shared = "tenant"
	record = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	deep   = 2 // how far an operation may be interrupted by others
)

// Interleave runs one random interleaving of creates, erasures, repairs,
// sweeps and replication of one deterministic record in 2 or 3 regions, on the
// real store code. Any call may be interrupted before each of its operations
// on the table by any other. It returns how many operations on tables there
// were, and what went wrong: a resurrection, or an acknowledged generation lost.
func Interleave(ctx context.Context, seed uint64) (operations int, wrong string) {
	x := &interleaving{random: rand.New(rand.NewPCG(seed, 0x17e)), erased: map[uint32]bool{}, acked: map[uint32]bool{}} //nolint:gosec // G404: draws schedules
	for i := range 2 + x.random.IntN(2) {
		x.add(fmt.Sprintf("region-%d", i))
	}
	for range 6 + x.random.IntN(10) {
		if x.act(ctx); x.wrong != "" {
			return x.operations, x.wrong
		}
	}
	for len(x.lanes) > 0 {
		x.deliver()
	}
	x.settled(ctx)
	return x.operations, x.wrong
}

// interleaving is one run.
type interleaving struct {
	random     *rand.Rand
	clock      int64
	stores     []*site
	lanes      []moving
	acked      map[uint32]bool // generations that some create answered for
	erased     map[uint32]bool // generations with a tombstone anywhere
	messages   int
	depth      int
	operations int
	wrong      string
}

// site is a region.
type site struct {
	*simdynamo.Region
	store  *storedynamo.Store
	buried map[uint32]bool // generations with a tombstone here
}

// moving is a row on its way.
type moving struct {
	to  *site
	key dynamo.Key
	row simdynamo.Row
}

// interrupted lets other operations in before each operation of a call.
type interrupted struct {
	dynamo.Data
	x *interleaving
}

func (d interrupted) PutItem(ctx context.Context, in *dynamodb.PutItemInput, o ...option) (*dynamodb.PutItemOutput, error) {
	d.x.interrupt(ctx)
	return d.Data.PutItem(ctx, in, o...) //nolint:wrapcheck // the service's own, here and below
}

func (d interrupted) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...option) (*dynamodb.TransactWriteItemsOutput, error) {
	d.x.interrupt(ctx)
	return d.Data.TransactWriteItems(ctx, in, o...) //nolint:wrapcheck // see above
}

func (d interrupted) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, o ...option) (*dynamodb.BatchWriteItemOutput, error) {
	d.x.interrupt(ctx)
	return d.Data.BatchWriteItem(ctx, in, o...) //nolint:wrapcheck // see above
}

func (d interrupted) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, o ...option) (*dynamodb.BatchGetItemOutput, error) {
	d.x.interrupt(ctx)
	return d.Data.BatchGetItem(ctx, in, o...) //nolint:wrapcheck // see above
}

func (d interrupted) Query(ctx context.Context, in *dynamodb.QueryInput, o ...option) (*dynamodb.QueryOutput, error) {
	d.x.interrupt(ctx)
	return d.Data.Query(ctx, in, o...) //nolint:wrapcheck // see above
}

func (x *interleaving) interrupt(ctx context.Context) {
	x.operations++
	if x.depth < deep && x.wrong == "" && x.random.IntN(3) == 0 {
		x.depth++
		x.act(ctx)
		x.depth--
	}
}

func (x *interleaving) add(name string) {
	s := &site{buried: map[uint32]bool{}}
	now := func() time.Time {
		x.clock++
		return time.Unix(0, x.clock)
	}
	s.Region = simdynamo.New(simdynamo.Config{
		Name: name, Now: now, OnChange: func(c simdynamo.Change) { x.changed(s, c) },
		Tables: []dynamo.Table{{Name: "records", Global: true, Indexes: dynamo.Indexes()}},
	})
	client, err := dynamo.New(dynamo.Config{Region: name, Attempt: time.Hour, Data: interrupted{s.Region, x}}) // no time passes here
	if err != nil {
		x.wrong = err.Error()
		return
	}
	s.store = storedynamo.New(storedynamo.Config{Client: client, Table: "records", Now: now})
	x.stores = append(x.stores, s)
}

func (x *interleaving) changed(at *site, c simdynamo.Change) {
	var generation uint32
	if _, err := fmt.Sscanf(c.Key.SK[2:10], "%08x", &generation); err != nil {
		x.wrong = err.Error()
		return
	}
	if c.Key.SK[0] == 'X' {
		at.buried[generation], x.erased[generation] = true, true
	}
	if c.Replicated {
		return
	}
	for _, to := range x.stores {
		if to != at {
			x.lanes = append(x.lanes, moving{to, c.Key, simdynamo.Row{Item: c.After, Stamp: c.Stamp}})
		}
	}
}

// deliver brings any row that is on its way, in any order.
func (x *interleaving) deliver() {
	at := x.random.IntN(len(x.lanes))
	m := x.lanes[at]
	x.lanes = slices.Delete(x.lanes, at, at+1)
	m.to.Apply("records", m.key, m.row)
}

func (x *interleaving) act(ctx context.Context) {
	s := x.stores[x.random.IntN(len(x.stores))]
	var err error
	switch n := x.random.IntN(10); {
	case n < 3:
		err = x.create(ctx, s)
	case n < 5:
		err = x.erase(ctx, s)
	case n < 6:
		err = x.repair(ctx, s)
	case n < 7:
		err = s.store.Delete(ctx, []store.Key{x.key(uint32(x.random.IntN(3)))})
	default:
		if len(x.lanes) > 0 {
			x.deliver()
		}
	}
	if err != nil && x.wrong == "" {
		x.wrong = err.Error()
	}
	x.look(ctx, s)
}

func (x *interleaving) key(generation uint32) store.Key {
	return store.Key{Tenant: shared, ID: record, Generation: generation}
}

func ref() []store.Ref { return []store.Ref{{Tenant: shared, ID: record, Generations: true}} }

// create is what a tokenize of a deterministic value does.
func (x *interleaving) create(ctx context.Context, s *site) error {
	states, err := s.store.Read(ctx, ref())
	if err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	generation := states[0].Generation
	if states[0].Record != nil {
		return nil // it stands for the value, and was acknowledged or not by who made it
	}
	x.messages++
	made := &store.Record{
		Key: x.key(generation), Type: "login", Message: fmt.Appendf(nil, "message %d", x.messages), Created: 1, RingEpoch: 1,
		Home: "region-0", Missing: []string{"region-1"},
	}
	outcomes, err := s.store.Insert(ctx, []store.New{{Record: made, Links: []string{"subject"}, Unburied: true}})
	if err != nil {
		return fmt.Errorf("simulation: %w", err)
	}
	if outcomes[0] == store.Inserted {
		x.acked[generation] = true
	}
	return nil
}

func (x *interleaving) erase(ctx context.Context, s *site) error {
	seen, err := s.store.Seen(ctx, ref())
	if err != nil || len(seen) == 0 {
		return err //nolint:wrapcheck // shown as it is
	}
	return s.store.Bury(ctx, seen) //nolint:wrapcheck // shown as it is
}

// repair swaps a message for a longer one, unless something has changed.
func (x *interleaving) repair(ctx context.Context, s *site) error {
	key := x.key(uint32(x.random.IntN(3)))
	old, buried, err := s.store.Get(ctx, key)
	if err != nil || old == nil || buried {
		return err //nolint:wrapcheck // shown as it is
	}
	next := *old
	x.messages++
	next.Message, next.Missing = fmt.Appendf(nil, "message %d", x.messages), nil
	already := s.buried[key.Generation]
	err = s.store.Replace(ctx, old, &next)
	if err == nil && already {
		x.wrong = "a record was replaced under its tombstone"
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return err //nolint:wrapcheck // shown as it is
	}
	return nil
}

// look reads a region as a detokenize does.
func (x *interleaving) look(ctx context.Context, s *site) {
	before := len(s.buried)
	states, err := s.store.Read(ctx, ref())
	switch {
	case err != nil:
		x.wrong = err.Error()
	case states[0].Record != nil && len(s.buried) == before && s.buried[states[0].Record.Generation]:
		x.wrong = fmt.Sprintf("resurrection: generation %d in %v", states[0].Record.Generation, s.buried)
	}
}

// settled: with everything replicated, all regions read the same, nothing that
// was erased, and what was acknowledged and not erased.
func (x *interleaving) settled(ctx context.Context) {
	x.depth = deep // nothing interrupts any more
	for _, s := range x.stores {
		states, err := s.store.Read(ctx, ref())
		if err != nil {
			x.wrong = err.Error()
			return
		}
		live := states[0]
		if live.Record != nil && x.erased[live.Record.Generation] {
			x.wrong = fmt.Sprintf("resurrection: generation %d after all", live.Record.Generation)
		}
		for generation := range x.acked {
			if !x.erased[generation] && (live.Record == nil || live.Record.Generation != generation) {
				x.wrong = fmt.Sprintf("lost: generation %d was acknowledged and not erased", generation)
			}
		}
	}
}
