package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"piivault/internal/authz"
	"piivault/internal/dynamo"
	"piivault/internal/sim/simdynamo"
	"piivault/internal/vault"
)

const (
	thieves = 3 // principals with limits of their own
	grabs   = 8 // tokens of a raid, at most
)

// theft is what a run's budgets are, and what thieves got of them (G5a).
type theft struct {
	own    authz.PrincipalLimits // of each thief
	tenant authz.Limit           // of all thieves' masked values, which nobody else asks for
	ahead  time.Duration         // of the counters' clocks: windows end during the run

	got  map[tally]int             // values and misses
	seen map[tally]map[string]bool // subjects
	used map[tally]map[string]int64
}

// tally is a budget and its window.
type tally struct {
	counter string
	span    authz.Span
	window  int64
}

// raid is a thief's batch.
type raid struct {
	thief  string
	held   []*held
	reveal vault.Reveal
	told   []string // by item: the code, "ok" for a value
}

func newTheft(s *scheduler) *theft {
	scale := int64(1 + s.random.IntN(3))
	limit := func(hour, day int64) authz.Limit { return authz.Limit{Hour: hour * scale, Day: day * scale} }
	t := &theft{
		own: authz.PrincipalLimits{
			Limits:   authz.Limits{Plain: limit(7, 11), Masked: limit(9, 14), Misses: limit(6, 9), Guesses: limit(1, 1)},
			Subjects: limit(8, 12),
		},
		tenant: limit(13, 20), got: map[tally]int{}, seen: map[tally]map[string]bool{}, used: map[tally]map[string]int64{},
	}
	switch s.random.IntN(3) {
	case 0: // an hour ends
		t.ahead = time.Hour - s.upTo(30*time.Second)
	case 1: // a day does
		t.ahead = -s.upTo(2 * time.Minute)
	}
	return t
}

// limits are the deployment's: nobody but thieves comes near them.
func (t *theft) limits() authz.BudgetLimits {
	l := authz.Unbounded()
	l.Tenant.Masked = t.tenant
	return l
}

// share is an instance's part of every limit, as cmd/vault has it.
func (w *World) share(i *instance) authz.Share {
	members := w.members(i.epoch)
	return authz.Share{Index: slices.Index(members, i.region), Of: len(members)}
}

// clock is what a region's counters say that it is.
func (w *World) clock(r *region) time.Time { return time.Now().Add(r.skew).Add(w.theft.ahead) }

// drawRaid has a thief try tokens, more often ones that were made lately.
func (o *oracle) drawRaid(op *operation) {
	w := o.w
	op.kind = attack
	op.raid = &raid{thief: fmt.Sprintf("thief-%d", w.random.IntN(thieves)), reveal: vault.Plain}
	if w.oneIn(2) {
		op.raid.reveal = vault.Masked
	}
	for range 1 + w.random.IntN(grabs) {
		if h := o.drawHeld(); !slices.Contains(op.raid.held, h) {
			op.raid.held = append(op.raid.held, h)
		}
	}
}

func (w *World) raid(ctx context.Context, o *outcome) {
	op, c := o.op, w.call(o.op)
	c.Principal.ID, c.Principal.Limits = op.raid.thief, &w.theft.own
	req := vault.DetokenizeRequest{Purpose: "theft", Continue: true}
	for _, h := range op.raid.held {
		req.Items = append(req.Items, vault.DetokenizeItem{Token: h.token, Reveal: op.raid.reveal})
	}
	var out vault.DetokenizeResult
	if out, o.err = op.on.vault.Detokenize(ctx, c, req); o.err != nil {
		return
	}
	o.receipt, o.first, o.entries = out.Audit.Log, out.Audit.First, out.Audit.Entries
	for i := range out.Items {
		code := "ok"
		if e := out.Items[i].Err; e != nil {
			code = e.Code
		}
		op.raid.told = append(op.raid.told, code)
		out.Items[i].Value.Wipe()
	}
}

// judgeRaid counts what a thief was told, in the window in which it asked and
// was answered, and looks whether that is more than the budgets allow.
func (o *oracle) judgeRaid(out *outcome) {
	if out.err != nil {
		return
	}
	op, t := out.op, o.w.theft
	for i, code := range op.raid.told {
		h := op.raid.held[i]
		o.counts["item of an attack "+code]++
		own := "principal/" + op.raid.thief + "/"
		switch code {
		case "ok":
			kind, limit := "plain", t.own.Plain
			if op.raid.reveal == vault.Masked {
				kind, limit = "masked", t.own.Masked
				o.count(out, "tenant/masked", t.tenant)
			}
			o.count(out, own+kind+"/"+h.typ, limit)
			o.see(out, own+"subjects/", o.subjectOf(h))
		case "not_found":
			o.count(out, own+"misses/", t.own.Misses)
		}
	}
}

