package dynamo

import (
	"context"
	"errors"

	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

// A log's progress row says how far it is indexed and who does it: one
// indexer at a time, for as long as its lease lasts. Two at once would do no
// harm, only write rows twice.
const (
	progressPartition = "progress"
	attrNext          = "next"   // N: the first block that is not indexed
	attrHolder        = "holder" // S: log key of the indexer's own log
	attrUntil         = "until"  // N: Unix ms at which its lease ends
)

// progress is a progress row.
type progress struct {
	next  uint64
	until int64
}

func progressKey(log audit.LogName) dynamo.Key {
	return dynamo.Key{PK: progressPartition, SK: logKey(log)}
}

func readProgress(item dynamo.Item) (log audit.LogName, p progress, err error) {
	f := dynamo.Read(item)
	log, err = parseLogKey(f.String(dynamo.SK))
	p = progress{next: f.Uint(attrNext), until: f.Int(attrUntil)}
	if err == nil {
		err = f.Err()
	}
	return log, p, err
}

// save writes how far we are and takes or keeps the lease. Where another has
// it, or the row is not what we know, it becomes not ours: discover tells more.
func (x *indexer) save(ctx context.Context, log audit.LogName, f *followed) error {
	return x.write(ctx, log, f, x.now()+lease.Milliseconds())
}

func (x *indexer) write(ctx context.Context, log audit.LogName, f *followed, until int64) error {
	item := progressKey(log).Item()
	item[attrNext], item[attrHolder], item[attrUntil] = dynamo.Uint(f.next), dynamo.String(x.me), dynamo.Int(until)
	free := dynamo.Condition{
		Expression: "#holder = :me",
		Names:      map[string]string{"#holder": attrHolder}, Values: dynamo.Item{":me": dynamo.String(x.me)},
	}
	if !f.ours {
		free.Expression += " OR attribute_not_exists(#until) OR #until < :now AND #next = :next"
		free.Names["#until"], free.Names["#next"] = attrUntil, attrNext
		free.Values[":now"], free.Values[":next"] = dynamo.Int(x.now()), dynamo.Uint(f.next)
	}
	_, err := x.db.Put(ctx, x.table, item, free)
	f.until, f.ours = until, err == nil
	if errors.Is(err, dynamo.ErrCondition) {
		return nil
	}
	return err
}

// load reads all progress rows.
func (x *indexer) load(ctx context.Context) (map[audit.LogName]progress, error) {
	rows := map[audit.LogName]progress{}
	err := x.db.Query(ctx, dynamo.Query{
		Table: x.table, Where: "pk = :pk", Values: dynamo.Item{":pk": dynamo.String(progressPartition)}, Consistent: true,
	}, func(item dynamo.Item) (bool, error) {
		log, p, err := readProgress(item)
		if err == nil {
			rows[log] = p
		} // what cannot be read is indexed again
		return true, nil
	})
	return rows, err
}
