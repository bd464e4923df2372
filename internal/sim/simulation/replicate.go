package simulation

import (
	"slices"
	"time"

	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
)

// lane is a row on its way from one region to another: every version that was
// written and has not arrived, oldest first.
type lane struct {
	from, to *region
	table    string
	key      dynamo.Key
	rows     []simdynamo.Row
	since    time.Time // of the oldest
}

// replicas are the rows under way, in the order in which they set out.
type replicas struct{ lanes []*lane }

// changed is told of every change of every table, on the scheduler's goroutine.
func (w *World) changed(c simdynamo.Change) {
	from := w.region(c.Region)
	if !c.Replicated && c.Table != "audit-index" && c.Table != "counters" {
		for _, to := range w.regions {
			if to != from && to != w.lost {
				w.replicas.add(from, to, c)
			}
		}
	}
	w.oracle.changed(from, c)
}

func (w *World) region(name string) *region {
	return w.regions[slices.IndexFunc(w.regions, func(r *region) bool { return r.name == name })]
}

func (q *replicas) add(from, to *region, c simdynamo.Change) {
	row := simdynamo.Row{Item: c.After, Stamp: c.Stamp}
	for _, l := range q.lanes {
		if l.from == from && l.to == to && l.table == c.Table && l.key == c.Key {
			l.rows = append(l.rows, row)
			return
		}
	}
	q.lanes = append(q.lanes, &lane{from: from, to: to, table: c.Table, key: c.Key, rows: []simdynamo.Row{row}, since: time.Now()})
}

// deliver brings one version of a row, the oldest or, leaving out what is
// between, the newest.
func (w *World) deliver(l *lane) {
	n := 1
	if w.oneIn(2) {
		n = len(l.rows)
	}
	w.tracef("replicate %s→%s %s %s", l.from.name, l.to.name, l.table, w.short(l.key.PK+"|"+l.key.SK))
	l.to.db.Apply(l.table, l.key, l.rows[n-1])
	l.rows, l.since = l.rows[n:], time.Now()
	if len(l.rows) == 0 {
		w.replicas.lanes = slices.DeleteFunc(w.replicas.lanes, func(o *lane) bool { return o == l })
	}
}

// open lists the lanes over links that are up.
func (w *World) open() []*lane {
	var open []*lane
	for _, l := range w.replicas.lanes {
		if !w.cut(l.from, l.to) {
			open = append(open, l)
		}
	}
	return open
}

// overdue is a lane that has waited for as long as replication may take.
func (w *World) overdue() *lane {
	for _, l := range w.open() {
		since := l.since
		if mended := w.mended(l.from, l.to); mended.After(since) {
			since = mended
		}
		if time.Since(since) > maxLag {
			return l
		}
	}
	return nil
}

// lag is the age of the oldest version of a row that has not arrived.
func (w *World) lag() time.Duration {
	oldest := time.Now()
	for _, l := range w.replicas.lanes {
		if l.since.Before(oldest) {
			oldest = l.since
		}
	}
	return time.Since(oldest)
}
