// Package authz says who calls and what they may: credentials become a
// Principal, Cedar policies turn a request into a Decision (no permit means
// denied, any evaluation error means denied), and the control table holds
// tenants, API keys and revocations.
package authz

// Role is a named set of rights that a credential carries.
type Role string

// The default roles (design §8).
const (
	RoleAdmin    Role = "admin"
	RoleWriter   Role = "writer"
	RoleReader   Role = "reader"
	RoleSupport  Role = "support"
	RoleEraser   Role = "eraser"
	RoleAuditor  Role = "auditor"
	RoleOperator Role = "operator"
)

// Action is what a principal asks to do.
type Action string

// The actions (design §8).
const (
	ActionTokenize   Action = "tokenize"
	ActionDetokenize Action = "detokenize"
	ActionSearch     Action = "search"
	ActionInspect    Action = "inspect"
	ActionErase      Action = "erase"
	ActionAuditRead  Action = "audit_read"
	ActionRepair     Action = "repair"
	ActionAdmin      Action = "admin"
	ActionStop       Action = "stop"   // the kill switch, and what of it is in force
	ActionResume     Action = "resume" // lifts stops
)

// Principal is who calls; tenant and roles come from the credential alone.
type Principal struct {
	Tenant         string
	ID             string // key_<id>, oidc_<issuer>_<subject>, mtls_<uri>
	Name           string
	Roles          []Role
	Authentication string // api_key, oidc, mtls
	Claims         Claims // of a token
	// Limits are the principal's own; nil: the deployment's.
	Limits *PrincipalLimits
}

// Reveal is how much of a value is shown.
type Reveal string

// The two reveals.
const (
	Plain  Reveal = "plain"
	Masked Reveal = "masked"
)

// Request is one question to the policies.
type Request struct {
	Action  Action
	Reveal  Reveal // detokenize only
	Purpose string
	Ticket  string
	Time    int64  // Unix seconds
	Type    string // "" where the action has no record
	Subject string // HMAC of the record's subject id
	AgeDays int64  // whole days since the record was created
}

// Decision is the answer, with what an auditor needs to follow it.
type Decision struct {
	Allowed   bool
	Reveal    Reveal   // at most what was asked: a permit's @reveal("masked") lowers it
	Policies  []string // ids of the policies that determined it, sorted
	PolicySet string   // hash of the whole set
}
