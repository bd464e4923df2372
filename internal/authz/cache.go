package authz

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/cedar-policy/cedar-go"
)

// maxCached bounds the permissions that a set remembers. Beyond, all are
// forgotten.
const maxCached = 4096

// cache is what a set permitted, by everything of the request that the set's
// scopes and conditions read: in memory, for as long as the set is in force.
type cache struct {
	reads facts

	mu        sync.RWMutex // guards permitted
	permitted map[cacheKey]Decision
}

// cacheKey is a question; what no condition reads is left out.
type cacheKey struct {
	tenant, principal    string
	roles                roleSet
	authentication, name string
	request              Request
}

// facts are what only conditions can read.
type facts struct{ purpose, ticket, time, subject, age, authentication, name, claims bool }

// CachedDecide is Decide, which it asks where nothing was permitted yet to the
// same caller for a request that is the same in all that the policies read. A
// denial is decided anew each time: many denied tokens then take as long as
// many unknown ones, of which no two are alike.
func (p *Policies) CachedDecide(pr Principal, r Request) Decision {
	k, ok := p.cacheKey(&pr, r)
	if !ok {
		return p.Decide(pr, r)
	}
	p.cache.mu.RLock()
	d, found := p.cache.permitted[k]
	p.cache.mu.RUnlock()
	if found {
		return d
	}
	if d = p.Decide(pr, r); d.Allowed {
		p.cache.keep(k, d)
	}
	return d
}

func (c *cache) keep(k cacheKey, d Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.permitted == nil || len(c.permitted) >= maxCached {
		c.permitted = make(map[cacheKey]Decision)
	}
	c.permitted[k] = d
}

// cacheKey is false where claims count, which are no key.
func (p *Policies) cacheKey(pr *Principal, r Request) (k cacheKey, ok bool) {
	reads := &p.cache.reads
	if reads.claims {
		return k, false
	}
	k = cacheKey{tenant: pr.Tenant, principal: pr.ID, roles: p.roleSet(pr.Roles)}
	k.request = Request{Action: r.Action, Reveal: r.Reveal, Type: r.Type}
	if reads.authentication {
		k.authentication = pr.Authentication
	}
	if reads.name {
		k.name = pr.Name
	}
	if reads.purpose {
		k.request.Purpose = r.Purpose
	}
	if reads.ticket {
		k.request.Ticket = r.Ticket
	}
	if reads.time {
		k.request.Time = r.Time
	}
	if reads.subject {
		k.request.Subject = r.Subject
	}
	if reads.age {
		k.request.AgeDays = r.AgeDays
	}
	return k, true
}

// add takes note of what a policy's conditions read.
func (f *facts) add(policy *cedar.Policy) error {
	b, err := policy.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write the policy as JSON: %w", err)
	}
	var tree struct{ Conditions any }
	if err := json.Unmarshal(b, &tree); err != nil {
		return fmt.Errorf("read the policy as JSON: %w", err)
	}
	f.walk(tree.Conditions)
	return nil
}

// walk goes through an expression in Cedar's JSON policy format, in which an
// attribute is read by name (`.` and `has`), or with all others of a context
// that stands by itself, to be compared.
func (f *facts) walk(node any) {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			f.walk(child)
		}
	case map[string]any:
		for key, child := range n {
			access, _ := child.(map[string]any)
			name, named := access["attr"].(string)
			switch {
			case (key == "." || key == "has") && named:
				f.read(name)
				if left, ok := access["left"].(map[string]any); !ok || left["Var"] == nil {
					f.walk(access["left"])
				}
			case key == "Var" && child == "context":
				*f = facts{true, true, true, true, true, true, true, true}
			default:
				f.walk(child)
			}
		}
	}
}

func (f *facts) read(attribute string) {
	switch attribute {
	case "purpose":
		f.purpose = true
	case "ticket":
		f.ticket = true
	case "time":
		f.time = true
	case "subject":
		f.subject = true
	case "age_days":
		f.age = true
	case "authentication":
		f.authentication = true
	case "name":
		f.name = true
	case "claims":
		f.claims = true
	}
}