// windows are those in which an operation was begun and answered; a window
// that ended in between may be either's, and counts as nobody's.
func (o *oracle) windows(out *outcome, counter string) (in []tally) {
	now := o.w.clock(out.op.on.region)
	began := now.Add(-time.Since(out.op.begun))
	for _, span := range []authz.Span{authz.Hour, authz.Day} {
		if window := span.Window(now); window == span.Window(began) {
			in = append(in, tally{counter, span, window})
		}
	}
	return in
}

func (o *oracle) count(out *outcome, counter string, limit authz.Limit) {
	for _, t := range o.windows(out, counter) {
		o.w.theft.got[t]++
		o.bound(out.op, t, int64(o.w.theft.got[t]), limit)
	}
}

func (o *oracle) see(out *outcome, counter, subject string) {
	for _, t := range o.windows(out, counter) {
		seen := o.w.theft.seen[t]
		if seen == nil {
			seen = map[string]bool{}
			o.w.theft.seen[t] = seen
		}
		seen[subject] = true
		o.bound(out.op, t, int64(len(seen)), o.w.theft.own.Subjects)
	}
}

func (o *oracle) bound(op *operation, t tally, n int64, limit authz.Limit) {
	if most := inSpan(limit, t.span); n > most {
		o.violatef("G5: op %d: %d of %s in %v window %d, limit %d", op.id, n, t.counter, time.Duration(t.span), t.window, most)
	}
}

func inSpan(l authz.Limit, s authz.Span) int64 {
	if s == authz.Hour {
		return l.Hour
	}
	return l.Day
}

// subjectOf is what a record counts as: its subject, or itself where its row
// names none.
func (o *oracle) subjectOf(h *held) string {
	if !h.forever && len(h.attempts) > 0 && h.attempts[0].subject != "" {
		return h.attempts[0].subject
	}
	return h.record
}

// counterChanged adds up what all regions have leased of a window: no more than
// the limit, whatever becomes of it.
func (o *oracle) counterChanged(r *region, c simdynamo.Change) {
	text, isCounter := strings.CutPrefix(c.Key.SK, "counter#")
	_, name, _ := strings.Cut(c.Key.PK, "#")
	limit, known := o.limitOf(name)
	if !isCounter || !known || c.After == nil {
		return
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		o.violatef("G5: a counter of %q", text)
		return
	}
	f := dynamo.Read(c.After)
	t := tally{name, authz.Span(time.Duration(seconds) * time.Second), f.Int("w")}
	if o.w.theft.used[t] == nil {
		o.w.theft.used[t] = map[string]int64{}
	}
	o.w.theft.used[t][r.name] = f.Int("n")
	sum := int64(0)
	for _, n := range o.w.theft.used[t] {
		sum += n
	}
	if most := inSpan(limit, t.span); sum > most {
		o.violatef("G5: %d units of %s in %v window %d are leased, limit %d: %v", sum, name, time.Duration(t.span), t.window, most, o.w.theft.used[t])
	}
}

// limitOf is what bounds a counter of thieves.
func (o *oracle) limitOf(name string) (authz.Limit, bool) {
	own := o.w.theft.own
	if name == "tenant/masked" {
		return o.w.theft.tenant, true
	}
	parts := strings.Split(name, "/")
	if len(parts) < 3 || !strings.HasPrefix(parts[1], "thief-") {
		return authz.Limit{}, false
	}
	limit, known := map[string]authz.Limit{"plain": own.Plain, "masked": own.Masked, "misses": own.Misses, "subjects": own.Subjects}[parts[2]]
	return limit, known
}

// stranded is what was leased and told nobody anything, of all limits of values.
func (o *oracle) stranded() (leased, got int) {
	for _, t := range slices.Collect(maps.Keys(o.w.theft.used)) {
		if strings.Contains(t.counter, "subjects") {
			continue
		}
		for _, n := range o.w.theft.used[t] {
			leased += int(n)
		}
		got += o.w.theft.got[t]
	}
	return leased, got
}
