package vault

import (
	"context"
	"errors"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// needs is what must be written for a draft: nothing where an existing record
// stands for it and no subject is to be linked. That record may be one that
// did not reach a second region, so with TwoRegions it is written once more.
func (b *batch) needs(d *draft) (store.New, bool) {
	n := store.New{Record: d.adopted, Unburied: d.ref.Generations} // as findGenerations read
	if d.ref.Generations && d.subject != "" {
		n.Links = []string{d.subject}
	}
	if d.adopted != nil {
		return n, len(n.Links) > 0 || b.v.TwoRegions
	}
	n.Fresh = d.fresh
	n.Record = &store.Record{
		Key:  store.Key{Tenant: d.ref.Tenant, ID: d.ref.ID, Generation: d.gen},
		Type: d.typ.Name, Message: d.sealed.Message, Created: b.now.UnixMilli(), Expires: d.expires,
		Subject: d.rowSubject(), RingEpoch: d.sealed.RingEpoch, Home: b.v.region, Missing: d.sealed.Missing,
	}
	return n, true
}

func (b *batch) entry(d *draft, outcome audit.Outcome) audit.Entry {
	e := b.v.entry(b.c, string(authz.ActionTokenize), outcome)
	e.Record, e.Generation, e.Subject, e.DataKey, e.Copies = d.ref.ID, d.gen, d.subject, d.sealed.DataKey, d.sealed.Present
	e.Budget = budgetState(b.remaining)
	if d.typ != nil {
		e.Type = d.typ.Name
	}
	decided(&e, d.allowed)
	return e
}

// write makes the records and their audit entries durable at the same time
// and sorts out what each insert met.
func (b *batch) write(ctx context.Context) error {
	entries := make([]audit.Entry, 0, len(b.drafts))
	writes := make([]write, 0, len(b.drafts))
	records := make([]store.New, 0, len(b.drafts))
	for d := range b.standing() {
		if n, needed := b.needs(d); needed {
			writes, records = append(writes, write{d, len(entries)}), append(records, n)
		}
		entries = append(entries, b.entry(d, audit.Authorized))
	}
	if len(entries) == 0 {
		return nil
	}
	pending := b.v.Log.Append(entries)
	outcomes, err := b.v.insert(ctx, records)
	receipt, auditErr := pending.Wait(ctx)
	switch {
	case auditErr != nil:
		return auditUnavailable(auditErr)
	case err != nil:
		return errors.Join(err, b.v.retract(ctx, receipt, entries))
	}
	for d := range b.standing() {
		d.done = d.adopted != nil
	}
	for i, w := range writes {
		about := receipt.At(w.entry)
		if err := b.settle(ctx, w.draft, outcomes[i], followUp(entries[w.entry], about, audit.Failed)); err != nil {
			return err
		}
	}
	return nil
}

// write is a draft whose record is being inserted, and its place among the entries.
type write struct {
	draft *draft
	entry int
}

// retract notes that audited entries did not come to pass.
func (v *Vault) retract(ctx context.Context, receipt audit.Receipt, entries []audit.Entry) error {
	for i := range entries {
		entries[i] = followUp(entries[i], receipt.At(i), audit.Failed)
	}
	_, err := v.note(ctx, entries...)
	return err
}

// settle turns the outcome of an insert into done, another round, or a refusal.
func (b *batch) settle(ctx context.Context, d *draft, outcome store.Outcome, undone audit.Entry) error {
	switch outcome {
	case store.Inserted:
		d.done = true
	case store.Exists:
		return b.readBack(ctx, d)
	case store.Buried:
		if _, err := b.v.note(ctx, undone); err != nil {
			return err
		}
		d.bury()
	}
	return nil
}

// bury sends a deterministic draft to its next generation; any other is refused.
func (d *draft) bury() {
	d.sealed, d.adopted, d.done = crypto.Sealed{}, nil, false
	if !d.ref.Generations {
		d.refuse("erased", "This idempotency key's token was erased or has expired and cannot be made again.")
	}
}

// readBack answers for a record that was there already: an earlier try under
// the same idempotency key, or the same deterministic value.
func (b *batch) readBack(ctx context.Context, d *draft) error {
	r, buried, err := b.v.local.Get(ctx, store.Key{Tenant: d.ref.Tenant, ID: d.ref.ID, Generation: d.gen})
	switch {
	case err != nil:
		return unavailable("unavailable", err)
	case buried || r == nil || expired(r, b.now):
		d.bury()
		return nil
	}
	d.done = true
	return b.adopt(d, r)
}

func (b *batch) answer() []Tokenized {
	out := make([]Tokenized, len(b.drafts))
	for i := range b.drafts {
		d := &b.drafts[i]
		out[i] = Tokenized{Err: d.err}
		if d.err == nil {
			out[i].Token, out[i].Copies = d.token, d.copies
		}
	}
	return out
}
