package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Question is a request as cases and `vault policy why` write it.
type Question struct {
	Tenant         string    `json:"tenant,omitempty"`
	Principal      string    `json:"principal,omitempty"`
	PrincipalName  string    `json:"principal_name,omitempty"`
	Authentication string    `json:"authentication,omitempty"`
	Roles          []Role    `json:"roles"`
	Action         Action    `json:"action"`
	Type           string    `json:"type,omitempty"`
	Subject        string    `json:"subject,omitempty"`
	AgeDays        int64     `json:"age_days,omitempty"`
	Reveal         Reveal    `json:"reveal,omitempty"` // of detokenize
	Purpose        string    `json:"purpose,omitempty"`
	Ticket         string    `json:"ticket,omitempty"`
	Time           time.Time `json:"time,omitzero"` // else 1970

	Claims map[string]any `json:"claims,omitempty"` // of the caller's token, as JSON has them
}

// ParseQuestion reads a Question's JSON; unknown members are refused.
func ParseQuestion(text []byte) (Question, error) {
	var q Question
	if err := json.Unmarshal(text, &q, json.RejectUnknownMembers(true)); err != nil {
		return Question{}, fmt.Errorf("%w: the request: %w", ErrPolicies, err)
	}
	return q, nil
}

// in is the question in the terms of Decide; an error where it could never be
// asked.
func (q Question) in(p *Policies) (Principal, Request, error) {
	if _, err := canonicalRoles(q.Roles); err != nil {
		return Principal{}, Request{}, err
	}
	if !slices.Contains(p.actions, q.Action) {
		return Principal{}, Request{}, fmt.Errorf("unknown action %q", q.Action)
	}
	r := Request{
		Action: q.Action, Reveal: q.Reveal, Purpose: q.Purpose, Ticket: q.Ticket,
		Type: q.Type, Subject: q.Subject, AgeDays: q.AgeDays,
	}
	if !q.Time.IsZero() {
		r.Time = q.Time.Unix()
	}
	claims, err := p.claims.Read(q.Claims)
	return Principal{
		Tenant: q.Tenant, ID: q.Principal, Name: q.PrincipalName, Roles: q.Roles, Authentication: q.Authentication, Claims: claims,
	}, r, err
}

// policyCase is one question with the answer that the policies must give. A
// policy file that no longer means what its author wrote down is refused at
// load, not found out in an audit.
type policyCase struct {
	Question

	Name     string   `json:"name"`
	Expect   string   `json:"expect"`             // allow or deny; of detokenize: plain, masked or deny
	Policies []string `json:"policies,omitempty"` // where given: exactly these determine it
}

// CaseResult is one case's outcome.
type CaseResult struct {
	File, Name string
	Err        error // nil: the policies answer as expected
}

// RunCases checks the policies and runs every case, those behind a failing one
// too. The error is of the policies or of a file of cases that cannot be read.
func (t ClaimTypes) RunCases(files map[string][]byte) ([]CaseResult, error) {
	policies := maps.Clone(files)
	maps.DeleteFunc(policies, func(name string, _ []byte) bool { return strings.HasSuffix(name, casesExt) })
	p, err := t.ParsePolicies(policies)
	if err != nil {
		return nil, err
	}
	var results []CaseResult
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, casesExt) {
			continue
		}
		cases, err := parseCases(files[name])
		if err != nil {
			return nil, &PolicyError{File: name, Err: err}
		}
		for _, c := range cases {
			results = append(results, CaseResult{name, c.Name, p.runCase(c)})
		}
	}
	return results, nil
}

func parseCases(text []byte) (cases []policyCase, err error) {
	err = json.Unmarshal(text, &cases, json.RejectUnknownMembers(true))
	return cases, err
}

// runCases runs every case of every file.
func (p *Policies) runCases(files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, casesExt) {
			continue
		}
		cases, err := parseCases(files[name])
		if err != nil {
			return &PolicyError{File: name, Err: err}
		}
		for i, c := range cases {
			if err := p.runCase(c); err != nil {
				return &PolicyError{File: name, Err: fmt.Errorf("case %d (%s): %w", i, c.Name, err)}
			}
		}
		p.cases += len(cases)
	}
	return nil
}

func (p *Policies) runCase(c policyCase) error {
	principal, asked, err := c.in(p)
	if err != nil {
		return err
	}
	d := p.Decide(principal, asked)
	if got := answer(d); got != c.Expect {
		return fmt.Errorf("expected %s, decided %s by %v", c.Expect, got, d.Policies)
	}
	if c.Policies != nil && !slices.Equal(c.Policies, d.Policies) {
		return fmt.Errorf("expected by %v, decided by %v", c.Policies, d.Policies)
	}
	return nil
}

// answer is a decision in one word of Expect.
func answer(d Decision) string {
	switch {
	case !d.Allowed:
		return "deny"
	case d.Reveal != "":
		return string(d.Reveal)
	default:
		return "allow"
	}
}
