package dynamo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// errInvalid refuses what has no encoding: a caller's mistake.
var errInvalid = errors.New("not a valid record")

// Kinds of rows: the first byte of the sort key. They sort as readOn needs them.
const (
	kindLink      = 'L'
	kindRecord    = 'R'
	kindTombstone = 'X'
)

// Attributes of rows besides the keys (docs/design/format.md §5).
const (
	attrVersion = "v"
	attrType    = "type"
	attrMessage = "message"
	attrCreated = "created"
	attrExpires = "expires"
	attrSubject = "subject"
	attrEpoch   = "epoch"
	attrHome    = "home"
	attrGap     = "gap"
	attrExpiry  = "expiry"
	attrAt      = "at"
	attrSweep   = "sweep"
	attrDue     = "due"

	rowVersion = 1
	maxName    = 255
	gapShards  = 64
	shards     = 16 // of by-expiry and by-sweep
)

func checkKey(tenant, id string) error {
	if !validName(tenant) || !validName(id) {
		return fmt.Errorf("%w: tenant and id must have 1 to 255 bytes and no #", errInvalid)
	}
	return nil
}

func validName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.Contains(s, "#")
}

func partition(tenant, id string) string { return tenant + "#" + id }

// rowKey is a row's; of links it is what all of a generation begin with.
func rowKey(key store.Key, kind byte) dynamo.Key {
	return dynamo.Key{PK: partition(key.Tenant, key.ID), SK: sortKey(kind, key.Generation)}
}

// sortKey is the kind, # and the generation as eight hexadecimal digits: byte
// order is that of generations.
func sortKey(kind byte, generation uint32) string {
	const digits = "0123456789abcdef"
	b := [10]byte{kind, '#'}
	for i := range 8 {
		b[9-i] = digits[generation>>(4*i)&15]
	}
	return string(b[:])
}

// row is a decoded key.
type row struct {
	store.Key
	kind    byte
	subject string // of links
	at      int64  // of tombstones: when it was written, where that was read
	sk      string
}

func errRow(what string) error { return fmt.Errorf("%s: %w", what, dynamo.ErrCorrupt) }

// parseRow reads an item's key.
func parseRow(item dynamo.Item) (row, error) {
	f := dynamo.Read(item)
	key := f.Key()
	if err := f.Err(); err != nil {
		return row{}, err
	}
	return parseKey(key)
}

func parseKey(key dynamo.Key) (r row, err error) {
	tenant, id, ok := strings.Cut(key.PK, "#")
	if !ok || checkKey(tenant, id) != nil || len(key.SK) < 10 {
		return row{}, errRow("row key")
	}
	generation, err := strconv.ParseUint(key.SK[2:10], 16, 32)
	r = row{Key: store.Key{Tenant: tenant, ID: id, Generation: uint32(generation)}, kind: key.SK[0], sk: key.SK}
	if err != nil || sortKey(r.kind, r.Generation) != key.SK[:10] {
		return row{}, errRow("row key")
	}
	switch rest := key.SK[10:]; r.kind {
	case kindRecord, kindTombstone:
		ok = rest == ""
	case kindLink:
		r.subject, ok = strings.CutPrefix(rest, "#")
		ok = ok && validName(r.subject)
	default:
		ok = false
	}
	if !ok {
		return row{}, errRow("row key")
	}
	return r, nil
}

// shardOf spreads rows by record id.
func shardOf(pk string, of uint32) string {
	const offset, prime = 2166136261, 16777619 // FNV-1a
	h := uint32(offset)
	for i := range len(pk) {
		h = (h ^ uint32(pk[i])) * prime
	}
	return shard(h % of)
}

func shard(n uint32) string { return fmt.Sprintf("%02x", n) }

func checkRecord(r *store.Record) error {
	if r == nil {
		return fmt.Errorf("%w: no record", errInvalid)
	}
	if r.Subject != "" && !validName(r.Subject) || !validName(r.Home) || !validName(r.Type) || len(r.Message) == 0 {
		return fmt.Errorf("%w: type, home and message are needed; names have at most 255 bytes and no #", errInvalid)
	}
	if !validRegions(r.Missing) {
		return fmt.Errorf("%w: missing regions must be names, sorted, each once", errInvalid)
	}
	return checkKey(r.Tenant, r.ID)
}

