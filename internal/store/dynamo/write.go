package dynamo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"piivault/internal/dynamo"
	"piivault/internal/store"
)

// Insert implements store.Store: before all else, only where needed, one read
// of 100 tombstones a call, then the links, 25 a call; then the records, fresh
// ones 25 a call, each other with a conditional put, in parallel.
func (s *Store) Insert(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	outcomes := make([]store.Outcome, len(records))
	if err := checkNews(records); err != nil {
		return nil, fault("insert", err)
	}
	if err := s.findBuried(ctx, records, outcomes); err != nil {
		return nil, fault("insert", err)
	}
	if err := s.link(ctx, records, outcomes); err != nil {
		return nil, fault("insert", err)
	}
	fresh := s.freshWrites(records, outcomes)
	var puts []int
	for i := range records {
		if outcomes[i] == 0 {
			puts = append(puts, i)
		}
	}
	err := dynamo.Each(ctx, len(puts)+min(len(fresh), 1), func(ctx context.Context, i int) (err error) {
		if i == len(puts) {
			return s.db.BatchWrite(ctx, s.table, fresh)
		}
		outcomes[puts[i]], err = s.put(ctx, records[puts[i]].Record)
		return err
	})
	if err != nil {
		return nil, fault("insert", err)
	}
	return outcomes, nil
}

// freshWrites are the puts of records that nothing can be in the way of, with
// their outcomes set, where they are more than one.
//
// A batch has no conditions, so that an attempt which was given up, and lands
// late, writes its rows once more over whatever they have become. (Late is some
// minutes: AWS refuses a signature older than five, IAM User Guide, "Elements
// of an AWS API request signature".) That does no harm:
//   - Over itself it is the same row.
//   - Under a tombstone, or where the sweeper has taken the row, it is erased
//     like any row that comes late, and swept: tombstones are looked at for
//     weeks (sweep.go).
//   - Over a row that repair has completed or moved to another ring, it brings
//     the gap or the epoch back by which repair found it, and finds it again.
func (s *Store) freshWrites(records []store.New, outcomes []store.Outcome) []dynamo.Write {
	keys := newSet[store.Key](len(records))
	for i := range records {
		if records[i].Fresh {
			keys.add(records[i].Record.Key)
		}
	}
	if len(keys.list) < 2 {
		return nil
	}
	writes := make([]dynamo.Write, len(keys.list))
	for i := range records {
		if place, fresh := keys.at[records[i].Record.Key]; fresh {
			writes[place].Put, outcomes[i] = s.encodeRecord(records[i].Record), store.Inserted
		}
	}
	return writes
}

func checkNews(records []store.New) error {
	for _, n := range records {
		if err := checkRecord(n.Record); err != nil {
			return err
		}
		for _, subject := range n.Links {
			if !validName(subject) {
				return fmt.Errorf("%w: a link's subject has 1 to 255 bytes and no #", errInvalid)
			}
		}
	}
	return nil
}

// findBuried sets the outcome of records that have a tombstone.
func (s *Store) findBuried(ctx context.Context, records []store.New, outcomes []store.Outcome) error {
	keys := newSet[store.Key](0)
	var ask []dynamo.Key
	for _, n := range records {
		if n.Fresh || n.Unburied {
			continue
		}
		if _, added := keys.add(n.Record.Key); added {
			ask = append(ask, rowKey(n.Record.Key, kindTombstone))
		}
	}
	if len(ask) == 0 {
		return nil
	}
	buried := newSet[store.Key](0)
	err := s.db.BatchGet(ctx, s.table, ask, "pk,sk", func(item dynamo.Item) error {
		row, err := parseRow(item)
		buried.add(row.Key)
		return err
	})
	for i, n := range records {
		if buried.has(n.Record.Key) {
			outcomes[i] = store.Buried
		}
	}
	return err
}

// link writes the links of the records that are not buried. A link's item is
// always the same, so it needs no condition.
func (s *Store) link(ctx context.Context, records []store.New, outcomes []store.Outcome) error {
	type link struct {
		store.Key
		subject string
	}
	links := newSet[link](0)
	var writes []dynamo.Write
	for i, n := range records {
		for _, subject := range n.Links {
			if outcomes[i] == store.Buried {
				continue
			}
			if _, added := links.add(link{n.Record.Key, subject}); added {
				writes = append(writes, dynamo.Write{Put: encodeLink(n.Record.Key, subject)})
			}
		}
	}
	if len(writes) == 0 {
		return nil
	}
	return s.db.BatchWrite(ctx, s.table, writes)
}

