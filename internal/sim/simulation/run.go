package simulation

import (
	"fmt"
	"slices"
	"testing/synctest"
	"time"
)

const (
	maxBusy = 6 // client operations at once
	// healing is how long, at most, it may take until all is as it should be.
	healing = 4 * time.Minute
	// maxRevived is how many instances may have to be started once more then.
	maxRevived = 100
)

// run bootstraps, disturbs, heals, and checks.
func (w *World) run() {
	defer w.end()
	w.bootstrap()
	for w.step < w.cfg.Steps && w.oracle.holds() {
		w.next()
		w.act()
	}
	if w.oracle.holds() {
		w.heal()
	}
}

// next begins a step: everything has run until it waits.
func (w *World) next() {
	w.chores()
	w.scheduler.begin()
	if w.lag() > quiet-maxLag {
		w.oracle.lagged = time.Now()
	}
	ended, news := w.take()
	for _, n := range news {
		w.tracef("%s", n)
		w.hear(n)
	}
	for _, o := range ended {
		w.oracle.judge(o)
	}
}

// chores answers what is done all the time and decides nothing, as long as it
// can be: steps are for what may go wrong. The audit indexer of an instance
// that serves has no faults: it and two blocks that become durable together
// race, so that how often it looks is nobody's choice.
func (w *World) chores() {
	w.settle()
	for {
		synctest.Wait()
		done := false
		for _, c := range w.waiting() {
			if c.chore && !c.orphan.Load() && (w.healthy(c) || c.index && c.from.ready) {
				w.finish(c, c.do(whole))
				done = true
			}
		}
		if !done {
			return
		}
	}
}

// hear acts on what an instance says of itself.
func (w *World) hear(news string) {
	for _, r := range w.regions {
		for _, i := range r.instances {
			if i.dead.Load() {
				continue
			}
			switch news {
			case i.name + " is ready":
				i.ready = true
			case i.name + " cannot start", i.name + " lost its log":
				w.stop(i)
				if w.healing { // as whoever supervises processes does
					w.revive(r, news)
				}
			}
		}
	}
}

// revive starts an instance of a region again, but not for ever.
func (w *World) revive(r *region, news string) {
	if w.revived++; w.revived > maxRevived {
		w.oracle.violatef("everything is healed, and again: %s", news)
		return
	}
	w.restart(r)
}

// act draws what happens now.
func (w *World) act() {
	calls := w.waiting()
	type choice struct {
		weight int
		do     func()
	}
	choices := []choice{{20, func() { w.advance(calls) }}, {1, w.disturb}}
	if len(calls) > 0 {
		choices = append(choices, choice{60, func() { w.conclude1(pick(w.scheduler, calls)) }})
	}
	if open := w.open(); len(open) > 0 {
		choices = append(choices, choice{20, func() { w.deliver(pick(w.scheduler, open)) }})
	}
	if clients := w.oracle.clients(); clients < maxBusy {
		choices = append(choices, choice{6, w.begin})
	}
	choices = append(choices, choice{4, w.index})
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := w.random.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			c.do()
			return
		}
	}
}

// conclude1 looks at one call. One whose caller is gone is applied, late, or lost.
func (w *World) conclude1(c *call) {
	v := w.judge(c)
	if c.orphan.Load() {
		if v == unanswered || !c.write || w.oneIn(2) {
			w.tracef("%s: lost", w.short(c.name))
			w.finish(c, errNoReply)
			return
		}
	}
	w.conclude(c, v)
}

// advance lets time pass, but not past what was promised: healthy endpoints
// answer promptly, and replication lags by so much.
func (w *World) advance(calls []*call) {
	for _, c := range calls {
		switch {
		case c.orphan.Load() && time.Since(c.born) > lateWrites:
			w.tracef("%s: lost", w.short(c.name))
			w.finish(c, errNoReply)
			return
		case w.healthy(c) && time.Since(c.born) > promptly:
			w.conclude1(c)
			return
		}
	}
	if l := w.overdue(); l != nil {
		w.deliver(l)
		return
	}
	for _, r := range w.alive() {
		if time.Since(r.indexed) > maxLag/2 {
			w.indexAll(r)
			return
		}
	}
	if w.oneIn(2) {
		time.Sleep(w.upTo(5 * time.Millisecond))
	} else {
		time.Sleep(w.upTo(promptly))
	}
}

// index makes one row's indexes right.
func (w *World) index() {
	r := pick(w.scheduler, w.alive())
	if stale := r.db.Stale("records"); len(stale) > 0 {
		key := pick(w.scheduler, stale)
		w.tracef("index %s %s", r.name, w.short(key.PK+"|"+key.SK))
		r.db.Index("records", key)
	}
}

func (w *World) indexAll(r *region) {
	r.indexed = time.Now()
	for _, key := range r.db.Stale("records") {
		r.db.Index("records", key)
	}
	w.tracef("index %s all", r.name)
	if w.ttl {
		w.expire(r)
	}
}

// disturb changes a fault, a link or an instance.
func (w *World) disturb() {
	r := pick(w.scheduler, w.alive())
	switch w.random.IntN(11) {
	case 0, 1, 2:
		w.fault(r.kms)
	case 3, 4:
		w.fault(r.tables)
	case 5, 6:
		w.link()
	case 7:
		i := pick(w.scheduler, r.instances)
		if !i.dead.Load() {
			w.tracef("%s crashes", i.name)
			w.oracle.counts["fault: crash"]++
			w.stop(i)
		}
	case 8:
		w.changeRing()
	default:
		w.restart(r)
	}
}

