package streams

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"piivault/internal/dynamo"
)

// unshown is how long a stream may take to show what is in its table.
const unshown = 2 * time.Second

// item is what the regions have of an item while they differ, or may.
type item struct {
	key    itemKey
	places []place // by region
}

// place is an item in one region.
type place struct {
	image   dynamo.Item // as its stream tells; nil: not there
	stamp   uint64      // of the write that made it so
	queue   []version   // what is to be written, oldest first
	writing *write      // the delivery under way, until the stream shows it
	planned bool        // it is in the schedule
	// found is what a delivery met instead of image, until the stream tells more.
	found *dynamo.Item
}

// version is what a write made of an item.
type version struct {
	stamp uint64
	image dynamo.Item
	due   time.Time
}

// write is a delivery.
type write struct {
	version
	over dynamo.Item // what it replaces
	// unsure: an attempt had no answer. It may be in the table or never get there.
	unsure bool
}

// saw takes note of a write to a region, of a client's or our own.
func (r *Replicator) saw(key itemKey, of int, was, is dynamo.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(key, was)
	p := &it.places[of]
	w := p.writing
	if p.found != nil { // no need to wait longer
		p.found, p.planned = nil, false
	}
	if w != nil && same(was, w.over) && same(is, w.image) {
		if p.stamp > w.stamp { // what came before it, and was the same again, is later
			p.queue = append([]version{{stamp: p.stamp, image: p.image}}, p.queue...)
		}
		p.writing, p.image, p.stamp = nil, w.image, w.stamp
	} else {
		if w != nil && w.unsure {
			p.writing = nil // its condition holds no more
		}
		r.clock++
		p.image, p.stamp = is, r.clock
		r.spread(it, of)
	}
	r.plan(it)
}

// item finds an item, or begins to keep it: until now all regions had what
// this one had.
func (r *Replicator) item(key itemKey, was dynamo.Item) *item {
	it := r.items[key]
	if it == nil {
		it = &item{key: key, places: make([]place, len(r.regions))}
		for i := range it.places {
			it.places[i].image = was
		}
		r.items[key] = it
	}
	return it
}

// spread queues what a region has for all others.
func (r *Replicator) spread(it *item, of int) {
	from := it.places[of]
	for i := range it.places {
		if i == of {
			continue
		}
		p := &it.places[i]
		due := time.Now().Add(r.orders.Delay)
		if r.orders.Jitter > 0 {
			due = due.Add(time.Duration(r.random.Int64N(int64(r.orders.Jitter))))
		}
		if n := len(p.queue); n > 0 {
			if r.orders.Coalesce {
				due = p.queue[n-1].due
				p.queue = p.queue[:n-1]
			} else if last := p.queue[n-1].due; due.Before(last) {
				due = last
			}
		}
		p.queue = append(p.queue, version{from.stamp, from.image, due})
	}
}

// plan schedules what can be delivered of an item, and forgets an item that
// all regions have alike.
func (r *Replicator) plan(it *item) {
	settled := true
	for i := range it.places {
		p := &it.places[i]
		for len(p.queue) > 0 && p.writing == nil && (p.queue[0].stamp <= p.stamp || same(p.queue[0].image, p.image)) {
			p.stamp = max(p.stamp, p.queue[0].stamp)
			p.queue = p.queue[1:]
		}
		settled = settled && len(p.queue) == 0 && p.writing == nil
		if len(p.queue) > 0 && p.writing == nil && !p.planned {
			p.planned = true
			heap.Push(&r.due, delivery{it, i, p.queue[0].due})
			r.wakeUp()
		}
	}
	if settled && r.items[it.key] == it { // the schedule may hold one that was forgotten before
		delete(r.items, it.key)
	}
}

// deliver writes what is due until ctx is done.
func (r *Replicator) deliver(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, parallel)
	for {
		d, wait := r.next()
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-r.wake:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		running.Go(func() {
			defer func() { <-slots }()
			r.send(ctx, d.item, d.to)
		})
	}
}

