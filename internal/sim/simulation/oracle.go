package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
	"piivault/internal/pii"
	"piivault/internal/secret"
)

// held is a token that a client has, or could have.
type held struct {
	id       int
	token    secret.Text
	record   string
	typ      string
	value    string
	forever  bool // deterministic: may be made again after an erasure
	expires  time.Duration
	attempts []*attempt
}

func (h *held) String() string { return fmt.Sprintf("token %d", h.id) }

// attempt is one tokenize that could make it.
type attempt struct {
	on      *region
	subject string
	begun   time.Time
	ended   time.Time // zero: its outcome is not known, or its writes may still come
	acked   bool
}

// erasure is one call of erase, of a token or a subject.
type erasure struct {
	held      *held  // or
	subject   string // as sent
	on        *region
	begun     time.Time
	acked     map[*region]time.Time
	completed time.Time // when every region had confirmed
	// everywhere: all regions had. One that joins the ring is not waited for by
	// instances of the old one: replication brings it what they erase.
	everywhere bool
	targets    map[string]bool // records and generations that were there when it began, anywhere
	answered   bool            // by an earlier one's job, which was complete before it began
	lost       bool            // with the region that accepted it, maybe
}

// affects reports that the erasure may end what the token stands for.
func (e *erasure) affects(h *held) bool {
	if e.subject == "" {
		return e.held == h
	}
	return slices.ContainsFunc(h.attempts, func(a *attempt) bool { return a.subject == e.subject })
}

// oracle knows what was acknowledged, and judges. It belongs to the
// scheduler's goroutine.
type oracle struct {
	w          *World
	keys       *crypto.TenantKeys
	held       []*held
	pool       map[string]*held // deterministic and idempotent ones, by what makes them
	erasures   []*erasure
	jobs       map[string]*job
	logs       map[string]*auditLog // region and log
	operations int
	busy       int
	counts     map[string]int
	violations []string
	ended      bool // all erasures are complete, and there are no new ones
	events     []event
	rings      []*crypto.Ring             // by epoch, from 1
	alone      []map[*region]*crypto.Ring // the same, of each region alone
	done       map[*region]int            // by table: the last ring of which it says that some region has no older records
	lagged     time.Time                  // when replication last lagged for longer than erasure assumes
	wrote      map[string]bool            // by operation: it has written records
	first      map[dynamo.Key]dynamo.Item // records as they were inserted
}

func newOracle(w *World) *oracle {
	return &oracle{
		w: w, pool: map[string]*held{}, jobs: map[string]*job{}, logs: map[string]*auditLog{}, counts: map[string]int{},
		wrote: map[string]bool{}, done: map[*region]int{}, first: map[dynamo.Key]dynamo.Item{},
	}
}

func (o *oracle) holds() bool { return len(o.violations) == 0 }

func (o *oracle) violatef(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	o.w.tracef("VIOLATION: %s", text)
	o.violations = append(o.violations, text)
}

func (o *oracle) clients() int { return o.busy }

func (o *oracle) disturbed() {}

// openTenant gets the tenant's keys, which the clients do not have: they tell
// which record is which token's.
func (o *oracle) openTenant(ctx context.Context, i *instance) {
	if err := o.prove(); err != nil {
		o.violatef("oracle: %v", err)
		return
	}
	row := i.region.db.Row("control", dynamo.Key{PK: string(authz.KindTenantSecret), SK: o.w.tenant})
	opened, _, _, err := crypto.NewSealer(o.rings[0], nil, nil).OpenTenantSecret(ctx, o.w.tenant, dynamo.Read(row.Item).Bytes("body"))
	if err != nil {
		o.violatef("oracle: %v", err)
		return
	}
	if o.keys, err = crypto.NewTenantKeys(o.w.tenant, opened); err != nil {
		o.violatef("oracle: %v", err)
	}
}

