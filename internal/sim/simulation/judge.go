package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"piivault/internal/authz"
	"piivault/internal/dynamo"
)

// judge compares how an operation ended with what is known.
func (o *oracle) judge(out *outcome) {
	op := out.op
	o.busy--
	op.on.busy--
	if op.spends() {
		op.on.spending--
	}
	lost := op.on.dead.Load() // the answer was never sent
	code := out.code()
	if lost {
		code = "crashed"
	}
	o.counts[op.name()+" "+code]++
	o.w.tracef("%s op %d %s: %s", op.on.name, op.id, op.describe(), code)
	if out.err == nil && !lost {
		op.on.warm = true
	}
	if len(op.parts) > 0 {
		o.judgeBatch(out, lost)
		return
	}
	o.judgeItem(out, code, lost)
}

// judgeItem judges an operation of one item, or one of a batch's.
func (o *oracle) judgeItem(out *outcome, code string, lost bool) {
	op := out.op
	defer func() {
		if op.held != nil && op.kind != tamper && op.kind != inspect {
			o.events = append(o.events, event{op.held, op.on.region, op.kind, code, op.begun, out.at})
		}
	}()
	if lost {
		if op.try != nil {
			op.try.ended = out.at.Add(lateWrites)
		}
		return
	}
	switch op.kind {
	case tokenize:
		o.judgeTokenize(out)
	case detokenize, inspect:
		o.judgeRead(out)
	case tamper:
		o.judgeTampered(out)
	case attack:
		o.judgeRaid(out)
	case eraseToken, eraseWhole:
		if out.err == nil {
			o.judgeErased(out)
		}
	}
}

func (o *oracle) judgeTokenize(out *outcome) {
	op := out.op
	op.try.ended = out.at
	if out.err != nil {
		op.try.ended = out.at.Add(lateWrites)
		o.judgeRefusal(out)
		return
	}
	if op.held == nil {
		op.held = o.add(out.token, op.typ, op.value)
		op.held.attempts = []*attempt{op.try}
	} else if op.held.token.Reveal() != out.token.Reveal() {
		o.violatef("op %d: another token than that of the same value or key", op.id)
	}
	op.try.acked = true
	r := op.on.region
	if o.endangered(op.held, op.begun) {
		return // an erasure of it was under way
	}
	row := o.live(r, op.held)
	if row == nil {
		o.violatef("G1: op %d: acknowledged, and not in the table of %s", op.id, r.name)
		return
	}
	if at := dynamo.Read(row).Key(); op.held.forever && op.subject != "" {
		link := dynamo.Key{PK: at.PK, SK: "L" + at.SK[1:] + "#" + o.keys.SubjectID(op.subject)}
		if r.db.Row("records", link).Item == nil {
			o.violatef("G9: op %d: acknowledged, and not linked to its subject in %s", op.id, r.name)
		}
	}
	o.judgeDurable(op, row)
	if !o.audited(r, "tokenize", op.held.record) {
		o.violatef("G6: op %d: acknowledged without a durable audit entry in %s", op.id, r.name)
	}
}

// endangered reports that an erasure that may end the token was under way at
// any time since.
func (o *oracle) endangered(h *held, since time.Time) bool {
	return slices.ContainsFunc(o.erasures, func(e *erasure) bool {
		return e.affects(h) && !o.doneBy(e, since)
	})
}

// doneBy reports that an erasure was complete before a time, in the sense
// that nothing of it happens later.
func (o *oracle) doneBy(e *erasure, at time.Time) bool {
	if e.completed.IsZero() || !e.completed.Before(at) {
		return false
	}
	if !e.everywhere {
		return o.lagged.Before(e.begun) && e.completed.Add(maxLag).Before(at)
	}
	return e.final() || o.lagged.Before(e.begun)
}

// final: a random token's tombstone holds wherever it is; no lag matters.
func (e *erasure) final() bool { return e.held != nil && !e.held.forever }

// judgeRefusal: with any KMS reachable, no write is refused (G2).
func (o *oracle) judgeRefusal(out *outcome) {
	op := out.op
	if errors.Is(out.err, errAborted) || !op.patient || !o.calm(op) || !o.entered(op) || !o.secondReachable(op) {
		return
	}
	if !slices.ContainsFunc(o.w.members(op.on.epoch), func(r *region) bool { return o.reaches(op, r.kms) }) {
		return
	}
	switch out.code() {
	case "erasing", "erased":
		if !o.ended && (op.held == nil || o.mayBeErased(op.held, op.subject) || o.mayHaveExpired(op)) {
			return
		}
	case "unavailable":
		if slices.ContainsFunc(op.siblings(), func(p *operation) bool { return p.held != nil && o.endangered(p.held, p.begun) }) {
			return
		}
	}
	o.violatef("G2: op %d: refused with %q though nothing is wrong: %v", op.id, out.code(), out.err)
}

// entered reports that the instance had the tenant's secret, or could get it:
// a region that has just joined has no copy of its own until it is repaired.
func (o *oracle) entered(op *operation) bool {
	return op.warm || slices.ContainsFunc(o.w.members(op.on.epoch), func(r *region) bool {
		return slices.Contains(op.secret, r.name) && o.reaches(op, r.kms)
	})
}

