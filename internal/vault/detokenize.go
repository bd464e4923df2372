package vault

import (
	"context"
	"errors"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// Detokenize reveals values, in the order of the request, to a caller whom
// the policies permit. No value leaves before the entry about it is durable
// in this region (G6); where that fails, nothing is released. Unknown,
// erased, expired and denied tokens answer alike.
func (v *Vault) Detokenize(ctx context.Context, c Call, req DetokenizeRequest) (DetokenizeResult, error) {
	if err := v.allow(ctx, c, authz.ActionDetokenize); err != nil {
		return DetokenizeResult{}, err
	}
	if err := v.refuseStopped(ctx, c, authz.ActionDetokenize); err != nil {
		return DetokenizeResult{}, err
	}
	l, err := v.detokenizeLookup(ctx, c, req)
	if err != nil {
		return DetokenizeResult{}, err
	}
	if err := l.find(ctx); err != nil {
		return DetokenizeResult{}, err
	}
	if err := l.spend(ctx, req.Continue); err != nil {
		return DetokenizeResult{}, err
	}
	if err := l.refusal(); err != nil && !req.Continue {
		if _, auditErr := v.note(ctx, l.entries(true)...); auditErr != nil {
			return DetokenizeResult{}, auditErr
		}
		return DetokenizeResult{}, err
	}
	return l.release(ctx, req.Continue)
}

// detokenizeLookup validates the request.
func (v *Vault) detokenizeLookup(ctx context.Context, c Call, req DetokenizeRequest) (*lookup, error) {
	if !validLabel(req.Purpose) {
		return nil, invalid("invalid_purpose", "purpose must be 1 to 256 bytes without control characters.")
	}
	if req.Ticket != "" && !validLabel(req.Ticket) {
		return nil, invalid("invalid_ticket", "ticket must be 1 to 256 bytes without control characters.")
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return nil, err
	}
	l := v.newLookup(c, authz.ActionDetokenize, len(req.Items))
	l.purpose, l.ticket = req.Purpose, req.Ticket
	var bad []ItemError
	for i, item := range req.Items {
		l.add(i, item.Token, keys)
		l.items[i].reveal = item.Reveal
		switch item.Reveal {
		case Plain, Masked:
		case "":
			l.items[i].reveal = Plain
		default:
			bad = append(bad, ItemError{Index: i, Code: "invalid_reveal", Message: "reveal must be plain or masked."})
		}
	}
	if len(bad) > 0 {
		return nil, itemsRefused(ErrInvalid, bad)
	}
	return l, nil
}

// release makes the entries durable and meanwhile unwraps the data keys; only
// when both are done does it open and mask the values.
func (l *lookup) release(ctx context.Context, partial bool) (DetokenizeResult, error) {
	var messages []*crypto.Message
	var granted []*sought
	for i := range l.items {
		if s := &l.items[i]; s.outcome == audit.Authorized {
			messages, granted = append(messages, s.message), append(granted, s)
		}
	}
	pending := l.v.Log.Append(l.entries(false))
	unwrapped := l.v.Sealer.Unwrap(ctx, l.c.Principal.Tenant, messages)
	defer wipeKeys(unwrapped)
	receipt, err := pending.Wait(ctx)
	if err != nil {
		return DetokenizeResult{}, auditUnavailable(err)
	}
	if _, err := l.v.running(l.c); err != nil && len(granted) > 0 { // stopped since it began
		if _, auditErr := l.v.note(ctx, l.unreleased(granted, receipt)...); auditErr != nil {
			return DetokenizeResult{}, auditErr
		}
		return DetokenizeResult{}, err
	}
	result := DetokenizeResult{Items: make([]Revealed, len(l.items)), Audit: receipt, Budget: budgetLeft(l.remaining)}
	for i := range l.items {
		result.Items[i].Err = l.items[i].refusal()
	}
	var later []audit.Entry
	for i, s := range granted {
		result.Items[s.index] = l.open(s, unwrapped[i])
		later = append(later, l.followUps(s, unwrapped[i].Region, &result)...)
	}
	failure := result.failure()
	if failure != nil && !partial {
		later = l.unreleased(granted, receipt)
	}
	if len(later) > 0 {
		if _, err := l.v.note(ctx, later...); err != nil {
			result.wipe()
			return DetokenizeResult{}, err
		}
	}
	if failure != nil && !partial {
		result.wipe()
		return DetokenizeResult{}, failure
	}
	return result, nil
}

// unreleased says of every granted item that its value did not leave.
func (l *lookup) unreleased(granted []*sought, receipt audit.Receipt) []audit.Entry {
	entries := make([]audit.Entry, len(granted))
	for i, s := range granted {
		entries[i] = followUp(l.entry(s), receipt.At(s.index), audit.Failed)
	}
	return entries
}

// followUps is what the log must hear about an item beside its first entry:
// that it failed, or that another region's key copy was used.
func (l *lookup) followUps(s *sought, copyOf string, result *DetokenizeResult) []audit.Entry {
	about := result.Audit.At(s.index)
	switch {
	case result.Items[s.index].Err != nil:
		return []audit.Entry{followUp(l.entry(s), about, audit.Failed)}
	case copyOf != l.v.region:
		used := followUp(l.entry(s), about, audit.CopyUsed)
		used.Copies = []string{copyOf}
		return []audit.Entry{used}
	default:
		return nil
	}
}

// open decrypts one value and masks it where that is what was granted.
func (l *lookup) open(s *sought, u crypto.Unwrapped) Revealed {
	if errors.Is(u.Err, crypto.ErrAuthentication) { // its key copies, or whose they are
		return l.corrupt(s)
	}
	if u.Err != nil {
		code := kmsCode(u.Err)
		return Revealed{Err: &ItemError{Index: s.index, Code: code, Message: "No key management service opened this record's key.", Retryable: code == "kms_unavailable"}}
	}
	value, err := l.v.openRecord(s, u.Key)
	if err != nil {
		return l.corrupt(s)
	}
	revealed := Revealed{Type: s.record.Type, Reveal: s.decision.Reveal}
	if revealed.Reveal == Masked {
		defer value.Wipe()
		revealed.Value = s.typ.Mask(value)
	} else {
		revealed.Value = s.typ.Present(value)
	}
	return revealed
}

// corrupt is the answer for a record that does not open though KMS works.
func (l *lookup) corrupt(s *sought) Revealed {
	l.v.Logger.Error().Str("record", s.ref.ID).Msg("a record does not open: it is corrupt or was moved")
	return Revealed{Err: &ItemError{Index: s.index, Code: "integrity", Message: corruptMessage}}
}

const corruptMessage = "The stored record is corrupt or is not where it was written. Nothing of it was released."

// openRecord opens a record at the place that its row claims (G8).
func (v *Vault) openRecord(s *sought, key secret.Key) (secret.Plaintext, error) {
	r := s.record
	return v.Sealer.Open(key, s.message, crypto.Place{
		Tenant: r.Tenant, Record: r.ID, Type: r.Type, Generation: r.Generation,
		Subject: r.Subject, Created: r.Created, Expires: r.Expires,
	}, s.token)
}

func (r *DetokenizeResult) wipe() {
	for i := range r.Items {
		r.Items[i].Value.Wipe()
	}
}

// failure is the error of the whole batch where an item that was permitted could not be opened.
func (r *DetokenizeResult) failure() *Error {
	var failed *Error
	for i := range r.Items {
		e := r.Items[i].Err
		if e == nil {
			continue
		}
		if failed == nil {
			failed = unavailable(e.Code, nil)
		}
		failed.Items = append(failed.Items, *e)
	}
	if failed != nil && failed.Code == "integrity" {
		failed.Kind, failed.Message = ErrCorrupt, corruptMessage
	}
	return failed
}
