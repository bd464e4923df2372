package simulation

import (
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// event is an operation on one token as its client saw it.
type event struct {
	held  *held
	on    *region
	kind  kind
	code  string
	begun time.Time
	ended time.Time
}

// The states of a random token's record in its region.
const (
	absent = iota
	alive
	buried
)

// lives is the life of a record: created once or again under the same
// idempotency key, read while it is alive, dead for ever once erased. An
// operation without an outcome may have happened, at any time after it began.
func lives() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{absent} },
		Step: func(state, input, output any) []any {
			at, _ := state.(int)
			did, _ := input.(kind)
			code, _ := output.(string)
			return step(at, did, code)
		},
	}
	return model.ToModel()
}

func step(state int, did kind, code string) []any {
	only := func(ok bool, next int) []any {
		if ok {
			return []any{next}
		}
		return nil
	}
	switch {
	case did == tokenize && code == "ok":
		return only(state != buried, alive)
	case did == tokenize && code == "erased":
		return only(state == buried, state)
	case did == tokenize && state == absent:
		return []any{absent, alive}
	case did == detokenize && code == "ok":
		return only(state == alive, state)
	case did == detokenize && code == "not_found":
		return only(state != alive, state)
	case did == eraseToken && code == "ok":
		return []any{buried}
	case did == eraseToken:
		return []any{state, buried}
	}
	return []any{state}
}

// linearize checks the histories of tokens whose whole life was in one region:
// to its clients a region is one machine, however many instances it has.
func (o *oracle) linearize() {
	for _, h := range o.held {
		if len(h.attempts) == 0 || !o.homely(h) {
			continue
		}
		var history []porcupine.Operation
		for _, e := range o.events {
			if e.held != h || e.on != h.attempts[0].on {
				continue
			}
			op := porcupine.Operation{Input: e.kind, Call: e.begun.Sub(epoch).Nanoseconds(), Output: e.code, Return: e.ended.Sub(epoch).Nanoseconds()}
			if certain := e.code == "ok" || e.code == "erased" || e.kind == detokenize; !certain {
				op.Return = math.MaxInt64
			}
			history = append(history, op)
		}
		o.counts["histories"]++
		if !porcupine.CheckOperations(lives(), history) {
			o.violatef("G1, G9: the history of %v in %s is not linearizable", h, h.attempts[0].on.name)
		}
	}
}

// homely: made and erased in one region, by its token if at all.
func (o *oracle) homely(h *held) bool {
	home := h.attempts[0].on
	if h.forever || h.expires != 0 || slices.ContainsFunc(h.attempts, func(a *attempt) bool { return a.on != home }) {
		return false
	}
	return !slices.ContainsFunc(o.erasures, func(e *erasure) bool { return e.affects(h) && (e.held == nil || e.on != home) })
}
