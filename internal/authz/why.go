package authz

import (
	"fmt"
	"iter"
	"strings"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Reason is what one policy has to say to one request.
type Reason struct {
	Policy  string // its @id
	File    string
	Line    int
	Permit  bool // else it forbids
	Masked  bool // its ceiling
	Matches bool
	// Fails: a condition could not be evaluated, which denies.
	Fails bool
	// Why is, where it does not match, the first of its parts that is not so:
	// who, the action, what, or the text of a condition.
	Why string
}

// Why decides a question and says of every policy whether it matched, in
// order of id. The policies are asked as Decide does in the end: a ceiling
// that lowered the reveal has lowered it for the other policies too.
func (p *Policies) Why(q Question) (Decision, []Reason, error) {
	principal, asked, err := q.in(p)
	if err != nil {
		return Decision{}, nil, err
	}
	d := p.Decide(principal, asked)
	if d.Allowed {
		asked.Reveal = d.Reveal
	}
	reasons := make([]Reason, len(p.rules))
	if !wellFormed(asked) {
		return d, nil, fmt.Errorf("%w: the request: detokenize needs a type and a reveal; tokenize, search and inspect a type; the others have none", ErrPolicies)
	}
	question := p.ask(principal, asked)
	question.principal.Attributes = question.caller()
	for i, r := range p.rules {
		reasons[i] = Reason{Policy: r.id, File: r.file, Line: r.line, Permit: r.permit, Masked: r.masked}
		question.examine(&reasons[i], (*ast.Policy)(r.policy.AST()))
	}
	return d, reasons, nil
}

// examine asks for each part of a policy by itself.
func (q *question) examine(r *Reason, policy *ast.Policy) {
	all := ast.Policy{Effect: ast.EffectPermit, Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{}}
	who, action, what := all, all, all
	who.Principal, action.Action, what.Resource = policy.Principal, policy.Action, policy.Resource
	type part struct {
		policy ast.Policy
		why    string
	}
	parts := []part{
		{who, "it is about others: " + scopeText(&who, "principal")},
		{action, "it is about other actions: " + scopeText(&action, "action")},
		{what, "it is about other resources: " + scopeText(&what, "resource")},
	}
	for _, c := range policy.Conditions {
		condition := all
		condition.Conditions = []ast.ConditionType{c}
		parts = append(parts, part{condition, "this does not hold: " + conditionText(&condition)})
	}
	for _, p := range parts {
		var holds bool
		if holds, r.Fails = q.holds(&p.policy); !holds {
			r.Why = p.why
			return
		}
	}
	r.Matches = true
}

// holds evaluates one policy by itself.
func (q *question) holds(policy *ast.Policy) (holds, fails bool) {
	request := cedar.Request{
		Principal: q.principal.UID, Resource: q.resource.UID, Context: q.context(),
		Action: cedar.EntityUID{Type: typeAction, ID: cedar.String(q.asked.Action)},
	}
	verdict, why := cedar.Authorize(alone{cedar.NewPolicyFromAST((*cedarast.Policy)(policy))}, q, request)
	return verdict == cedar.Allow, len(why.Errors) > 0
}

// alone is a set of one policy.
type alone struct{ policy *cedar.Policy }

// All implements cedar.PolicyIterator.
func (a alone) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) { yield("", a.policy) }
}

// textOf is a policy's Cedar text, a part a line: the scope's three, then the
// conditions, of which the policies of examine have one at most.
func textOf(policy *ast.Policy) string {
	return string(cedar.NewPolicyFromAST((*cedarast.Policy)(policy)).MarshalCedar())
}

// scopeText is the part of the scope that begins with this word.
func scopeText(policy *ast.Policy, word string) string {
	for line := range strings.Lines(textOf(policy)) {
		if part := strings.TrimSpace(line); strings.HasPrefix(part, word) {
			return strings.TrimSuffix(part, ",")
		}
	}
	return word
}

func conditionText(policy *ast.Policy) string {
	text := textOf(policy)
	for _, word := range []string{"\nwhen ", "\nunless "} {
		if i := strings.Index(text, word); i >= 0 {
			text = text[i+1:]
			break
		}
	}
	return strings.TrimSuffix(text, ";")
}
