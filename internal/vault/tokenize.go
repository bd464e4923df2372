package vault

import (
	"context"
	"errors"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/store"
)

// hintAny is the region hint of tokens that any region may have made.
const hintAny = pii.AnyRegion

// generationRaces bounds how often a deterministic tokenize begins again
// because an erasure took the generation it was about to write.
const generationRaces = 3

// draft is one value on its way to a record.
type draft struct {
	index   int
	typ     *pii.Type
	value   secret.Plaintext // normalized
	subject string           // hashed
	expires int64
	token   secret.Text
	ref     store.Ref
	fresh   bool // the token is of random bits drawn just now
	gen     uint32
	sealed  crypto.Sealed
	allowed authz.Decision
	copies  KeyCopies
	adopted *store.Record // an existing record that stands for it
	done    bool          // a record stands for it, durable
	err     *ItemError
}

func (d *draft) refuse(code, message string) {
	d.err = &ItemError{Index: d.index, Code: code, Message: message}
}

// batch is one tokenize call under way.
type batch struct {
	v      *Vault
	c      Call
	keys   *crypto.TenantKeys
	req    *TokenizeRequest
	now    time.Time
	drafts []draft

	remaining  *authz.Remaining // of the caller's budgets
	retryAfter time.Duration    // of the items that are over budget
}

// Tokenize keeps each value and answers with a token for it, in the order of
// the request. With abort (the default) it stores all or nothing; with
// Continue each item has its own outcome. When it returns, every record
// answered for is durable in this region and so is its audit entry. A failed
// call may be repeated with the same idempotency key.
func (v *Vault) Tokenize(ctx context.Context, c Call, req TokenizeRequest) ([]Tokenized, error) {
	b := &batch{v: v, c: c, req: &req, now: v.Now()}
	defer b.wipe()
	if err := v.allow(ctx, c, authz.ActionTokenize); err != nil {
		return nil, err
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return nil, err
	}
	b.keys = keys
	b.check()
	if err := b.noteDenied(ctx); err != nil {
		return nil, err
	}
	if err := b.refusal(); err != nil {
		return nil, err
	}
	b.assignTokens()
	if err := b.refusal(); err != nil {
		return nil, err
	}
	if err := b.spend(ctx); err != nil {
		return nil, err
	}
	if err := b.store(ctx); err != nil {
		return nil, err
	}
	return b.answer(), nil
}

// wipe ends the life of every plaintext of the call.
func (b *batch) wipe() {
	for i := range b.req.Items {
		b.req.Items[i].Value.Wipe()
	}
	for i := range b.drafts {
		b.drafts[i].value.Wipe()
	}
}

// check normalizes and validates every item and asks the policies.
func (b *batch) check() {
	b.drafts = make([]draft, len(b.req.Items))
	decider := b.v.decider(b.c)
	for i := range b.drafts {
		d := &b.drafts[i]
		d.index = i
		b.checkItem(d, &b.req.Items[i])
		if d.err != nil {
			continue
		}
		d.allowed = decider.decide(authz.Request{Action: authz.ActionTokenize, Type: d.typ.Name, Subject: d.subject, Time: b.now.Unix()})
		if !d.allowed.Allowed {
			d.refuse("forbidden", "The policies do not let this credential tokenize this.")
		}
	}
}

func (b *batch) checkItem(d *draft, item *TokenizeItem) {
	typ, ok := b.v.Catalog.Lookup(item.Type)
	if !ok {
		d.refuse("unknown_type", "No such type is configured: see GET /v1/types.")
		return
	}
	d.typ = typ
	value, err := typ.Normalize(item.Value, item.Country, b.now)
	if refused := (*pii.ValueError)(nil); errors.As(err, &refused) {
		d.refuse(refused.Code, refused.Message)
		return
	}
	if err != nil {
		d.refuse("unknown_type", "The type's kind is not one that this version knows.")
		return
	}
	d.value = value
	if item.Subject != "" {
		if !validLabel(item.Subject) {
			d.refuse("invalid_subject_id", "subject_id must be 1 to 256 bytes without control characters.")
			return
		}
		d.subject = b.keys.SubjectID(item.Subject)
	}
	d.expires, d.err = expiry(typ, item.Expires, b.now, d.index)
}

// expiry is when the record ends, in Unix ms; 0: never.
func expiry(typ *pii.Type, sent string, now time.Time, index int) (int64, *ItemError) {
	if sent == "" {
		if typ.TTL == 0 {
			return 0, nil
		}
		return now.Add(typ.TTL).UnixMilli(), nil
	}
	at, err := time.Parse(time.RFC3339, sent)
	if err != nil || !at.After(now) {
		return 0, &ItemError{Index: index, Code: "invalid_expires_at", Message: "expires_at must be an RFC 3339 time in the future."}
	}
	if typ.Token == pii.Deterministic {
		return 0, &ItemError{Index: index, Code: "invalid_expires_at", Message: "Deterministic types have no expiry."}
	}
	return at.UnixMilli(), nil
}

// noteDenied audits the items that the policies refused.
func (b *batch) noteDenied(ctx context.Context) error {
	var denied []audit.Entry
	for i := range b.drafts {
		if d := &b.drafts[i]; d.err != nil && d.err.Code == "forbidden" {
			denied = append(denied, b.entry(d, audit.Denied))
		}
	}
	if len(denied) == 0 {
		return nil
	}
	_, err := b.v.note(ctx, denied...)
	return err
}

