// Package simdynamo is DynamoDB in memory: the tables of one region, the
// operations that the adapters use, with conditions, transactions, paging,
// secondary indexes that lag when told to, and stamped rows that replicate as
// global tables do (whole item, last writer wins). It keeps no thread and
// decides nothing by itself: internal/sim/simulation does.
//
// What is modelled is what AWS documents; where its documents leave room, the
// less convenient reading is taken.
package simdynamo

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/dynamo"
)

// Stamp orders the writes of a row: the later wins, of two at once the one of
// the greater region.
type Stamp struct {
	At     int64 // nanoseconds
	Region string
}

func (s Stamp) compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.At, o.At), cmp.Compare(s.Region, o.Region))
}

// Row is a row as it replicates: without Item it was deleted.
type Row struct {
	Item  dynamo.Item
	Stamp Stamp
}

// Change is a row that was written, here or elsewhere. Before is nil where
// there was none, After where it was deleted.
type Change struct {
	Region, Table string
	Key           dynamo.Key
	Before, After dynamo.Item
	Stamp         Stamp
	Replicated    bool // not written here
}

// Config of a Region.
type Config struct {
	Name   string
	Tables []dynamo.Table
	Now    func() time.Time // of the service's clock
	// OnChange is told of every change, under the lock: it must not call back.
	// Items are shared and must not be changed. Optional.
	OnChange func(Change)
	// Lag keeps indexes as they are until Index is called.
	Lag bool
	// Page bounds the rows of one answer to a Query or Scan. Default 50.
	Page int
}

// Region is one region's tables. It is safe for concurrent use.
type Region struct {
	cfg Config
	parsed

	rw     sync.Mutex // guards what follows
	tables map[string]*table
	tokens map[string]time.Time // of transactions that were applied
}

// table is one table. Deleted rows stay, with their stamps.
type table struct {
	dynamo.Table
	rows    map[dynamo.Key]Row
	parts   map[string][]string // sort keys of live rows by partition, sorted
	shown   map[dynamo.Key]dynamo.Item
	stale   map[dynamo.Key]bool // rows that the indexes do not show as they are
	byIndex map[string]map[string]map[dynamo.Key]dynamo.Item
}

// New returns empty tables.
func New(c Config) *Region {
	if c.Page == 0 {
		c.Page = 50
	}
	r := &Region{cfg: c, tables: map[string]*table{}, tokens: map[string]time.Time{}}
	for _, t := range c.Tables {
		r.tables[t.Name] = &table{
			Table: t, rows: map[dynamo.Key]Row{}, parts: map[string][]string{}, shown: map[dynamo.Key]dynamo.Item{},
			stale: map[dynamo.Key]bool{}, byIndex: map[string]map[string]map[dynamo.Key]dynamo.Item{},
		}
	}
	return r
}

// Apply takes another region's row over where its stamp wins.
func (r *Region) Apply(table string, key dynamo.Key, row Row) {
	r.rw.Lock()
	defer r.rw.Unlock()
	t := r.tables[table]
	if have, ok := t.rows[key]; ok && row.Stamp.compare(have.Stamp) <= 0 {
		return
	}
	r.set(t, key, row, true)
}

// write stores a row that was written here.
func (r *Region) write(t *table, key dynamo.Key, item dynamo.Item) {
	stamp := Stamp{r.cfg.Now().UnixNano(), r.cfg.Name}
	have, ok := t.rows[key]
	if item == nil && (!ok || have.Item == nil) {
		return // nothing to delete
	}
	if ok && stamp.At <= have.Stamp.At {
		stamp.At = have.Stamp.At + 1
	}
	r.set(t, key, Row{clone(item), stamp}, false)
}

func (r *Region) set(t *table, key dynamo.Key, row Row, replicated bool) {
	before := t.rows[key].Item
	t.rows[key] = row
	part := t.parts[key.PK]
	at, there := slices.BinarySearch(part, key.SK)
	switch {
	case row.Item != nil && !there:
		t.parts[key.PK] = slices.Insert(part, at, key.SK)
	case row.Item == nil && there:
		t.parts[key.PK] = slices.Delete(part, at, at+1)
	}
	if len(t.Indexes) > 0 {
		t.stale[key] = true
		if !r.cfg.Lag {
			t.index(key)
		}
	}
	if r.cfg.OnChange != nil {
		r.cfg.OnChange(Change{
			Region: r.cfg.Name, Table: t.Name, Key: key, Before: before, After: row.Item, Stamp: row.Stamp, Replicated: replicated,
		})
	}
}

