package authz

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// The default policies, their schema and their cases are files that an
// auditor can read without reading Go.
//
//go:embed policies
var policyFiles embed.FS

const (
	policyDir  = "policies"
	schemaFile = "schema.cedarschema"
	policyExt  = ".cedar"
	casesExt   = ".cases.json"
	// policySetLabel separates this use of SHA-256 from every other.
	policySetLabel = "piivault/policy-set/v1\x00"
)

// ErrPolicies refuses a set of policies; the error's text says where and why.
var ErrPolicies = errors.New("authz: bad policies")

// Policies is a checked set of Cedar policies, immutable and safe for
// concurrent use. Its rule: no permit means denied, a forbid means denied,
// any evaluation error means denied.
type Policies struct {
	rules   []*rule // in order of id
	actions []Action
	roles   []Role
	parents []cedar.EntityUIDSet // of a principal, by roleSet
	claims  ClaimTypes
	hash    string
	cases   int // that it was held to
	cache   cache
}

// PolicyError is an ErrPolicies with its place. Its text may quote the file.
type PolicyError struct {
	File string
	Line int // from 1; 0: the file as a whole
	Err  error
}

func (e *PolicyError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%v: %s: %v", ErrPolicies, e.File, e.Err)
	}
	return fmt.Sprintf("%v: %s:%d: %v", ErrPolicies, e.File, e.Line, e.Err)
}

// Unwrap gives ErrPolicies and the cause to errors.Is and errors.As.
func (e *PolicyError) Unwrap() []error { return []error{ErrPolicies, e.Err} }

// lineOf takes the line out of the text of cedar-go 1.9's parse error, where
// it follows the place's name; 0 where it has none.
func lineOf(err error) (line int) {
	_, place, _ := strings.Cut(err.Error(), "<input>:")
	number, _, _ := strings.Cut(place, ":")
	line, _ = strconv.Atoi(number)
	return line
}

// DefaultPolicies returns the set of design §8: one file a role in policies/.
func DefaultPolicies() (*Policies, error) { return ClaimTypes(nil).defaultPolicies() }

func (t ClaimTypes) defaultPolicies() (*Policies, error) {
	files, err := DefaultPolicyFiles()
	if err != nil {
		return nil, err
	}
	delete(files, schemaFile)
	return t.ParsePolicies(files)
}

// ParsePolicies reads files by name: NAME.cedar holds policies, NAME.cases.json
// the cases they must answer as expected. Every policy is type-checked against
// the vault's schema (Cedar's strict validation), has an @id that is its own,
// and no annotation but @id, @doc and, on a permit to detokenize,
// @reveal("masked"): a misspelt ceiling must not lift it. Any other file,
// and a set without policies, is refused. Errors are ErrPolicies.
//
// Policies find no claims of callers: ClaimTypes.ParsePolicies declares some.
func ParsePolicies(files map[string][]byte) (*Policies, error) {
	return ClaimTypes(nil).ParsePolicies(files)
}

// ParsePolicies is the function of that name, for callers with these claims.
func (t ClaimTypes) ParsePolicies(files map[string][]byte) (*Policies, error) {
	checker, schemaText, err := t.newChecker()
	if err != nil {
		return nil, err
	}
	p := &Policies{roles: Roles(), actions: Actions(), claims: t, hash: hashPolicies(schemaText, files)}
	p.parents = parentsByRoles(p.roles)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case strings.HasSuffix(name, policyExt):
			err = p.addFile(checker, name, files[name])
		case !strings.HasSuffix(name, casesExt):
			err = &PolicyError{File: name, Err: fmt.Errorf("it is neither %s nor %s", policyExt, casesExt)}
		}
		if err != nil {
			return nil, err
		}
	}
	if len(p.rules) == 0 {
		return nil, fmt.Errorf("%w: no policy at all", ErrPolicies)
	}
	slices.SortFunc(p.rules, func(a, b *rule) int { return strings.Compare(a.id, b.id) })
	if err := p.runCases(files); err != nil {
		return nil, err
	}
	return p, nil
}

// Hash names the set: two sets with the same hash have the same policy files
// and the same schema (format.md §6).
func (p *Policies) Hash() string { return p.hash }

// Count returns how many policies there are, and how many cases they passed.
func (p *Policies) Count() (policies, cases int) { return len(p.rules), p.cases }

func (t ClaimTypes) newChecker() (*validate.Validator, []byte, error) {
	text, err := t.PolicySchema()
	if err != nil {
		return nil, nil, err
	}
	var s schema.Schema
	s.SetFilename(schemaFile)
	if err := s.UnmarshalCedar(text); err != nil {
		return nil, nil, fmt.Errorf("parse the policy schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, nil, fmt.Errorf("resolve the policy schema: %w", err)
	}
	return validate.New(resolved, validate.WithStrict()), text, nil
}

func (p *Policies) addFile(checker *validate.Validator, name string, text []byte) error {
	list, err := cedar.NewPolicyListFromBytes(name, text)
	if err != nil {
		return &PolicyError{File: name, Line: lineOf(err), Err: err}
	}
	for _, policy := range list {
		r, err := p.newRule(policy)
		if err == nil {
			err = checker.Policy(r.id, (*ast.Policy)(policy.AST()))
		}
		if err == nil {
			err = checkNames(policy, p.roles, p.claims)
		}
		if err == nil {
			err = p.cache.reads.add(policy)
		}
		if err == nil && slices.ContainsFunc(p.rules, func(o *rule) bool { return o.id == r.id }) {
			err = errors.New("its @id is another policy's too")
		}
		if err != nil {
			return &PolicyError{File: name, Line: policy.Position().Line, Err: err}
		}
		r.file, r.line = name, policy.Position().Line
		p.rules = append(p.rules, r)
	}
	return nil
}

// hashPolicies covers the schema and the policy files, each with its name, in
// order of name; the cases decide nothing and are left out.
func hashPolicies(schemaText []byte, files map[string][]byte) string {
	h := sha256.New()
	write := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	h.Write([]byte(policySetLabel))
	write([]byte(schemaFile))
	write(schemaText)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, policyExt) {
			write([]byte(name))
			write(files[name])
		}
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
