package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"piivault/internal/authz"
	"piivault/internal/dynamo"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// kind is what a client does.
type kind string

const (
	tokenize   kind = "tokenize"
	detokenize kind = "detokenize"
	inspect    kind = "inspect"
	eraseToken kind = "erase token"
	eraseWhole kind = "erase subject"
	tamper     kind = "tamper"
	attack     kind = "attack"
)

const (
	patient   = 40 * time.Second // a client that waits for as long as it takes
	subjects  = 4
	logins    = 5 // deterministic values
	retryable = 6 // idempotency keys in use
)

// operation is one call of a client.
type operation struct {
	id      int
	kind    kind
	on      *instance
	subject string
	key     secret.Text // idempotency key
	held    *held       // nil until a random token is made
	typ     string
	value   string
	erasure *erasure
	try     *attempt
	patient bool // does not give up before the vault would
	begun   time.Time
	copies  []string // regions with a key copy of the record when it began
	here    bool     // its region had the record then
	warm    bool     // the instance had the tenant's secret when it began
	secret  []string // regions with a copy of the tenant's secret in its region's table then
	moved   bool     // tamper: the message was put in another's place
	raid    *raid    // attack

	parts  []*operation // a batch's items; what they share is the batch's
	batch  *operation   // whose item this is
	abort  bool         // of a batch: all or nothing
	spoilt bool         // of a batch: it ends with an item that is refused
}

// actor is who an operation is for what it waits for.
func (op *operation) actor() string { return fmt.Sprintf("%s op %d", op.on.name, op.id) }

// outcome is how it ended, as the client sees it.
type outcome struct {
	op       *operation
	err      error
	token    secret.Text
	value    string
	receipt  string
	first    uint64
	entries  int
	complete bool
	at       time.Time
	items    []item // of a batch
}

// code is the stable code of an error.
func (o *outcome) code() string {
	if o.err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*vault.Error](o.err); ok {
		return e.Code
	}
	return brief(o.err)
}

func brief(err error) string {
	var name string
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		name = "gave up"
	case errors.Is(err, errCrashed):
		name = "crashed"
	default:
		name = fmt.Sprintf("%T", err)
	}
	return name
}

// call is who calls: somebody who may do everything.
func (w *World) call(op *operation) vault.Call {
	return vault.Call{
		Principal: vault.Principal{Tenant: w.tenant, ID: "client", Roles: authz.Roles(), Authentication: "api_key"},
		RequestID: fmt.Sprintf("op-%d", op.id), Client: "192.0.2.1",
	}
}

// begin draws an operation and starts it on an instance that serves.
func (w *World) begin() {
	i := w.serving()
	if i == nil {
		return
	}
	op := &operation{on: i, patient: !w.oneIn(4)}
	if w.oracle.draw(op); op.on != nil && !(op.spends() && op.on.spending > 0) {
		w.launch(op)
	}
}

// spends reports that an operation may take from budgets. An instance has one
// such at a time: two that waited for the same units would go on together, in
// an order that is nobody's choice.
func (op *operation) spends() bool {
	if slices.ContainsFunc(op.parts, (*operation).spends) {
		return true
	}
	switch op.kind {
	case detokenize, tamper, attack, inspect:
		return true
	case tokenize:
		return op.typ == login // deterministic: a guess
	case eraseToken, eraseWhole:
	}
	return false
}

// serving draws an instance that takes requests. One that has not got the
// tenant's secret yet takes one at a time, so that requests that waited for it
// together do not go on together.
func (w *World) serving() *instance {
	var ready []*instance
	for _, r := range w.regions {
		for _, i := range r.instances {
			if i.ready && !w.superseded(i) && (i.warm || i.busy == 0) {
				ready = append(ready, i)
			}
		}
	}
	if len(ready) == 0 {
		return nil
	}
	return pick(w.scheduler, ready)
}