// next takes the delivery that is due from the schedule, or says how long
// there is none.
func (r *Replicator) next() (delivery, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || len(r.due) == 0 {
		return delivery{}, time.Hour
	}
	if wait := time.Until(r.due[0].due); wait > 0 {
		return delivery{}, wait
	}
	d, _ := heap.Pop(&r.due).(delivery)
	d.item.places[d.to].planned = false
	return d, 0
}

// send writes an item's next version into a region. A region that has
// something else than its stream has shown is left alone until it does, or for
// a while: what was written when the replicator began may not be shown.
func (r *Replicator) send(ctx context.Context, it *item, to int) {
	w := r.take(it, to)
	if w == nil {
		return
	}
	err := r.regions[to].write(ctx, r.cfg.Tables[it.key.table], it.key.Key, w)
	for ctx.Err() == nil && err != nil && !failedCondition(err) {
		r.cfg.Logger.Warn().Str("region", r.regions[to].name).Err(err).Msg("a write cannot be replicated")
		r.doubt(w)
		if pause(ctx, retryPause) != nil {
			return
		}
		err = r.regions[to].write(ctx, r.cfg.Tables[it.key.table], it.key.Key, w)
	}
	if failedCondition(err) {
		r.putBack(it, to, w, met(err))
	}
}

func (r *Replicator) take(it *item, to int) *write {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &it.places[to]
	if p.found != nil {
		p.image, p.found = *p.found, nil
	}
	if len(p.queue) == 0 || p.writing != nil {
		r.plan(it)
		return nil
	}
	if v := p.queue[0]; v.stamp <= p.stamp || same(v.image, p.image) {
		r.plan(it)
		return nil
	}
	p.writing = &write{version: p.queue[0], over: p.image}
	p.queue = p.queue[1:]
	return p.writing
}

func (r *Replicator) doubt(w *write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.unsure = true
}

// putBack: the region has something else. Unless an earlier attempt may have
// made it so, the version waits again, or need not be written.
func (r *Replicator) putBack(it *item, to int, w *write, met dynamo.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &it.places[to]
	if p.writing != w || w.unsure {
		return // its stream has shown it, or will show what became of it
	}
	p.writing = nil
	if p.stamp > w.stamp || !same(p.image, w.over) { // shown meanwhile
		p.queue = append([]version{w.version}, p.queue...)
	} else if same(met, w.image) {
		p.image, p.stamp = met, w.stamp
	} else {
		p.queue = append([]version{w.version}, p.queue...)
		p.found, p.planned = &met, true
		heap.Push(&r.due, delivery{it, to, time.Now().Add(unshown)})
	}
	r.plan(it)
}

func (one *region) write(ctx context.Context, table string, key dynamo.Key, w *write) error {
	cond := exactly(w.over, w.image)
	if w.image == nil {
		_, err := one.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: &table, Key: key.Item(), ConditionExpression: &cond.Expression,
			ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	}
	_, err := one.db.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &table, Item: w.image, ConditionExpression: &cond.Expression,
		ExpressionAttributeNames: cond.Names, ExpressionAttributeValues: cond.Values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return err
}

// met is the item that a condition failed on, nil for none.
func met(err error) dynamo.Item {
	failed := (*types.ConditionalCheckFailedException)(nil)
	if !errors.As(err, &failed) || len(failed.Item) == 0 {
		return nil
	}
	return normal(failed.Item)
}

func failedCondition(err error) bool {
	failed := (*types.ConditionalCheckFailedException)(nil)
	return errors.As(err, &failed)
}

// passing reports that a call may succeed later: there was no answer, or one
// of a server's fault.
func passing(err error) bool {
	var answer smithy.APIError
	return !errors.As(err, &answer) || answer.ErrorFault() == smithy.FaultServer
}

// delivery is a place that has something to be written.
type delivery struct {
	item *item
	to   int
	due  time.Time
}

// schedule is a heap of deliveries by time.
type schedule []delivery

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	if d, ok := x.(delivery); ok {
		*s = append(*s, d)
	}
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	last := old[len(old)-1]
	*s = old[:len(old)-1]
	return last
}
