package simulation

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"piivault/internal/audit"
	auditdynamo "piivault/internal/audit/dynamo"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
)

// final waits, everything being well, until nothing is left to be repaired,
// erased or replicated, and then looks at every token in every region.
func (o *oracle) final() {
	w := o.w
	next := time.Now()
	complaint := ""
	w.until("convergence", func() bool {
		if time.Now().Before(next) {
			return false
		}
		next = time.Now().Add(3 * time.Second)
		complaint = o.unsettled()
		return complaint == ""
	})
	if !o.holds() {
		o.violatef("at the end: %s", complaint)
		return
	}
	pause := time.Now().Add(calm)
	w.until("calm", func() bool { return time.Now().After(pause) })
	for _, r := range w.alive() {
		for _, h := range o.held {
			if at := slices.IndexFunc(r.instances, func(i *instance) bool { return i.ready }); at >= 0 && o.holds() {
				w.launch(&operation{kind: detokenize, on: r.instances[at], held: h, patient: true})
				w.until("an answer", func() bool { return o.busy == 0 })
			}
		}
	}
	o.makeAgain()
	o.verifyLogs()
	o.linearize()
	o.outlived()
}

// makeAgain tokenizes every deterministic value in every region: no erasure is
// under way any more.
func (o *oracle) makeAgain() {
	w := o.w
	o.ended = true
	for _, r := range w.alive() {
		for n := range logins {
			at := slices.IndexFunc(r.instances, func(i *instance) bool { return i.ready })
			if at < 0 || !o.holds() {
				continue
			}
			op := &operation{kind: tokenize, on: r.instances[at], typ: login, patient: true}
			o.setLogin(op, n)
			w.launch(op)
			w.until("an answer", func() bool { return o.busy == 0 })
		}
	}
}

// outlived looks for what an acknowledged erasure named and did not end.
func (o *oracle) outlived() {
	for _, e := range o.erasures {
		if len(e.acked) == 0 || !e.answered || e.lost {
			continue
		}
		for _, target := range slices.Sorted(maps.Keys(e.targets)) {
			record, generation, _ := strings.Cut(target, "#")
			key := dynamo.Key{PK: o.w.tenant + "#" + record, SK: "R#" + generation}
			if r := o.w.alive()[0]; r.db.Row("records", key).Item != nil && !o.buried(r, key) {
				o.violatef("G9: %s outlives an erasure begun at %v", o.w.short(key.PK+"|"+key.SK), e.begun.Sub(epoch))
			}
		}
	}
}

// unsettled says what is not yet as it will be.
func (o *oracle) unsettled() string {
	w := o.w
	for _, e := range o.erasures {
		if len(e.acked) > 0 && e.completed.IsZero() && !e.answered && !e.lost {
			return fmt.Sprintf("an erasure is not complete (begun %v)", e.begun.Sub(epoch))
		}
	}
	if o.working() {
		return "an erase job is not complete"
	}
	for _, table := range []string{"records", "control", "audit"} {
		var first map[string]string
		lost := o.lostWrites(table)
		for _, r := range w.alive() {
			rows := o.rows(r, table, lost)
			if gap := rows["gap"]; gap != "" {
				return r.name + " has a record without all copies: " + gap
			}
			if first == nil {
				first = rows
			} else if !maps.Equal(first, rows) {
				return table + " differ between regions: " + difference(first, rows)
			}
		}
	}
	secret := w.alive()[0].db.Row("control", dynamo.Key{PK: string(authz.KindTenantSecret), SK: o.w.tenant})
	if m, err := crypto.Parse(dynamo.Read(secret.Item).Bytes("body")); err != nil {
		return err.Error()
	} else if _, missing := o.rings[o.w.epoch-1].Copies(m); missing != nil {
		return "the tenant's secret lacks copies"
	}
	for _, r := range w.alive() {
		if log, err := o.verified(r); log != "" && err == nil {
			return "the log " + log + " has no end in " + r.name
		}
	}
	return ""
}

// working reports an erase job that some region knows of, and that is not complete.
func (o *oracle) working() bool {
	for id, j := range o.jobs {
		key := dynamo.Key{PK: string(authz.KindEraseJob), SK: id}
		if j.completed.IsZero() && slices.ContainsFunc(o.w.alive(), func(r *region) bool { return r.db.Row("control", key).Item != nil }) {
			return true
		}
	}
	return false
}

func difference(a, b map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if a[k] != b[k] {
			return k
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			return k
		}
	}
	return ""
}

// rows are what a table holds and all regions must hold alike: not heartbeats,
// nor when a tombstone is to be looked at again, nor what lies under one and
// goes at that time, nor what a region wrote that is lost.
func (o *oracle) rows(r *region, table string, lost map[dynamo.Key]bool) map[string]string {
	rows := map[string]string{}
	r.db.Rows(table, func(key dynamo.Key, item dynamo.Item) {
		if table == "records" && (strings.HasPrefix(key.PK, "#") || key.SK[0] != 'X' && o.buried(r, key)) {
			return
		}
		f := dynamo.Read(item)
		content := ""
		switch {
		case item["message"] != nil:
			content = string(f.Bytes("message"))
		case item["body"] != nil:
			content = string(f.Bytes("body"))
		case item["block"] != nil:
			content = string(f.Bytes("block"))
		}
		if !lost[key] {
			rows[o.w.short(key.PK+"|"+key.SK)] = content
		}
		if (item["gap"] != nil || item["epoch"] != nil && o.outdated(int(f.Int("epoch")))) && !o.givenUp(item) {
			rows["gap"] = o.w.short(key.PK + "|" + key.SK)
		}
	})
	return rows
}

// outdated reports a ring whose keys for the tenant were not those of the present one.
func (o *oracle) outdated(epoch int) bool {
	return !o.w.rings[epoch-1].sameKeys(o.w.rings[o.w.epoch-1])
}

// verifyLogs runs the auditor's check over each region's table (G7).
func (o *oracle) verifyLogs() {
	for _, r := range o.w.alive() {
		if _, err := o.verified(r); err != nil {
			o.violatef("G7: the logs in %s: %v", r.name, err)
		}
	}
}

// verified verifies a region's table and tells of a log of which nothing says where
// it ends: instances of its own region will, if there are any.
func (o *oracle) verified(r *region) (unfinished string, err error) {
	client, err := dynamo.New(dynamo.Config{Region: r.name, Data: r.db})
	if err != nil {
		return "", err
	}
	all, err := audit.Verify(o.w.life, remaining{auditdynamo.Stored{Client: client, Table: "audit"}, o.w.lost})
	if errors.Is(err, audit.ErrUnfinished) && !errors.Is(err, audit.ErrTampered) && !errors.Is(err, audit.ErrCorrupt) {
		err = nil
	}
	for _, v := range all {
		of, _, _ := strings.Cut(v.Log, "/")
		if v.Behind > 0 && slices.ContainsFunc(o.w.members(o.w.epoch), func(m *region) bool { return m.name == of }) {
			unfinished = v.Log
		}
	}
	return unfinished, err
}