// put inserts an R unless it is there. After an attempt without an answer,
// what is there may be our own: a message is never the same twice.
func (s *Store) put(ctx context.Context, r *store.Record) (store.Outcome, error) {
	there, again, err := s.db.PutNew(ctx, s.table, s.encodeRecord(r))
	switch {
	case err != nil:
		return 0, err
	case there == nil:
		return store.Inserted, nil
	}
	message, ok := there[attrMessage].(*types.AttributeValueMemberB)
	if again && ok && bytes.Equal(message.Value, r.Message) {
		return store.Inserted, nil
	}
	return store.Exists, nil
}

// Bury implements store.Store, 25 keys a call. An X written over an X leaves
// an X, so it needs no condition.
func (s *Store) Bury(ctx context.Context, keys []store.Key) error {
	distinct := newSet[store.Key](len(keys))
	var writes []dynamo.Write
	for _, key := range keys {
		if err := checkKey(key.Tenant, key.ID); err != nil {
			return fault("bury", err)
		}
		if _, added := distinct.add(key); added {
			writes = append(writes, dynamo.Write{Put: s.encodeTombstone(key)})
		}
	}
	return fault("bury", s.db.BatchWrite(ctx, s.table, writes))
}

// Replace implements store.Store. The conditions on R and X are of one
// transaction, which is checked before and after in one.
func (s *Store) Replace(ctx context.Context, old, next *store.Record) error {
	err := errors.Join(checkRecord(old), checkRecord(next))
	if err == nil && old.Key != next.Key {
		err = fmt.Errorf("%w: the key of another record", errInvalid)
	}
	if err != nil {
		return fault("replace", err)
	}
	token, err := uuid.NewRandom()
	if err != nil {
		return fault("replace", err)
	}
	return fault("replace", s.db.PutWhere(ctx, s.table, s.encodeRecord(next), s.exactly(old), rowKey(old.Key, kindTombstone), token.String()))
}

// exactly is the condition that the row is this record and nothing else. What
// is derived from the record (ttl, expiry) follows the configuration.
func (s *Store) exactly(r *store.Record) dynamo.Condition {
	c := dynamo.Condition{Names: map[string]string{}, Values: dynamo.Item{}}
	item := s.encodeRecord(r)
	for _, name := range []string{
		attrVersion, attrType, attrMessage, attrCreated, attrExpires, attrSubject, attrEpoch, attrHome, attrGap,
	} {
		if c.Expression != "" {
			c.Expression += " AND "
		}
		c.Names["#"+name] = name
		if value := item[name]; value != nil {
			c.Values[":"+name] = value
			c.Expression += "#" + name + " = :" + name
		} else {
			c.Expression += "attribute_not_exists(#" + name + ")"
		}
	}
	return c
}

// Delete implements store.Store: one look at each record id, then 25 rows a call.
func (s *Store) Delete(ctx context.Context, keys []store.Key) error {
	pks, wanted := newSet[string](len(keys)), newSet[store.Key](len(keys))
	for _, key := range keys {
		if err := checkKey(key.Tenant, key.ID); err != nil {
			return fault("delete", err)
		}
		wanted.add(key)
		pks.add(partition(key.Tenant, key.ID))
	}
	found := make([][]dynamo.Write, len(pks.list))
	err := dynamo.Each(ctx, len(pks.list), func(ctx context.Context, i int) error {
		rows, err := s.rows(ctx, pks.list[i])
		found[i] = sweepable(rows, &wanted, pks.list[i])
		return err
	})
	if err != nil {
		return fault("delete", err)
	}
	var writes []dynamo.Write
	for _, w := range found {
		writes = append(writes, w...)
	}
	if len(writes) == 0 {
		return nil
	}
	return fault("delete", s.db.BatchWrite(ctx, s.table, writes))
}

// sweepable are the deletions of R and L rows of wanted generations that have an X.
func sweepable(rows []row, wanted *set[store.Key], pk string) (writes []dynamo.Write) {
	buried := newSet[store.Key](0)
	for _, r := range rows {
		if r.kind == kindTombstone && wanted.has(r.Key) {
			buried.add(r.Key)
		}
	}
	for _, r := range rows {
		if r.kind != kindTombstone && buried.has(r.Key) {
			writes = append(writes, dynamo.Write{Delete: dynamo.Key{PK: pk, SK: r.sk}})
		}
	}
	return writes
}
