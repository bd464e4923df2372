package authz

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The entity types of schema.cedarschema.
const (
	typePrincipal cedar.EntityType = "Principal"
	typeRole      cedar.EntityType = "Role"
	typeTenant    cedar.EntityType = "Tenant"
	typeType      cedar.EntityType = "Type"
	typeVault     cedar.EntityType = "Vault"
	typeAction    cedar.EntityType = "Action"
)

// The annotations that a policy may carry.
const (
	annotationID     = "id"
	annotationDoc    = "doc"
	annotationReveal = "reveal"
)

// maxPolicyID is the longest @id: it is in every audit entry it decided.
const maxPolicyID = 64

// roleSet and actionSet are bits in the order of Policies.roles and actions.
type (
	roleSet   uint16
	actionSet uint16
)

const (
	anyRole   = ^roleSet(0)
	anyAction = ^actionSet(0)
	// everyone is a bit that no role has and every caller does.
	everyone roleSet = 1 << 15
)

// vaultID is the id of the one resource that is no record.
const vaultID = "vault"

// rule is a policy and what its scope can match, as far as that is known
// before a request. It must never be narrower than the scope itself: rules
// that cannot match are not evaluated, and a forbid left out would permit.
type rule struct {
	id          string
	file        string
	line        int
	policy      *cedar.Policy
	permit      bool
	masked      bool // @reveal("masked")
	conditional bool // has a when or an unless

	roles     roleSet
	actions   actionSet
	principal string // the one principal id, "" for any
	tenant    string // the one tenant id, "" for any
}

func (p *Policies) newRule(policy *cedar.Policy) (*rule, error) {
	tree := (*ast.Policy)(policy.AST())
	r := &rule{
		policy: policy, permit: policy.Effect() == cedar.Permit, conditional: len(tree.Conditions) > 0,
		roles: anyRole, actions: p.actionsOf(tree.Action),
	}
	p.scopeToPrincipal(r, tree.Principal)
	r.scopeToTenant(tree.Resource)
	return r, p.annotate(r, policy.Annotations())
}

func (p *Policies) annotate(r *rule, annotations cedar.Annotations) error {
	for key, value := range annotations {
		switch key {
		case annotationID:
			r.id = string(value)
		case annotationReveal:
			r.masked = true
			if value != cedar.String(Masked) || !r.permit || r.actions&p.actionBit(ActionDetokenize) == 0 {
				return errors.New(`@reveal is for a permit to detokenize, and only as @reveal("masked")`)
			}
		case annotationDoc:
		default:
			return fmt.Errorf("unknown annotation @%s", key)
		}
	}
	if !isPolicyID(r.id) {
		return errors.New("a policy needs an @id: 1 to 64 of a-z, 0-9, '.', '_' and '-'")
	}
	return nil
}

func isPolicyID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= maxPolicyID
}

func (p *Policies) scopeToPrincipal(r *rule, scope ast.IsPrincipalScopeNode) {
	var of cedar.EntityUID
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		of = s.Entity
	case ast.ScopeTypeIn:
		of = s.Entity
	case ast.ScopeTypeIsIn:
		of = s.Entity
	}
	switch of.Type {
	case typePrincipal:
		r.principal = string(of.ID)
	case typeRole:
		r.roles = p.roleBit(Role(of.ID))
	}
}

func (r *rule) scopeToTenant(scope ast.IsResourceScopeNode) {
	var in cedar.EntityUID
	switch s := scope.(type) {
	case ast.ScopeTypeIn:
		in = s.Entity
	case ast.ScopeTypeIsIn:
		in = s.Entity
	}
	if in.Type == typeTenant {
		r.tenant = string(in.ID)
	}
}

// actionsOf knows that the schema has no groups of actions.
func (p *Policies) actionsOf(scope ast.IsActionScopeNode) actionSet {
	var of []cedar.EntityUID
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		of = []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIn:
		of = []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeInSet:
		of = s.Entities
	default:
		return anyAction
	}
	var set actionSet
	for _, uid := range of {
		set |= p.actionBit(Action(uid.ID))
	}
	return set
}

// actionBit is 0 for an action that does not exist.
func (p *Policies) actionBit(a Action) actionSet {
	if i := slices.Index(p.actions, a); i >= 0 {
		return 1 << i
	}
	return 0
}

// roleBit is 0 for a role that does not exist.
func (p *Policies) roleBit(r Role) roleSet {
	if i := slices.Index(p.roles, r); i >= 0 {
		return 1 << i
	}
	return 0
}

func (p *Policies) roleSet(roles []Role) (set roleSet) {
	for _, r := range roles {
		set |= p.roleBit(r)
	}
	return set
}

// parentsByRoles lists a principal's parents for every set of roles.
func parentsByRoles(roles []Role) []cedar.EntityUIDSet {
	sets := make([]cedar.EntityUIDSet, 1<<len(roles))
	for i := range sets {
		var uids []cedar.EntityUID
		for bit, r := range roles {
			if i&(1<<bit) != 0 {
				uids = append(uids, cedar.EntityUID{Type: typeRole, ID: cedar.String(r)})
			}
		}
		sets[i] = cedar.NewEntityUIDSet(uids...)
	}
	return sets
}
