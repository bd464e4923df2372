package simulation

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
)

// job is an erasure as the control tables show it.
type job struct {
	subject   string // hashed
	records   []string
	regions   []string // that are to confirm
	confirmed map[string]bool
	made      time.Time
	completed time.Time
}

// auditLog is what a region's table holds of a log.
type auditLog struct {
	blocks  map[uint64]uint64 // by number: the size of the log with it
	next    uint64            // number of the first block that is not there
	size    uint64            // entries before it
	entries map[string]bool   // action and record
	at      map[uint64]uint32 // by entry: the generation that it speaks of
}

// changed looks at every change of a table as it is made (G3, G9, and what
// replaces what).
func (o *oracle) changed(r *region, c simdynamo.Change) {
	switch c.Table {
	case "records":
		if !strings.HasPrefix(c.Key.PK, "#") {
			o.recordChanged(r, c)
		}
	case "control":
		o.controlChanged(r, c)
	case "audit":
		o.auditChanged(r, c)
	case "counters":
		o.counterChanged(r, c)
	}
}

func (o *oracle) recordChanged(r *region, c simdynamo.Change) {
	if c.Key.SK[0] != 'R' {
		return
	}
	name := o.w.short(c.Key.PK + "|" + c.Key.SK)
	if c.After == nil {
		if !c.Replicated && c.Before["ttl"] == nil && !o.buried(r, c.Key) {
			o.violatef("G1: %s was deleted in %s without a tombstone", name, r.name)
		}
		return
	}
	missing, err := o.missing(c.After)
	if err != nil {
		o.violatef("%s in %s: %v", name, r.name, err)
		return
	}
	gap := ""
	if c.After["gap"] != nil {
		gap, _, _ = strings.Cut(dynamo.Read(c.After).String("gap"), "#")
	}
	if gap != strings.Join(missing, ",") {
		o.violatef("G3: %s in %s misses copies of %v and says %q", name, r.name, missing, gap)
	}
	o.returned(r, c.Key)
	if o.first[c.Key] == nil {
		o.first[c.Key] = c.After
	}
	if c.Before == nil || c.Replicated || o.landsAgain(c) {
		return
	}
	if now, was := dynamo.Read(c.After).Uint("epoch"), dynamo.Read(c.Before).Uint("epoch"); now < was {
		o.violatef("G2: %s was replaced in %s by one of ring %d, before %d", name, r.name, now, was)
	}
	epoch := int(dynamo.Read(c.After).Int("epoch"))
	before, after := o.opensIn(epoch, c.Before, "message"), o.opensIn(epoch, c.After, "message")
	if slices.ContainsFunc(before, func(opened string) bool { return !slices.Contains(after, opened) }) {
		o.violatef("G2: %s was replaced in %s by one that opens in fewer regions: %v, before %v", name, r.name, after, before)
	}
	if o.buried(r, c.Key) {
		o.violatef("G9: %s was replaced in %s under its tombstone", name, r.name)
	}
}

// landsAgain reports a row that is written as it was at first: batches have no
// conditions, and one that was tried again, or given up and lands late, brings
// the gap or the epoch back by which repair finds it once more.
func (o *oracle) landsAgain(c simdynamo.Change) bool {
	was, now := dynamo.Read(o.first[c.Key]), dynamo.Read(c.After)
	same := bytes.Equal(was.Bytes("message"), now.Bytes("message")) && was.Int("epoch") == now.Int("epoch")
	if same {
		o.counts["a batch lands again"]++
	}
	return same
}

// returned: what an erasure found does not come back after it is complete.
func (o *oracle) returned(r *region, key dynamo.Key) {
	_, record, _ := strings.Cut(key.PK, "#")
	for _, e := range o.erasures {
		if e.targets[record+key.SK[1:10]] && !e.final() && o.doneBy(e, time.Now()) && !o.buried(r, key) {
			o.violatef("G9: %s comes to %s though its erasure is complete", o.w.short(key.PK+"|"+key.SK), r.name)
		}
	}
}

func (o *oracle) buried(r *region, key dynamo.Key) bool {
	return r.db.Peek("records", dynamo.Key{PK: key.PK, SK: "X" + key.SK[1:10]}) != nil
}

// missing are the regions of its ring that a row's message has no copy for.
func (o *oracle) missing(item dynamo.Item) ([]string, error) {
	m, err := crypto.Parse(dynamo.Read(item).Bytes("message"))
	if err != nil {
		return nil, err //nolint:wrapcheck // shown as it is
	}
	_, missing := o.rings[dynamo.Read(item).Uint("epoch")-1].Copies(m)
	return missing, nil
}

// controlChanged follows erasure jobs: one is complete as soon as every region
// has written its confirmation anywhere.
func (o *oracle) controlChanged(r *region, c simdynamo.Change) {
	switch c.Key.PK {
	case string(authz.KindRingDone):
		id, _, _ := strings.Cut(c.Key.SK, "#")
		epoch, _ := strconv.Atoi(id) // not done, where it is no number
		o.done[r] = max(o.done[r], epoch)
	case string(authz.KindEraseJob):
		if o.jobs[c.Key.SK] == nil {
			o.jobs[c.Key.SK] = parseJob(dynamo.Read(c.After).Bytes("body"))
		}
	case string(authz.KindEraseConfirm):
		id, name, _ := strings.Cut(c.Key.SK, "#")
		j := o.jobs[id]
		if j == nil {
			o.violatef("G9: %s confirmed an erasure that nobody made", name)
			return
		}
		j.confirmed[name] = true
		o.jobsChanged()
	}
}

