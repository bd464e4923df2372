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

// remoteTimeout bounds one look-up in another region's table.
const remoteTimeout = 2 * time.Second

// sought is one token on its way to its record. Its outcome is Authorized
// only if the record is live, was found, and the policies allow the action.
type sought struct {
	index    int
	token    secret.Text
	kind     string // the type that the token's text names, "" for none
	hint     string
	ref      store.Ref
	reveal   Reveal
	gen      uint32 // lowest generation without a tombstone here
	record   *store.Record
	message  *crypto.Message
	typ      *pii.Type
	decision authz.Decision
	outcome  audit.Outcome
	unasked  bool // a region that may have it could not be asked
}

// lookup is a batch of tokens, one action, one caller.
type lookup struct {
	v               *Vault
	c               Call
	action          authz.Action
	purpose, ticket string
	now             time.Time
	decider         *decider
	items           []sought
	remaining       *authz.Remaining // of the caller's budgets
	retryAfter      time.Duration    // of the items that are over budget
}

func (v *Vault) newLookup(c Call, action authz.Action, n int) *lookup {
	return &lookup{v: v, c: c, action: action, now: v.Now(), decider: v.decider(c), items: make([]sought, n)}
}

// add begins the search for a token. One that is not of the grammar is looked
// for like any other, and not found.
func (l *lookup) add(i int, token secret.Text, keys *crypto.TenantKeys) {
	s := &l.items[i]
	s.index, s.token = i, token
	s.ref = store.Ref{Tenant: l.c.Principal.Tenant, ID: keys.RecordID(token)}
	parsed, err := pii.ParseToken(token)
	if err != nil {
		return
	}
	s.kind, s.hint = parsed.Type, parsed.Hint
	s.ref.Generations = l.v.hasGenerations(parsed)
}

// hasGenerations reports a deterministic token, and any of a type that is
// configured no more.
func (v *Vault) hasGenerations(t pii.Token) bool {
	typ, known := v.Catalog.Lookup(t.Type)
	return !known || typ.Token == pii.Deterministic
}

// find reads every token's record here and, for those that cannot be
// answered for, where their region hint points (design §3).
func (l *lookup) find(ctx context.Context) error {
	refs := make([]store.Ref, len(l.items))
	for i := range l.items {
		refs[i] = l.items[i].ref
	}
	states, err := l.v.local.Read(ctx, refs)
	if err != nil {
		return unavailable("unavailable", err)
	}
	for i := range l.items {
		l.items[i].gen = states[i].Generation
		l.judge(&l.items[i], states[i])
	}
	l.findElsewhere(ctx)
	for i := range l.items {
		if s := &l.items[i]; s.decision.PolicySet == "" {
			l.decideInVain(s)
		}
	}
	return nil
}

// judge decides what may be done with a record in this state.
func (l *lookup) judge(s *sought, state store.State) {
	switch {
	case state.Record == nil && state.Erased():
		s.outcome = audit.Erased
		return
	case state.Record == nil:
		s.outcome = audit.NotFound
		return
	}
	s.record = state.Record
	s.typ, _ = l.v.Catalog.Lookup(s.record.Type)
	if expired(s.record, l.now) {
		s.outcome = audit.Expired
		return
	}
	s.decision = l.decider.decide(l.request(s.reveal, s.record))
	// A type that is configured no more has no mask and no rules to go by.
	if !s.decision.Allowed || s.typ == nil {
		s.outcome = audit.Denied
		return
	}
	m, err := crypto.Parse(s.record.Message)
	if err != nil {
		s.outcome = audit.Failed
		return
	}
	s.message, s.outcome = m, audit.Authorized
}

// request asks the policies about a record.
func (l *lookup) request(reveal Reveal, r *store.Record) authz.Request {
	return authz.Request{
		Action: l.action, Reveal: reveal, Purpose: l.purpose, Ticket: l.ticket, Time: l.now.Unix(),
		Type: r.Type, Subject: r.Subject, AgeDays: (l.now.UnixMilli() - r.Created) / dayMillis,
	}
}

// decideInVain asks the policies about a token that there is nothing to decide
// about, as if it were of a record made now, of the type that its text names:
// else the time of the answer would tell it from one that is denied. Of what
// they say only which set it was is kept.
func (l *lookup) decideInVain(s *sought) {
	r := store.Record{Type: s.kind, Subject: s.ref.ID, Created: l.now.UnixMilli()}
	if r.Type == "" {
		r.Type = strangeType
	}
	d := l.decider.policies.Decide(l.c.Principal, l.request(s.reveal, &r)) // as long as a denial, which is not cached
	s.decision = authz.Decision{PolicySet: d.PolicySet}
}

// strangeType stands for the type of what is no token at all.
const strangeType = "unknown"

const dayMillis = 24 * 60 * 60 * 1000

