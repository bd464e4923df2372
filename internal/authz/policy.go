package authz

// Policies is an immutable, checked set of Cedar policies.
type Policies struct{}

// DefaultPolicies is the set that design §8 describes, embedded.
func DefaultPolicies() (*Policies, error) { return ParsePolicies(nil) }

// ParsePolicies reads name.cedar and name.cases.json files, checks every policy against the schema and runs the cases.
func ParsePolicies(files map[string][]byte) (*Policies, error) { return &Policies{}, nil }

// May reports whether any permit's scope could match: false means no right at all (403).
func (p *Policies) May(pr Principal, a Action) bool { return false }

// Decide answers one request. For detokenize, Request.Reveal must be Plain or Masked. Request.Type is
// required for tokenize, detokenize, search and inspect, optional for erase ("" for a subject), "" for the rest.
func (p *Policies) Decide(pr Principal, r Request) Decision { return Decision{} }

// Hash names the set.
func (p *Policies) Hash() string { return "" }
