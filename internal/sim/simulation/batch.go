package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"piivault/internal/crypto"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

const (
	largest = 4 // items of a batch, at most
	// spoiler is a value that no vault keeps.
	spoiler = "nobody"
)

// item is what a batch says of one of its items.
type item struct {
	token secret.Text
	value string
	err   *vault.ItemError
}

// errAborted stands for an item that nothing is wrong with, in a batch that
// was refused because of others.
var errAborted = &vault.Error{Kind: vault.ErrInvalid, Code: "aborted"}

// siblings are the items of an operation's batch; the operation alone where it
// is none's.
func (op *operation) siblings() []*operation {
	if op.batch == nil {
		return []*operation{op}
	}
	return op.batch.parts
}

// name is what an operation is counted as.
func (op *operation) name() string {
	switch {
	case len(op.parts) == 0:
		return string(op.kind)
	case op.abort:
		return string(op.kind) + " batch"
	default:
		return string(op.kind) + " batch, continued"
	}
}

// drawBatch makes an operation one of several items, each as it could be asked
// for alone. There is none where not two of them may be asked for there.
func (o *oracle) drawBatch(op *operation) {
	w := o.w
	op.abort, op.spoilt = w.oneIn(2), op.kind == tokenize && w.oneIn(6)
	n := 2 + w.random.IntN(largest-1)
	switch {
	case op.kind == detokenize:
		for range n {
			o.join(op, &operation{held: o.drawHeld()})
		}
	case w.oneIn(3):
		o.drawRetriedBatch(op)
	default:
		for i := range n {
			part := &operation{typ: drawType(w.scheduler), value: fmt.Sprintf("v%d.%d@example.com", o.operations, i), subject: o.drawSubject()}
			if part.typ == login {
				o.drawLogin(part)
			}
			o.join(op, part)
		}
	}
	if len(op.parts) < 2 {
		op.on = nil
	}
}

// join adds an item, unless it is there already or its token lives elsewhere.
func (o *oracle) join(op, part *operation) (joined bool) {
	same := func(p *operation) bool { return p.held == part.held && p.held != nil }
	if slices.ContainsFunc(op.parts, same) || !part.held.livesIn(op.on.region) {
		return false
	}
	part.kind, part.on, part.batch, part.patient = op.kind, op.on, op, op.patient
	op.parts = append(op.parts, part)
	return true
}

// drawRetriedBatch draws a batch under an idempotency key: the same items each
// time, so that each time it is the same tokens.
func (o *oracle) drawRetriedBatch(op *operation) {
	n := o.drawRetry()
	op.key = secret.NewText(fmt.Sprintf("%032x", 1<<32+n))
	for i := range 2 + n%(largest-1) {
		part := &operation{typ: "email", value: fmt.Sprintf("retried%d.%d@example.com", n, i), subject: fmt.Sprintf("subject-%d", (n+i)%subjects)}
		part.held = o.idempotent(part, op.key, i)
		if !o.join(op, part) {
			op.on = nil // not all of them may be asked for there
			return
		}
	}
}

// idempotent is the token of an item under an idempotency key.
func (o *oracle) idempotent(part *operation, key secret.Text, index int) *held {
	return o.known(part.typ, part.value, pii.AnyRegion, func() [pii.TokenSecretSize]byte {
		return o.keys.IdempotentToken(crypto.IdempotentInput{
			Key: key, Index: index, Type: part.typ, Value: secret.NewPlaintext([]byte(part.value)), Subject: part.subject,
		})
	})
}

// describeParts lists a batch's items.
func (op *operation) describeParts() string {
	texts := make([]string, len(op.parts))
	for i, p := range op.parts {
		texts[i] = strings.TrimPrefix(p.describe(), string(p.kind)+" ")
	}
	if op.spoilt {
		texts = append(texts, "a value that is none")
	}
	return op.name() + " (" + strings.Join(texts, "; ") + ")"
}

