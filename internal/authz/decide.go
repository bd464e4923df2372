package authz

import (
	"iter"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// May reports whether the scope of any permit for the action could match the
// principal, whatever its conditions: false is no right at all (403), told
// before any record is looked up.
func (p *Policies) May(pr Principal, a Action) bool {
	q := p.ask(pr, Request{Action: a})
	return slices.ContainsFunc(p.rules, func(r *rule) bool { return r.permit && q.couldMatch(r) })
}

// Decide answers one request of a principal. The action must be one of
// Actions(); detokenize needs a Reveal (the other actions have none) and,
// like tokenize, search and inspect, a Type; erase has one for a token and
// none for a subject; the others have none. Anything else is denied.
//
// A permit with @reveal("masked") is a ceiling: where no other permit matches,
// a plain request is decided as the masked one it then is, and so are the
// forbids. Decision.Policies names the permits or forbids that determined the
// answer, or the policies that failed to evaluate.
func (p *Policies) Decide(pr Principal, r Request) Decision {
	if r.Action != ActionDetokenize {
		r.Reveal = ""
	}
	if !wellFormed(r) {
		return Decision{PolicySet: p.hash}
	}
	d := p.evaluate(pr, r)
	if d.Allowed && d.Reveal != r.Reveal {
		r.Reveal = d.Reveal
		d = p.evaluate(pr, r)
	}
	return d
}

func wellFormed(r Request) bool {
	switch r.Action {
	case ActionDetokenize:
		return r.Type != "" && (r.Reveal == Plain || r.Reveal == Masked)
	case ActionTokenize, ActionSearch, ActionInspect:
		return r.Type != ""
	case ActionErase:
		return true
	case ActionAuditRead, ActionRepair, ActionAdmin, ActionStop, ActionResume:
		return r.Type == ""
	default:
		return false
	}
}

func (p *Policies) evaluate(pr Principal, r Request) Decision {
	q := p.ask(pr, r)
	verdict, why := cedar.Authorize(q, q, q.request())
	d := Decision{PolicySet: p.hash}
	switch {
	case len(why.Errors) > 0:
		for _, e := range why.Errors {
			d.Policies = append(d.Policies, string(e.PolicyID))
		}
	case verdict == cedar.Allow:
		d.Allowed, d.Reveal = true, p.ceiling(why.Reasons, r.Reveal)
		fallthrough
	default:
		for _, reason := range why.Reasons {
			d.Policies = append(d.Policies, string(reason.PolicyID))
		}
	}
	return d // rules are in order of id, and so is what Cedar says of them
}

// ceiling is what was asked, unless every permit that matched is masked.
func (p *Policies) ceiling(permits []cedar.DiagnosticReason, asked Reveal) Reveal {
	if asked != Plain {
		return asked
	}
	for _, permit := range permits {
		if !p.masked(string(permit.PolicyID)) {
			return Plain
		}
	}
	return Masked
}

func (p *Policies) masked(id string) bool {
	i, _ := slices.BinarySearchFunc(p.rules, id, func(r *rule, id string) int { return strings.Compare(r.id, id) })
	return p.rules[i].masked
}

// question is one request in Cedar's terms. It gives Cedar only the rules
// that could match and, when asked, the two entities that there are.
type question struct {
	rules     []*rule
	asked     Request
	tenant    string
	roles     roleSet // with everyone
	action    actionSet
	principal cedar.Entity
	resource  cedar.Entity
	built     bool // resource has its parents and attributes

	authentication, name string // of the caller
	claims               Claims
}

func (p *Policies) ask(pr Principal, r Request) *question {
	roles := p.roleSet(pr.Roles)
	resource := cedar.EntityUID{Type: typeType, ID: cedar.String(r.Type)}
	if r.Type == "" {
		resource = cedar.EntityUID{Type: typeVault, ID: vaultID}
	}
	return &question{
		rules: p.rules, asked: r, tenant: pr.Tenant, roles: roles | everyone, action: p.actionBit(r.Action),
		principal: cedar.Entity{
			UID:     cedar.EntityUID{Type: typePrincipal, ID: cedar.String(pr.ID)},
			Parents: p.parents[roles],
		},
		resource:       cedar.Entity{UID: resource},
		authentication: pr.Authentication, name: pr.Name, claims: pr.Claims,
	}
}

func (q *question) couldMatch(r *rule) bool {
	return r.roles&q.roles != 0 && r.actions&q.action != 0 &&
		(r.principal == "" || r.principal == string(q.principal.UID.ID)) &&
		(r.tenant == "" || r.tenant == q.tenant)
}

// request leaves the context and the caller's attributes empty where no policy
// has a condition to read them.
func (q *question) request() cedar.Request {
	req := cedar.Request{
		Principal: q.principal.UID,
		Action:    cedar.EntityUID{Type: typeAction, ID: cedar.String(q.asked.Action)},
		Resource:  q.resource.UID,
	}
	if slices.ContainsFunc(q.rules, func(r *rule) bool { return r.conditional && q.couldMatch(r) }) {
		req.Context = q.context()
		q.principal.Attributes = q.caller()
	}
	return req
}

func (q *question) caller() cedar.Record {
	return cedar.NewRecord(cedar.RecordMap{
		"authentication": cedar.String(q.authentication),
		"name":           cedar.String(q.name),
		"claims":         q.claims.record,
	})
}

func (q *question) context() cedar.Record {
	facts := cedar.RecordMap{
		"purpose": cedar.String(q.asked.Purpose),
		"ticket":  cedar.String(q.asked.Ticket),
		"time":    cedar.NewDatetimeFromMillis(q.asked.Time * 1000),
	}
	if q.asked.Action == ActionDetokenize {
		facts["reveal"] = cedar.String(q.asked.Reveal)
	}
	return cedar.NewRecord(facts)
}

// Get returns the principal or the resource: cedar.EntityGetter. The resource
// is completed when first asked for; few policies do.
func (q *question) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case q.principal.UID:
		return q.principal, true
	case q.resource.UID:
		if !q.built {
			q.completeResource()
		}
		return q.resource, true
	}
	return cedar.Entity{}, false
}

func (q *question) completeResource() {
	attributes := cedar.RecordMap{"subject": cedar.String(q.asked.Subject)}
	if q.asked.Type != "" {
		attributes["type"] = cedar.String(q.asked.Type)
		attributes["age_days"] = cedar.Long(q.asked.AgeDays)
	}
	q.resource.Attributes = cedar.NewRecord(attributes)
	q.resource.Parents = cedar.NewEntityUIDSet(cedar.EntityUID{Type: typeTenant, ID: cedar.String(q.tenant)})
	q.built = true
}

// All yields the policies that could match: cedar.PolicyIterator.
func (q *question) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range q.rules {
			if q.couldMatch(r) && !yield(cedar.PolicyID(r.id), r.policy) {
				return
			}
		}
	}
}