func validRegions(names []string) bool {
	last := ""
	for _, n := range names {
		if n <= last || !validName(n) || strings.Contains(n, ",") {
			return false
		}
		last = n
	}
	return len(names) <= 16
}

// encodeRecord makes an R item; checkRecord has passed. It refers to the message.
func (s *Store) encodeRecord(r *store.Record) dynamo.Item {
	key := rowKey(r.Key, kindRecord)
	item := make(dynamo.Item, 14)
	item[dynamo.PK], item[dynamo.SK] = dynamo.String(key.PK), dynamo.String(key.SK)
	item[attrVersion] = dynamo.Int(rowVersion)
	item[attrType] = dynamo.String(r.Type)
	item[attrMessage] = dynamo.Bytes(r.Message)
	item[attrCreated] = dynamo.Int(r.Created)
	item[attrEpoch] = dynamo.Uint(r.RingEpoch)
	item[attrHome] = dynamo.String(r.Home)
	if r.Subject != "" {
		item[attrSubject] = dynamo.String(r.Tenant + "#" + r.Subject)
	}
	if len(r.Missing) > 0 {
		item[attrGap] = dynamo.String(strings.Join(r.Missing, ",") + "#" + shardOf(key.PK, gapShards))
	}
	if r.Expires != 0 {
		item[attrExpires] = dynamo.Int(r.Expires)
		if s.ttl {
			item[dynamo.TTLAttribute] = dynamo.Int(ceilSeconds(r.Expires))
		} else {
			item[attrExpiry] = dynamo.String(shardOf(key.PK, shards))
		}
	}
	return item
}

// ceilSeconds rounds up: TTL must not delete what is not expired.
func ceilSeconds(ms int64) int64 {
	s := ms / 1000
	if ms%1000 > 0 {
		s++
	}
	return s
}

// decodeRecord is encodeRecord's strict inverse; what tables derive from
// (gap's shard, ttl, expiry) is not looked at. The record shares the item's memory.
func decodeRecord(key store.Key, item dynamo.Item) (*store.Record, error) {
	f := dynamo.Read(item)
	r := &store.Record{
		Key: key, Type: f.String(attrType), Message: f.Bytes(attrMessage), Created: f.Int(attrCreated),
		RingEpoch: f.Uint(attrEpoch), Home: f.String(attrHome),
	}
	if f.Has(attrExpires) {
		r.Expires = f.Int(attrExpires)
	}
	subject, gap, version := f.Optional(attrSubject), f.Optional(attrGap), f.Int(attrVersion)
	if err := f.Err(); err != nil {
		return nil, err
	}
	ok := version == rowVersion
	if subject != "" {
		var same bool
		r.Subject, same = strings.CutPrefix(subject, key.Tenant+"#")
		ok = ok && same && r.Subject != ""
	}
	if gap != "" {
		regions, _, sharded := strings.Cut(gap, "#")
		r.Missing = strings.Split(regions, ",")
		ok = ok && sharded
	}
	if !ok || checkRecord(r) != nil {
		return nil, errRow("record")
	}
	return r, nil
}

// encodeTombstone makes an X item, to be looked at by the sweeper at once.
func (s *Store) encodeTombstone(key store.Key) dynamo.Item {
	item := rowKey(key, kindTombstone).Item()
	now := s.now().UnixMilli()
	item[attrVersion] = dynamo.Int(rowVersion)
	item[attrAt], item[attrDue] = dynamo.Int(now), dynamo.Int(now)
	item[attrSweep] = dynamo.String(shardOf(partition(key.Tenant, key.ID), shards))
	return item
}

func tombstoneTime(item dynamo.Item) (int64, error) {
	f := dynamo.Read(item)
	at := f.Int(attrAt)
	return at, f.Err()
}

func encodeLink(key store.Key, subject string) dynamo.Item {
	k := rowKey(key, kindLink)
	return dynamo.Item{
		dynamo.PK: dynamo.String(k.PK), dynamo.SK: dynamo.String(k.SK + "#" + subject),
		attrVersion: dynamo.Int(rowVersion), attrSubject: dynamo.String(key.Tenant + "#" + subject),
	}
}

func clone(r *store.Record) *store.Record {
	c := *r
	c.Message, c.Missing = slices.Clone(r.Message), slices.Clone(r.Missing)
	return &c
}
