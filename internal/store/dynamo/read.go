package dynamo

import (
	"context"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// Read implements store.Store: R#0 and X#0 of 50 distinct refs a call, calls
// in parallel; one more call for a ref with Generations that has X#0.
func (s *Store) Read(ctx context.Context, refs []store.Ref) ([]store.State, error) {
	r, err := newReading(refs)
	if err == nil {
		err = s.db.BatchGet(ctx, s.table, r.keys, "", r.add)
	}
	if err == nil {
		err = s.readDeep(ctx, r, refs)
	}
	if err != nil {
		return nil, fault("read", err)
	}
	return r.states(refs), nil
}

// reading is one call of Read.
type reading struct {
	pks    set[string]
	place  []int // of each ref in pks
	keys   []dynamo.Key
	record []*store.Record // R#0 by pk
	buried []bool          // X#0 by pk
	deep   []*store.State  // by pk, where a ref asks past X#0
}

func newReading(refs []store.Ref) (*reading, error) {
	r := &reading{pks: newSet[string](len(refs)), place: make([]int, len(refs)), keys: make([]dynamo.Key, 0, 2*len(refs))}
	for i, ref := range refs {
		if err := checkKey(ref.Tenant, ref.ID); err != nil {
			return nil, err
		}
		place, fresh := r.pks.add(partition(ref.Tenant, ref.ID))
		r.place[i] = place
		if fresh {
			key := store.Key{Tenant: ref.Tenant, ID: ref.ID}
			r.keys = append(r.keys, rowKey(key, kindRecord), rowKey(key, kindTombstone))
		}
	}
	n := len(r.pks.list)
	r.record, r.buried, r.deep = make([]*store.Record, n), make([]bool, n), make([]*store.State, n)
	return r, nil
}

func (r *reading) add(item dynamo.Item) error {
	row, err := parseRow(item)
	if err != nil {
		return err
	}
	place, ok := r.pks.at[partition(row.Tenant, row.ID)]
	switch {
	case !ok || row.Generation != 0:
		return errRow("answer")
	case row.kind == kindTombstone:
		r.buried[place] = true
	default:
		r.record[place], err = decodeRecord(row.Key, item)
	}
	return err
}

// readDeep reads on for every ref that asks past its X#0.
func (s *Store) readDeep(ctx context.Context, r *reading, refs []store.Ref) error {
	var deep []store.Ref
	for i, ref := range refs {
		if place := r.place[i]; ref.Generations && r.buried[place] && r.deep[place] == nil {
			r.deep[place] = &store.State{}
			deep = append(deep, ref)
		}
	}
	if len(deep) == 0 {
		return nil
	}
	return dynamo.Each(ctx, len(deep), func(ctx context.Context, i int) (err error) {
		ref := deep[i]
		*r.deep[r.pks.at[partition(ref.Tenant, ref.ID)]], err = s.readOn(ctx, ref)
		return err
	})
}

// readOn finds the lowest generation without a tombstone, and its record. Rs
// sort before Xs, so a tombstone that comes meanwhile is seen.
func (s *Store) readOn(ctx context.Context, ref store.Ref) (store.State, error) {
	records := map[uint32]dynamo.Item{}
	var state store.State
	err := s.db.Query(ctx, dynamo.Query{
		Table: s.table, Where: "pk = :pk AND sk BETWEEN :r AND :x", Consistent: true,
		Values: dynamo.Item{
			":pk": dynamo.String(partition(ref.Tenant, ref.ID)),
			":r":  dynamo.String(sortKey(kindRecord, 0)), ":x": dynamo.String(sortKey(kindTombstone, ^uint32(0))),
		},
	}, func(item dynamo.Item) (bool, error) {
		row, err := parseRow(item)
		switch {
		case err != nil:
			return false, err
		case row.kind == kindRecord:
			records[row.Generation] = item
		case row.Generation == state.Generation:
			state.Generation++
		default:
			return false, nil // a generation without a tombstone
		}
		return true, nil
	})
	if err == nil && records[state.Generation] != nil {
		key := store.Key{Tenant: ref.Tenant, ID: ref.ID, Generation: state.Generation}
		state.Record, err = decodeRecord(key, records[state.Generation])
	}
	return state, err
}

// states gives each ref its own; no two share a record.
func (r *reading) states(refs []store.Ref) []store.State {
	states := make([]store.State, len(refs))
	given := make([]bool, len(r.pks.list))
	for i, ref := range refs {
		place := r.place[i]
		state := store.State{Record: r.record[place]}
		if r.buried[place] {
			state = store.State{Generation: 1}
			if ref.Generations {
				state = *r.deep[place]
			}
		}
		if state.Record != nil && given[place] {
			state.Record = clone(state.Record)
		}
		given[place] = given[place] || state.Record != nil
		states[i] = state
	}
	return states
}
