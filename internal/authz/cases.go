package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// policyCase is one question with the answer that the policies must give. A
// policy file that no longer means what its author wrote down is refused at
// load, not found out in an audit.
type policyCase struct {
	Name      string    `json:"name"`
	Tenant    string    `json:"tenant,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Roles     []Role    `json:"roles"`
	Action    Action    `json:"action"`
	Type      string    `json:"type,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	AgeDays   int64     `json:"age_days,omitempty"`
	Reveal    Reveal    `json:"reveal,omitempty"`
	Purpose   string    `json:"purpose,omitempty"`
	Ticket    string    `json:"ticket,omitempty"`
	Time      time.Time `json:"time,omitzero"`      // else 1970
	Expect    string    `json:"expect"`             // allow or deny; of detokenize: plain, masked or deny
	Policies  []string  `json:"policies,omitempty"` // where given: exactly these determine it
}

// runCases runs every case of every file.
func (p *Policies) runCases(files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, casesExt) {
			continue
		}
		var cases []policyCase
		if err := json.Unmarshal(files[name], &cases, json.RejectUnknownMembers(true)); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrPolicies, name, err)
		}
		for i, c := range cases {
			if err := p.runCase(c); err != nil {
				return fmt.Errorf("%w: %s: case %d (%s): %w", ErrPolicies, name, i, c.Name, err)
			}
		}
	}
	return nil
}

func (p *Policies) runCase(c policyCase) error {
	if _, err := canonicalRoles(c.Roles); err != nil {
		return err
	}
	if !slices.Contains(p.actions, c.Action) {
		return fmt.Errorf("unknown action %q", c.Action)
	}
	asked := Request{
		Action: c.Action, Reveal: c.Reveal, Purpose: c.Purpose, Ticket: c.Ticket,
		Type: c.Type, Subject: c.Subject, AgeDays: c.AgeDays,
	}
	if !c.Time.IsZero() {
		asked.Time = c.Time.Unix()
	}
	d := p.Decide(Principal{Tenant: c.Tenant, ID: c.Principal, Roles: c.Roles}, asked)
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