// depends reports a message that no region of a ring could open.
func (o *oracle) depends(epoch int) (found bool) {
	for _, r := range o.w.alive() {
		for table, attribute := range map[string]string{"records": "message", "control": "body"} {
			r.db.Rows(table, func(key dynamo.Key, item dynamo.Item) {
				if item[attribute] == nil || table == "control" && key.PK != string(authz.KindTenantSecret) {
					return
				}
				found = found || len(o.opensIn(epoch, item, attribute)) == 0
			})
		}
	}
	return found
}

// draw decides what a client does, and where if not where it would have.
func (o *oracle) draw(op *operation) {
	w := o.w
	if len(o.held) > 0 && w.oneIn(4) {
		o.drawRaid(op)
		return
	}
	n := w.random.IntN(100)
	switch {
	case n < 45 || len(o.held) == 0:
		op.kind = tokenize
		if w.oneIn(3) {
			o.drawBatch(op)
			return
		}
		o.drawValue(op)
		o.keepHome(op)
		return
	case n < 80:
		op.kind = detokenize
		if w.oneIn(3) {
			o.drawBatch(op)
			return
		}
	case n < 85:
		op.kind = inspect
	case n < 92:
		op.kind = eraseToken
	case n < 95:
		op.kind = eraseWhole
		op.subject = fmt.Sprintf("subject-%d", w.random.IntN(subjects))
		op.erasure = &erasure{subject: op.subject, acked: map[*region]time.Time{}}
		return
	default:
		op.kind = tamper
	}
	op.held = o.drawHeld()
	if op.kind == eraseToken {
		op.erasure = &erasure{held: op.held, acked: map[*region]time.Time{}}
	}
	o.keepHome(op)
}

// keepHome lets every third token live in one region only.
func (o *oracle) keepHome(op *operation) {
	h := op.held
	if h.livesIn(op.on.region) {
		return
	}
	at := slices.IndexFunc(h.attempts[0].on.instances, func(i *instance) bool { return i.ready && i.warm })
	if op.on = nil; at >= 0 {
		op.on = h.attempts[0].on.instances[at]
	}
}

// livesIn reports that a token may be asked for in a region.
func (h *held) livesIn(r *region) bool {
	return h == nil || h.id%3 != 0 || len(h.attempts) == 0 || h.attempts[0].on == r
}

// drawHeld prefers what was made lately.
func (o *oracle) drawHeld() *held {
	if o.w.oneIn(3) {
		return pick(o.w.scheduler, o.held)
	}
	return pick(o.w.scheduler, o.held[max(0, len(o.held)-8):])
}

func (o *oracle) drawValue(op *operation) {
	op.typ = drawType(o.w.scheduler)
	op.value, op.subject = fmt.Sprintf("v%d@example.com", o.operations), o.drawSubject()
	switch {
	case op.typ == login:
		o.drawLogin(op)
	case op.typ == "email" && o.w.oneIn(2):
		n := o.drawRetry()
		op.key = secret.NewText(fmt.Sprintf("%032x", n+1))
		op.value, op.subject = fmt.Sprintf("retried%d@example.com", n), fmt.Sprintf("subject-%d", n%subjects)
		op.held = o.idempotent(op, op.key, 0)
	}
}

func drawType(s *scheduler) string {
	return pick(s, []string{"email", "email", login, login, login, "shared", "brief"})
}

// drawSubject names a subject, or none.
func (o *oracle) drawSubject() string {
	if !o.w.oneIn(2) {
		return ""
	}
	return fmt.Sprintf("subject-%d", o.w.random.IntN(subjects))
}

// drawRetry numbers an idempotency key of those in use at present.
func (o *oracle) drawRetry() int {
	return o.w.random.IntN(retryable) + retryable*(o.operations/200)
}

// drawLogin makes a value one of the few deterministic ones.
func (o *oracle) drawLogin(op *operation) {
	o.setLogin(op, o.w.random.IntN(logins))
}