// Stale lists rows that the indexes do not show as they are, sorted.
func (r *Region) Stale(table string) []dynamo.Key {
	r.rw.Lock()
	defer r.rw.Unlock()
	return slices.SortedFunc(maps.Keys(r.tables[table].stale), compareKeys)
}

// Index makes the indexes show a row as it is.
func (r *Region) Index(table string, key dynamo.Key) {
	r.rw.Lock()
	defer r.rw.Unlock()
	r.tables[table].index(key)
}

func (t *table) index(key dynamo.Key) {
	delete(t.stale, key)
	for _, x := range t.Indexes {
		if old := t.shown[key]; old != nil && old[x.Hash] != nil {
			delete(t.byIndex[x.Name][text(old[x.Hash])], key)
		}
	}
	item := t.rows[key].Item
	t.shown[key] = item
	for _, x := range t.Indexes {
		if item == nil || item[x.Hash] == nil || item[x.Range] == nil {
			continue
		}
		if t.byIndex[x.Name] == nil {
			t.byIndex[x.Name] = map[string]map[dynamo.Key]dynamo.Item{}
		}
		hash := text(item[x.Hash])
		if t.byIndex[x.Name][hash] == nil {
			t.byIndex[x.Name][hash] = map[dynamo.Key]dynamo.Item{}
		}
		t.byIndex[x.Name][hash][key] = dynamo.Item{
			dynamo.PK: item[dynamo.PK], dynamo.SK: item[dynamo.SK], x.Hash: item[x.Hash], x.Range: item[x.Range],
		}
	}
}

// Row is a row as it is, with its stamp; Item is nil where there is none.
func (r *Region) Row(table string, key dynamo.Key) Row {
	r.rw.Lock()
	defer r.rw.Unlock()
	return r.tables[table].rows[key]
}

// Peek is Row for OnChange, which is called under the lock. The item must not be changed.
func (r *Region) Peek(table string, key dynamo.Key) dynamo.Item {
	return r.tables[table].rows[key].Item
}

// Put replaces a row as an operator with every right could.
func (r *Region) Put(table string, key dynamo.Key, item dynamo.Item) {
	r.rw.Lock()
	defer r.rw.Unlock()
	r.write(r.tables[table], key, item)
}

// Expire deletes rows whose time to live is over, those that some chooses, and
// says how many.
func (r *Region) Expire(table string, some func(n int) bool) (n int) {
	r.rw.Lock()
	defer r.rw.Unlock()
	t, now := r.tables[table], r.cfg.Now().Unix()
	for _, key := range slices.SortedFunc(maps.Keys(t.rows), compareKeys) {
		item := t.rows[key].Item
		if item[dynamo.TTLAttribute] != nil && dynamo.Read(item).Int(dynamo.TTLAttribute) < now && some(n) {
			r.write(t, key, nil)
			n++
		}
	}
	return n
}

// Rows calls fn for every live row of a table in order of key. Items must not be changed.
func (r *Region) Rows(table string, fn func(dynamo.Key, dynamo.Item)) {
	r.rw.Lock()
	defer r.rw.Unlock()
	t := r.tables[table]
	for _, key := range slices.SortedFunc(maps.Keys(t.rows), compareKeys) {
		if item := t.rows[key].Item; item != nil {
			fn(key, item)
		}
	}
}

func compareKeys(a, b dynamo.Key) int {
	return cmp.Or(cmp.Compare(a.PK, b.PK), cmp.Compare(a.SK, b.SK))
}

func keyOf(item dynamo.Item) dynamo.Key {
	return dynamo.Key{PK: text(item[dynamo.PK]), SK: text(item[dynamo.SK])}
}

// clone copies an item and the bytes in it; the other values are never changed.
func clone(item dynamo.Item) dynamo.Item {
	if item == nil {
		return nil
	}
	c := make(dynamo.Item, len(item))
	for name, v := range item {
		if b, ok := v.(*types.AttributeValueMemberB); ok {
			v = &types.AttributeValueMemberB{Value: bytes.Clone(b.Value)}
		}
		c[name] = v
	}
	return c
}