// findElsewhere asks the other regions that hinted tokens may be in. Denied,
// erased and unknown tokens are all asked for, so that the answer does not
// tell them apart; only what is unknown here can come out differently.
func (l *lookup) findElsewhere(ctx context.Context) {
	for _, remote := range l.v.Others {
		var refs []store.Ref
		var items []*sought
		for i := range l.items {
			s := &l.items[i]
			if !s.settled() && (s.hint == remote.Region || s.hint == hintAny) {
				refs, items = append(refs, s.ref), append(items, s)
			}
		}
		if len(refs) > 0 {
			l.findIn(ctx, remote, refs, items)
		}
	}
	for i := range l.items {
		if s := &l.items[i]; s.unasked && !s.settled() {
			s.outcome = audit.NotYetVisible
		}
	}
}

// settled reports that no other region can change a token's outcome.
func (s *sought) settled() bool { return s.outcome == audit.Authorized || s.outcome == audit.Failed }

// findIn asks one region. A caller that keeps asking for what it gets nowhere,
// denied and erased as much as unknown, exhausts the budget of misses and is
// told to come back later.
func (l *lookup) findIn(ctx context.Context, remote RegionTable, refs []store.Ref, items []*sought) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	var states []store.State
	err := errMisses
	if l.v.misses.TokensAt(l.now) >= 1 {
		states, err = remote.Read(ctx, refs)
	}
	missed := 0
	for i, s := range items {
		switch {
		case err != nil:
			s.unasked = true
		case s.mayBe(states[i]):
			l.judge(s, states[i])
		}
		if err == nil && !s.settled() {
			missed++
		}
	}
	l.v.misses.ReserveN(l.now, min(missed, l.v.misses.Burst()))
}

// mayBe reports that another region's record can stand for what is unknown
// here: one of a generation that has a tombstone here cannot.
func (s *sought) mayBe(there store.State) bool {
	unknown := s.outcome == audit.NotFound || s.outcome == audit.Erased
	return unknown && there.Record != nil && there.Generation >= s.gen
}

var errMisses = errors.New("vault: the budget of misses is spent")

// entry is the audit entry of what was decided about a token.
func (l *lookup) entry(s *sought) audit.Entry {
	e := l.v.entry(l.c, string(l.action), s.outcome)
	e.Record, e.Purpose, e.Ticket, e.Reveal, e.Budget = s.ref.ID, l.purpose, l.ticket, string(s.reveal), budgetState(l.remaining)
	e.PolicySet = s.decision.PolicySet
	if s.record != nil {
		e.Generation, e.Type, e.Subject = s.record.Generation, s.record.Type, s.record.Subject
		decided(&e, s.decision)
	}
	if s.message != nil {
		e.DataKey = s.message.DataKey()
		e.Copies, _ = l.v.Ring.Copies(s.message)
		e.Reveal = string(s.decision.Reveal)
	}
	return e
}

// entries of all items, or of those alone that cannot be answered for.
func (l *lookup) entries(refusedOnly bool) []audit.Entry {
	entries := make([]audit.Entry, 0, len(l.items))
	for i := range l.items {
		if !refusedOnly || l.items[i].outcome != audit.Authorized {
			entries = append(entries, l.entry(&l.items[i]))
		}
	}
	return entries
}

// refusal says why an item has no answer; denied, erased, expired and unknown
// tokens answer alike.
func (s *sought) refusal() *ItemError {
	switch s.outcome {
	case audit.Authorized:
		return nil
	case audit.OverBudget:
		return overBudget(s.index)
	case audit.Failed:
		return &ItemError{Index: s.index, Code: "integrity", Message: corruptMessage}
	case audit.NotYetVisible:
		return &ItemError{Index: s.index, Code: "not_yet_visible", Message: "The region that this token names cannot be reached and its record is not here yet.", Retryable: true}
	default:
		return &ItemError{Index: s.index, Code: "not_found", Message: "There is nothing to reveal for this token."}
	}
}

// refusal of the whole batch, listing every item without an answer.
func (l *lookup) refusal() error {
	var items []ItemError
	kind := ErrNotFound
	for i := range l.items {
		e := l.items[i].refusal()
		if e == nil {
			continue
		}
		items = append(items, *e)
		switch {
		case e.Code == "over_budget":
			return itemsOverBudget(l.retryAfter)
		case e.Code == "integrity":
			kind = ErrCorrupt
		case e.Code == "not_yet_visible" && !errors.Is(kind, ErrCorrupt):
			kind = ErrUnavailable
		}
	}
	if len(items) == 0 {
		return nil
	}
	return itemsRefused(kind, items)
}

// wipeKeys ends the life of unwrapped data keys.
func wipeKeys(unwrapped []crypto.Unwrapped) {
	for i := range unwrapped {
		unwrapped[i].Key.Wipe()
	}
}