// refusal is the error of the whole batch where an item was refused and the
// caller did not ask to continue.
func (b *batch) refusal() error {
	if b.req.Continue {
		return nil
	}
	var items []ItemError
	kind := ErrInvalid
	for i := range b.drafts {
		e := b.drafts[i].err
		if e == nil {
			continue
		}
		items = append(items, *e)
		switch e.Code {
		case "over_budget":
			return itemsOverBudget(b.retryAfter)
		case "forbidden":
			kind = ErrForbidden
		case "erasing", "erased":
			kind = ErrConflict
		}
	}
	if len(items) == 0 {
		return nil
	}
	return itemsRefused(kind, items)
}

// assignTokens makes the token of every item that stands.
func (b *batch) assignTokens() {
	for d := range b.standing() {
		item := &b.req.Items[d.index]
		token := pii.Token{Env: b.v.Env, Type: d.typ.Name, Hint: b.v.region}
		switch {
		case d.typ.Token == pii.Deterministic:
			token.Hint, token.Secret = hintAny, b.keys.DeterministicToken(d.typ.Name, d.value)
		case !b.req.IdempotencyKey.IsZero():
			token.Hint = hintAny
			token.Secret = b.keys.IdempotentToken(crypto.IdempotentInput{
				Key: b.req.IdempotencyKey, Index: d.index, Type: d.typ.Name,
				Value: d.value, Subject: item.Subject, Expires: item.Expires,
			})
		default:
			b.v.random(token.Secret[:])
			d.fresh = true
		}
		d.token = token.Text()
		d.ref = store.Ref{Tenant: b.c.Principal.Tenant, ID: b.keys.RecordID(d.token), Generations: d.typ.Token == pii.Deterministic}
		if b.v.jobs.covers(d.ref, d.subject) {
			d.refuse("erasing", "An erasure of this subject or token is under way.")
			d.err.Retryable = true
		}
	}
}

// standing ranges over the items not refused and not yet done.
func (b *batch) standing() func(func(*draft) bool) {
	return func(yield func(*draft) bool) {
		for i := range b.drafts {
			if d := &b.drafts[i]; d.err == nil && !d.done && !yield(d) {
				return
			}
		}
	}
}

// store writes until every standing item has its record; more than one round
// is needed only where erasures of deterministic tokens interfere.
func (b *batch) store(ctx context.Context) error {
	for range generationRaces {
		if err := b.refusal(); err != nil {
			return err
		}
		if err := b.findGenerations(ctx); err != nil {
			return err
		}
		if err := b.seal(ctx); err != nil {
			return err
		}
		if err := b.write(ctx); err != nil {
			return err
		}
		if !b.unfinished() {
			return b.refusal()
		}
	}
	return unavailable("unavailable", errors.New("erasures took every generation"))
}

func (b *batch) unfinished() bool {
	for range b.standing() {
		return true
	}
	return false
}

// findGenerations looks up which generation a deterministic token is at.
func (b *batch) findGenerations(ctx context.Context) error {
	var refs []store.Ref
	var drafts []*draft
	for d := range b.standing() {
		if d.ref.Generations {
			refs, drafts = append(refs, d.ref), append(drafts, d)
		}
	}
	if len(refs) == 0 {
		return nil
	}
	states, err := b.v.local.Read(ctx, refs)
	if err != nil {
		return unavailable("unavailable", err)
	}
	for i, d := range drafts {
		d.gen = states[i].Generation
		if r := states[i].Record; r != nil {
			if err := b.adopt(d, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt lets an existing record stand for the draft: its message is what will be answered for.
func (b *batch) adopt(d *draft, r *store.Record) error {
	m, err := crypto.Parse(r.Message)
	if err != nil {
		return &Error{Kind: ErrCorrupt, Code: "integrity", Message: corruptMessage, Cause: err}
	}
	d.adopted = r
	d.copies.Present, d.copies.Missing = b.v.Ring.Copies(m)
	d.sealed = crypto.Sealed{DataKey: m.DataKey(), Present: d.copies.Present}
	return nil
}

// seal encrypts every standing value that has no message yet.
func (b *batch) seal(ctx context.Context) error {
	values := make([]crypto.Value, 0, len(b.drafts))
	drafts := make([]*draft, 0, len(b.drafts))
	for d := range b.standing() {
		if d.adopted != nil || d.sealed.Message != nil {
			continue
		}
		values, drafts = append(values, b.sealable(d)), append(drafts, d)
	}
	if len(values) == 0 {
		return nil
	}
	sealed, err := b.v.Sealer.Seal(ctx, values)
	if err != nil {
		return unavailable(kmsCode(err), err)
	}
	for i, d := range drafts {
		d.sealed = sealed[i]
		d.copies = KeyCopies{Present: sealed[i].Present, Missing: sealed[i].Missing}
	}
	return nil
}

func (b *batch) sealable(d *draft) crypto.Value {
	p := d.typ.DataKey
	value := crypto.Value{
		Place:     crypto.Place{Tenant: d.ref.Tenant, Record: d.ref.ID, Type: d.typ.Name, Generation: d.gen, Subject: d.rowSubject(), Created: b.now.UnixMilli(), Expires: d.expires},
		Plaintext: d.value,
		Policy:    crypto.Policy{Reuse: p.Reuse, MaxMessages: p.MaxMessages, MaxBytes: p.MaxBytes, MaxAge: p.MaxAge},
	}
	if d.typ.Bound {
		value.Token = d.token
	}
	return value
}

// rowSubject is the subject named by the row: none where several may share it.
func (d *draft) rowSubject() string {
	if d.ref.Generations {
		return ""
	}
	return d.subject
}