// secretCopies are the regions whose key opens the tenant's secret as an
// instance finds it.
func (o *oracle) secretCopies(on *instance) []string {
	row := on.region.db.Row("control", dynamo.Key{PK: string(authz.KindTenantSecret), SK: o.w.tenant})
	return o.opensIn(on.epoch, row.Item, "body")
}

// mayBeErased reports any erasure of the token, or of the subject.
func (o *oracle) mayBeErased(h *held, subject string) bool {
	return slices.ContainsFunc(o.erasures, func(e *erasure) bool { return e.affects(h) || e.subject != "" && e.subject == subject })
}

func (o *oracle) mayHaveExpired(op *operation) bool { return op.held != nil && op.held.expires != 0 }

// calm reports that the instance and its tables were well, for long enough
// before an operation and until now.
func (o *oracle) calm(op *operation) bool { return o.reaches(op, op.on.region.tables) }

// reaches reports that an operation's instance could use an endpoint all the time.
func (o *oracle) reaches(op *operation, e *endpoint) bool {
	from := op.begun.Add(-calm)
	if e.mode != up || e.since.After(from) || o.w.cut(op.on.region, e.region) {
		return false
	}
	return !o.w.mended(op.on.region, e.region).After(from)
}

// judgeRead is detokenize's and inspect's.
func (o *oracle) judgeRead(out *outcome) {
	op, h := out.op, out.op.held
	if out.err == nil {
		o.judgeShown(out)
		return
	}
	if errors.Is(out.err, errAborted) || !op.patient || !o.calm(op) || !o.entered(op) || !o.expected(op) {
		return
	}
	if out.code() == "over_budget" && !slices.Contains(o.w.members(1), op.on.region) {
		return // it has joined, and has no part of this day's budgets
	}
	if op.kind == inspect || o.openable(op) {
		o.violatef("G1: op %d: %s of %v, which was acknowledged and is not erased: %q: %v", op.id, op.kind, h, out.code(), out.err)
	}
}

// judgeShown: the right value, recorded, and not an erased one.
func (o *oracle) judgeShown(out *outcome) {
	op, h, r := out.op, out.op.held, out.op.on.region
	if op.kind == detokenize {
		if out.value != h.value {
			o.violatef("G1: op %d: not the value of %v", op.id, h)
		}
		if size := o.log(r, out.receipt).size; out.first+uint64(out.entries) > size || out.entries == 0 {
			o.violatef("G6: op %d: a value without a durable audit entry: %s/%d, durable %d", op.id, out.receipt, out.first, size)
		}
		if !o.audited(r, "detokenize", h.record) {
			o.violatef("G6: op %d: its audit entry does not name the record", op.id)
		}
	}
	if len(h.attempts) == 0 {
		o.violatef("op %d: %v was never made", op.id, h)
	}
	if op.kind != detokenize {
		return
	}
	opened := fmt.Sprintf("%s#%08x", h.record, o.log(r, out.receipt).at[out.first])
	for _, e := range o.erasures {
		if o.gone(e, h, r, op.begun) && (e.final() || e.targets[opened]) {
			o.violatef("G9: op %d: %v opened after it was erased (erase began %v, complete %v)", op.id, h, e.begun.Sub(epoch), e.completed.Sub(epoch))
		}
	}
}

// gone reports that nothing that the erasure ended may be shown in a region
// since a time. What had its tombstone at once has it where it was asked for;
// everything has when the erasure is complete.
func (o *oracle) gone(e *erasure, h *held, r *region, at time.Time) bool {
	if e.subject == "" && e.held != h {
		return false
	}
	here := e.acked[r]
	return e.final() && !here.IsZero() && here.Before(at) || o.doneBy(e, at)
}

// expected reports that a token must be found, after the last erasure of it:
// its record is here, or somebody was told that it was made where it can be
// looked for.
func (o *oracle) expected(op *operation) bool {
	h := op.held
	if h.expires != 0 {
		return false // clocks differ
	}
	if op.here && !o.endangered(h, op.begun) {
		return true
	}
	return slices.ContainsFunc(h.attempts, func(a *attempt) bool {
		return a.acked && a.ended.Before(op.begun) && !o.endangered(h, a.begun) && o.reaches(op, a.on.tables) &&
			slices.Contains(o.w.members(op.on.epoch), a.on)
	})
}

// openable reports that a copy of the record's key can be used, and that the
// local key does not refuse.
func (o *oracle) openable(op *operation) bool {
	local := op.on.region.kms
	if local.stands && local.mode != up || local.since.After(op.begun.Add(-calm)) {
		return false
	}
	now := o.copies(op.on, op.held)
	return slices.ContainsFunc(o.w.members(op.on.epoch), func(r *region) bool {
		return slices.Contains(op.copies, r.name) && slices.Contains(now, r.name) && o.reaches(op, r.kms)
	})
}

func (o *oracle) judgeTampered(out *outcome) {
	op := out.op
	if out.err == nil && op.moved {
		o.violatef("G8: op %d: %v opened though its message was changed or another's", op.id, op.held)
	}
}

func (o *oracle) judgeErased(out *outcome) {
	op := out.op
	op.erasure.acked[op.on.region] = out.at
	o.settled(op.erasure)
	if !out.complete || !op.erasure.completed.IsZero() {
		return
	}
	if !o.completeFor(op.erasure, op.on.epoch) {
		o.violatef("G9: op %d: said to be complete, which it is not", op.id)
	}
}