func (o *oracle) setLogin(op *operation, n int) {
	op.value = fmt.Sprintf("login%d@example.com", n)
	op.held = o.known(op.typ, op.value, pii.AnyRegion, func() [pii.TokenSecretSize]byte {
		return o.keys.DeterministicToken(op.typ, secret.NewPlaintext([]byte(op.value)))
	})
	op.held.forever = true
}

// known is the token that a value will have, which is used before it is made too.
func (o *oracle) known(typ, value, hint string, bits func() [pii.TokenSecretSize]byte) *held {
	name := typ + " " + value
	if h := o.pool[name]; h != nil {
		return h
	}
	h := o.add(pii.Token{Env: env, Type: typ, Hint: hint, Secret: bits()}.Text(), typ, value)
	o.pool[name] = h
	return h
}

func (o *oracle) add(token secret.Text, typ, value string) *held {
	h := &held{id: len(o.held) + 1, token: token, record: o.keys.RecordID(token), typ: typ, value: value}
	if t, ok := o.w.types.Lookup(typ); ok {
		h.expires = t.TTL
	}
	o.held = append(o.held, h)
	return h
}

// begun takes note of an operation before it starts.
func (o *oracle) begun(op *operation) {
	o.operations++
	o.busy++
	op.id = o.operations
	for _, p := range op.parts {
		p.id = op.id
		o.began(p)
	}
	if len(op.parts) == 0 {
		o.began(op)
	}
}

func (o *oracle) began(op *operation) {
	now := time.Now()
	switch op.kind {
	case tokenize:
		op.try = &attempt{on: op.on.region, subject: op.subject, begun: now}
		if op.held != nil {
			op.held.attempts = append(op.held.attempts, op.try)
		}
	case eraseToken, eraseWhole:
		op.erasure.on, op.erasure.begun = op.on.region, now
		op.erasure.targets = o.targets(op.erasure)
		o.erasures = append(o.erasures, op.erasure)
	case detokenize, inspect, tamper:
		op.copies = o.copies(op.on, op.held)
		op.here = o.live(op.on.region, op.held) != nil
	case attack: // of tokens that are not the clients'
	}
}

// targets are the generations that an erasure finds in any region.
func (o *oracle) targets(e *erasure) map[string]bool {
	found := map[string]bool{}
	subject := o.w.tenant + "#" + o.keys.SubjectID(e.subject)
	for _, r := range o.w.alive() {
		r.db.Rows("records", func(key dynamo.Key, item dynamo.Item) {
			_, record, _ := strings.Cut(key.PK, "#")
			named := item["subject"] != nil && dynamo.Read(item).String("subject") == subject
			if key.SK[0] != 'X' && (named && e.subject != "" || e.held != nil && e.held.record == record) {
				found[record+key.SK[1:10]] = true
			}
		})
	}
	return found
}

// copies are the regions whose key, as an instance is configured, opens the
// token's record as its region, or the one that made it, has it now.
func (o *oracle) copies(on *instance, h *held) []string {
	row := o.live(on.region, h)
	for _, a := range h.attempts {
		if row == nil && a.acked {
			row = o.live(a.on, h)
		}
	}
	return o.opensIn(on.epoch, row, "message")
}

// live is the R of the lowest generation without X in a region's table.
func (o *oracle) live(at *region, h *held) dynamo.Item {
	pk := o.w.tenant + "#" + h.record
	for g := 0; ; g++ {
		if at.db.Row("records", dynamo.Key{PK: pk, SK: fmt.Sprintf("X#%08x", g)}).Item == nil {
			return at.db.Row("records", dynamo.Key{PK: pk, SK: fmt.Sprintf("R#%08x", g)}).Item
		}
	}
}

// otherMessage is a message that belongs elsewhere.
func (o *oracle) otherMessage(item dynamo.Item) []byte {
	mine := dynamo.Read(item).Key().PK
	h := pick(o.w.scheduler, o.held)
	if strings.HasSuffix(mine, "#"+h.record) {
		return nil
	}
	for _, r := range o.w.regions {
		if row := o.live(r, h); row != nil {
			return dynamo.Read(row).Bytes("message")
		}
	}
	return nil
}