func (w *World) restart(r *region) {
	if r == w.lost || !slices.Contains(w.members(w.epoch), r) {
		return
	}
	for at, i := range r.instances {
		if i.dead.Load() {
			n := w.start(r, at)
			w.tracef("%s starts, its clock %v off", n.name, n.skew)
			return
		}
	}
}

func (w *World) fault(e *endpoint) {
	m := up
	if e.mode == up || w.oneIn(4) {
		m = pick(w.scheduler, e.faults())
	}
	w.set(e, m)
}

func (w *World) set(e *endpoint, m mode) {
	if e.mode == m {
		return
	}
	w.tracef("%v: %s", e, m)
	w.oracle.counts["fault: "+e.kind()+" "+string(m)]++
	if e.mode == up && time.Since(e.since) > calm {
		e.stands = false
	}
	e.mode, e.since = m, time.Now()
	e.stands = e.stands || m == denied || m == disabled
	w.oracle.disturbed()
}

func (w *World) link() {
	a, b := pick(w.scheduler, w.alive()), pick(w.scheduler, w.alive())
	if a == b {
		return
	}
	if w.cut(a, b) {
		w.mend(a, b)
		return
	}
	w.tracef("link %s cut", pair(a, b))
	w.oracle.counts["fault: link cut"]++
	w.links[pair(a, b)] = time.Now()
	w.oracle.disturbed()
}

func (w *World) mend(a, b *region) {
	w.tracef("link %s mended", pair(a, b))
	delete(w.links, pair(a, b))
	if w.repaired == nil {
		w.repaired = map[string]time.Time{}
	}
	w.repaired[pair(a, b)] = time.Now()
}

// mended is when a link that is up came up.
func (w *World) mended(a, b *region) time.Time { return w.repaired[pair(a, b)] }

// bootstrap starts an instance of each region, makes the tenant, and starts the others.
func (w *World) bootstrap() {
	w.startAll()
	first := w.regions[0].instances[0]
	made := make(chan error, 1)
	var id string
	w.running.Go(func() {
		var err error
		id, err = first.vault.CreateTenant(as(w.life, first.name+" tenant"), "default")
		made <- err
	})
	var err error
	w.until("the tenant is made", func() bool {
		select {
		case err = <-made:
			return true
		default:
			return false
		}
	})
	if err != nil {
		w.oracle.violatef("bootstrap: %v", err)
		return
	}
	w.tenant = id
	w.oracle.openTenant(w.life, first)
	if w.mayOwn() { // let all instances open what is wrapped by them
		w.stopAll(w.members(1))
		w.startAll()
	}
}

func (w *World) startAll() {
	for _, r := range w.members(1) {
		for at := range r.instances {
			w.start(r, at)
		}
	}
	w.until("every instance is ready", func() bool {
		return !slices.ContainsFunc(w.members(1), func(r *region) bool {
			return slices.ContainsFunc(r.instances, func(i *instance) bool { return !i.ready })
		})
	})
}

// until answers everything until something is so.
func (w *World) until(what string, so func() bool) {
	limit := time.Now().Add(healing)
	for {
		w.next()
		if so() || !w.oracle.holds() {
			return
		}
		if time.Now().After(limit) {
			w.oracle.violatef("not within %v: %s", healing, what)
			return
		}
		w.quietly()
	}
}

// quietly does what can be done, and else lets time pass.
func (w *World) quietly() {
	if calls := w.waiting(); len(calls) > 0 {
		w.conclude1(calls[0])
		return
	}
	if lanes := w.open(); len(lanes) > 0 {
		w.deliver(lanes[0])
		return
	}
	for _, r := range w.alive() {
		if len(r.db.Stale("records")) > 0 {
			w.indexAll(r)
			return
		}
	}
	time.Sleep(w.upTo(promptly))
}

// heal ends every fault and waits until all is as it should be.
func (w *World) heal() {
	w.settle() // what the last step set going
	w.tracef("everything is healed")
	w.healing = true
	for range w.rings {
		w.changeRing()
	}
	alive := w.alive()
	for i, a := range alive {
		w.set(a.kms, up)
		w.set(a.tables, up)
		for _, b := range alive[:i] {
			if w.cut(a, b) {
				w.mend(a, b)
			}
		}
	}
	for _, r := range w.regions {
		for _, i := range r.instances {
			if i.epoch != w.epoch && !i.dead.Load() {
				w.stop(i)
			}
		}
		for range r.instances {
			w.restart(r)
		}
	}
	w.until("clients are answered", func() bool { return w.oracle.clients() == 0 })
	w.oracle.final()
}

// end stops every instance and waits for its goroutines.
func (w *World) end() {
	for _, r := range w.regions {
		for _, i := range r.instances {
			if !i.dead.Load() {
				w.stop(i)
			}
		}
	}
	for _, c := range w.waiting() {
		w.finish(c, errCrashed)
	}
	w.running.Wait()
}

// expire removes rows whose time to live is over, as DynamoDB does: some.
func (w *World) expire(r *region) {
	if n := r.db.Expire("records", func(int) bool { return w.oneIn(2) }); n > 0 {
		w.tracef("%s tables: %s", r.name, fmt.Sprintf("%d rows expire", n))
	}
}
