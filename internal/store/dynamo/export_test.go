package dynamo

import (
	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// DecodeRow reads an item as Read, Get and the listings do: r is of R rows,
// subject of links, at of tombstones.
func DecodeRow(item dynamo.Item) (key store.Key, kind byte, r *store.Record, subject string, at int64, err error) {
	row, err := parseRow(item)
	if err != nil {
		return store.Key{}, 0, nil, "", 0, err
	}
	switch row.kind {
	case kindRecord:
		r, err = decodeRecord(row.Key, item)
	case kindTombstone:
		at, err = tombstoneTime(item)
	}
	return row.Key, row.kind, r, row.subject, at, err
}

func (s *Store) EncodeRecord(r *store.Record) dynamo.Item  { return s.encodeRecord(r) }
func (s *Store) EncodeTombstone(key store.Key) dynamo.Item { return s.encodeTombstone(key) }
func EncodeLink(key store.Key, subject string) dynamo.Item { return encodeLink(key, subject) }
func RowKey(key store.Key, kind byte) dynamo.Key           { return rowKey(key, kind) }
func SortKey(kind byte, generation uint32) string          { return sortKey(kind, generation) }
func ParseKey(k dynamo.Key) (key store.Key, sub string, err error) {
	r, err := parseKey(k)
	return r.Key, r.subject, err
}

// EncodeBeat and DecodeBeat are a heartbeat's item.
func EncodeBeat(region string, at int64) dynamo.Item { return encodeBeat(region, at) }

// DecodeBeat is EncodeBeat's inverse.
func DecodeBeat(item dynamo.Item) (string, int64, error) { return decodeBeat(item) }