// jobsChanged ends the jobs that every region has confirmed, of those which were
// in the ring when they were made and still are.
func (o *oracle) jobsChanged() {
	for _, id := range slices.Sorted(maps.Keys(o.jobs)) {
		if j := o.jobs[id]; j.completed.IsZero() && o.confirmed(j, o.w.epoch) {
			j.completed = time.Now()
			o.complete(j)
		}
	}
}

func (o *oracle) confirmed(j *job, epoch int) bool {
	return !slices.ContainsFunc(o.w.members(epoch), func(r *region) bool { return slices.Contains(j.regions, r.name) && !j.confirmed[r.name] })
}

func parseJob(body []byte) *job {
	var b struct {
		Subject string
		Targets []struct{ Record string }
		Regions []string
	}
	_ = json.Unmarshal(body, &b) // what it does not name, it does not complete
	j := &job{subject: b.Subject, regions: b.Regions, confirmed: map[string]bool{}, made: time.Now()}
	for _, t := range b.Targets {
		j.records = append(j.records, t.Record)
	}
	return j
}

func (o *oracle) matches(j *job, e *erasure) bool {
	if e.subject != "" {
		return j.subject == o.keys.SubjectID(e.subject)
	}
	return slices.Contains(j.records, e.held.record)
}

// complete ends the erasures that a job was made for, and looks whether it did.
func (o *oracle) complete(j *job) {
	for _, e := range o.erasures {
		if e.completed.IsZero() && j.made.After(e.begun) && o.matches(j, e) {
			e.completed = time.Now()
			e.everywhere = len(j.regions) == len(o.w.regions)
			o.lives(e)
		}
	}
}

// lives looks for what is there though its erasure is complete.
func (o *oracle) lives(e *erasure) {
	for _, target := range slices.Sorted(maps.Keys(e.targets)) {
		record, generation, _ := strings.Cut(target, "#")
		key := dynamo.Key{PK: o.w.tenant + "#" + record, SK: "R#" + generation}
		for _, r := range o.w.alive() {
			if !e.final() && r.db.Peek("records", key) != nil && !o.buried(r, key) && o.lagged.Before(e.begun) {
				o.violatef("G9: %s lives in %s though its erasure is complete", o.w.short(key.PK+"|"+key.SK), r.name)
			}
		}
	}
}

// settled says of an acknowledged erasure for which no job was made, because
// an earlier one of its target seemed to be open or had just ended where it
// was asked for, that it is no more than answered.
func (o *oracle) settled(e *erasure) {
	for _, j := range o.jobs {
		if j.made.After(e.begun) && o.matches(j, e) {
			return
		}
	}
	e.answered = true
}

// completeFor reports that some job of an erasure's target is complete, as an
// instance with a ring sees it.
func (o *oracle) completeFor(e *erasure, epoch int) bool {
	for _, j := range o.jobs {
		if o.confirmed(j, epoch) && o.matches(j, e) {
			return true
		}
	}
	return false
}

func (o *oracle) log(r *region, name string) *auditLog {
	key := r.name + " " + name
	l := o.logs[key]
	if l == nil {
		l = &auditLog{blocks: map[uint64]uint64{}, entries: map[string]bool{}, at: map[uint64]uint32{}}
		o.logs[key] = l
	}
	return l
}

// auditChanged reads blocks as they become durable.
func (o *oracle) auditChanged(r *region, c simdynamo.Change) {
	if c.Before != nil {
		o.violatef("G7: a row of the audit table changed in %s: %s %s", r.name, c.Key.PK, c.Key.SK)
		return
	}
	if c.After["block"] == nil {
		return
	}
	raw := dynamo.Read(c.After).Bytes("block")
	b, err := audit.ParseBlock(raw)
	if err != nil {
		o.violatef("G7: %s: %v", c.Key.PK, err)
		return
	}
	l := o.log(r, b.Log.String())
	l.blocks[b.Number] = b.First + uint64(b.Count)
	for l.blocks[l.next] != 0 {
		l.size = l.blocks[l.next]
		l.next++
	}
	err = audit.EachEntry(b.Log, b.Number, raw, func(index uint64, e audit.Entry) {
		l.entries[e.Action+" "+e.Record], l.at[index] = true, e.Generation
	})
	if err != nil {
		o.violatef("G7: %s: %v", c.Key.PK, err)
	}
}

// audited reports a durable entry of a region's own logs about a record.
func (o *oracle) audited(r *region, action, record string) bool {
	for key, l := range o.logs {
		if strings.HasPrefix(key, r.name+" "+r.name+"/") && l.entries[action+" "+record] {
			return true
		}
	}
	return false
}