func (w *World) launch(op *operation) {
	w.oracle.begun(op)
	patience := patient
	if !op.patient {
		patience = w.upTo(3 * time.Second)
	}
	op.begun, op.warm, op.secret = time.Now(), op.on.warm, w.oracle.secretCopies(op.on)
	for _, p := range op.parts {
		p.begun, p.warm, p.secret = op.begun, op.warm, op.secret
	}
	op.on.busy++
	if op.spends() {
		op.on.spending++
	}
	w.tracef("%s op %d %s", op.on.name, op.id, op.describe())
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(as(w.life, op.actor()), patience)
		defer cancel()
		if op.kind == tamper {
			ctx = context.WithValue(ctx, movedKey{}, op)
		}
		o := &outcome{op: op}
		w.perform(ctx, o)
		o.at = time.Now()
		w.report(o)
	})
}

func (op *operation) describe() string {
	if len(op.parts) > 0 {
		return op.describeParts()
	}
	text := string(op.kind)
	if op.raid != nil {
		text += fmt.Sprintf(" by %s, %s of %v", op.raid.thief, op.raid.reveal, op.raid.held)
	}
	if op.typ != "" {
		text += " " + op.typ
	}
	if op.held != nil {
		text += " " + op.held.String()
	}
	if op.subject != "" {
		text += " of " + op.subject
	}
	return text
}

func (w *World) perform(ctx context.Context, o *outcome) {
	op, v, c := o.op, o.op.on.vault, w.call(o.op)
	if len(op.parts) > 0 {
		w.performBatch(ctx, o)
		return
	}
	switch op.kind {
	case tokenize:
		var out []vault.Tokenized
		out, o.err = v.Tokenize(ctx, c, vault.TokenizeRequest{
			Items:          []vault.TokenizeItem{{Type: op.typ, Value: secret.NewPlaintext([]byte(op.value)), Subject: op.subject}},
			IdempotencyKey: op.key,
		})
		if o.err == nil {
			o.token = out[0].Token
		}
	case detokenize, tamper:
		var out vault.DetokenizeResult
		out, o.err = v.Detokenize(ctx, c, vault.DetokenizeRequest{Items: []vault.DetokenizeItem{{Token: op.held.token}}, Purpose: "simulation"})
		if o.err == nil {
			o.value = string(out.Items[0].Value.Bytes())
			o.receipt, o.first, o.entries = out.Audit.Log, out.Audit.First, out.Audit.Entries
		}
	case attack:
		w.raid(ctx, o)
	case inspect:
		var out []vault.Inspected
		if out, o.err = v.Inspect(ctx, c, []secret.Text{op.held.token}); o.err == nil && out[0].Err != nil {
			o.err = &vault.Error{Kind: vault.ErrNotFound, Code: out[0].Err.Code}
		}
	case eraseToken, eraseWhole:
		request := vault.EraseRequest{SubjectID: op.subject}
		if op.kind == eraseToken {
			request = vault.EraseRequest{Tokens: []secret.Text{op.held.token}}
		}
		var out vault.EraseResult
		out, o.err = v.Erase(ctx, c, request)
		o.complete = out.Complete
	}
}

// movedKey marks the context of a tampering operation.
type movedKey struct{}

// tamperWith puts another record's message, or a changed one, into what a
// tampering operation reads: what somebody who may write the table could do.
func (t *tables) tamperWith(ctx context.Context, items []dynamo.Item) {
	op, ok := ctx.Value(movedKey{}).(*operation)
	if !ok {
		return
	}
	for _, item := range items {
		b, ok := item["message"].(*types.AttributeValueMemberB)
		if !ok {
			continue
		}
		if other := t.w.oracle.otherMessage(item); other != nil && t.w.oneIn(2) {
			item["message"] = dynamo.Bytes(other)
		} else {
			b.Value = slices.Clone(b.Value)
			b.Value[t.w.random.IntN(len(b.Value))] ^= 1 << t.w.random.IntN(8)
		}
		op.moved = true
	}
}