func (w *World) performBatch(ctx context.Context, o *outcome) {
	op, v, c := o.op, o.op.on.vault, w.call(o.op)
	if op.kind == tokenize {
		req := vault.TokenizeRequest{Continue: !op.abort, IdempotencyKey: op.key}
		for _, p := range op.parts {
			req.Items = append(req.Items, vault.TokenizeItem{Type: p.typ, Value: secret.NewPlaintext([]byte(p.value)), Subject: p.subject})
		}
		if op.spoilt {
			req.Items = append(req.Items, vault.TokenizeItem{Type: "email", Value: secret.NewPlaintext([]byte(spoiler))})
		}
		var out []vault.Tokenized
		out, o.err = v.Tokenize(ctx, c, req)
		for i := range out {
			o.items = append(o.items, item{token: out[i].Token, err: out[i].Err})
		}
		return
	}
	req := vault.DetokenizeRequest{Purpose: "simulation", Continue: !op.abort}
	for _, p := range op.parts {
		req.Items = append(req.Items, vault.DetokenizeItem{Token: p.held.token})
	}
	var out vault.DetokenizeResult
	out, o.err = v.Detokenize(ctx, c, req)
	o.receipt, o.first, o.entries = out.Audit.Log, out.Audit.First, out.Audit.Entries
	for i := range out.Items {
		o.items = append(o.items, item{value: string(out.Items[i].Value.Bytes()), err: out.Items[i].Err})
	}
}

// part is the outcome of one item, as if it had been asked for alone.
func (out *outcome) part(i int) *outcome {
	p := &outcome{op: out.op.parts[i], at: out.at}
	if out.err != nil {
		p.err = refusalOf(out.err, i)
		return p
	}
	it := out.items[i]
	p.token, p.value = it.token, it.value
	p.receipt, p.first, p.entries = out.receipt, out.first+uint64(i), min(1, max(0, out.entries-i))
	if it.err != nil {
		p.err = &vault.Error{Kind: vault.ErrInvalid, Code: it.err.Code}
	}
	return p
}

// refusalOf is what the refusal of a batch says of an item: its own where it
// is named, that it was left out where others are, else what became of all.
func refusalOf(err error, i int) error {
	e, ok := errors.AsType[*vault.Error](err)
	if !ok || len(e.Items) == 0 {
		return err
	}
	at := slices.IndexFunc(e.Items, func(it vault.ItemError) bool { return it.Index == i })
	if at < 0 {
		return errAborted
	}
	return &vault.Error{Kind: e.Kind, Code: e.Items[at].Code, Cause: e.Cause}
}

// judgeBatch judges each item by what is said of it, and that a batch under
// abort is all or nothing.
func (o *oracle) judgeBatch(out *outcome, lost bool) {
	if !lost {
		o.judgeWhole(out)
	}
	for i := range out.op.parts {
		if lost {
			o.judgeItem(&outcome{op: out.op.parts[i], at: out.at}, "crashed", true)
			continue
		}
		if out.err == nil && i >= len(out.items) {
			return // said already
		}
		p := out.part(i)
		o.counts["item of a "+out.op.name()+" "+p.code()]++
		o.judgeItem(p, p.code(), false)
	}
}

func (o *oracle) judgeWhole(out *outcome) {
	op := out.op
	n := len(op.parts)
	if op.spoilt {
		n++
	}
	refused := slices.IndexFunc(out.items, func(it item) bool { return it.err != nil })
	switch {
	case out.err != nil && len(out.items) > 0:
		o.violatef("op %d: refused with %q, and answered with %d items", op.id, out.code(), len(out.items))
	case out.err == nil && len(out.items) != n:
		o.violatef("op %d: %d items in the answer, %d in the request", op.id, len(out.items), n)
	case out.err == nil && op.abort && refused >= 0:
		o.violatef("op %d: answered though item %d was refused: %q", op.id, refused, out.items[refused].err.Code)
	case out.err == nil && op.spoilt && out.items[n-1].err == nil:
		o.violatef("op %d: a token for what is no value", op.id)
	case op.abort && op.spoilt && o.wrote[op.actor()]:
		o.violatef("op %d: a batch with an item that is no value was refused, and something of it written", op.id)
	case op.abort && op.spoilt && errors.Is(out.err, vault.ErrInvalid):
		o.counts["a batch refused whole"]++
	}
}
