package audit

// Outcome says how an entry's action ended.
type Outcome string

// The outcomes. Authorized counts as done unless a later entry about it says Failed.
const (
	Authorized    Outcome = "authorized"
	Denied        Outcome = "denied"
	NotFound      Outcome = "not_found"
	NotYetVisible Outcome = "not_yet_visible"
	Expired       Outcome = "expired"
	Erased        Outcome = "erased"
	OverBudget    Outcome = "over_budget"
	Failed        Outcome = "failed"
	CopyUsed      Outcome = "copy_used"
)

// Ref names an entry: a log and the entry's index in it.
type Ref struct {
	Log   string
	Index uint64
}

// Entry is one audited fact. It is a closed struct: there is no field that a
// value, a token, a credential or a parser's text could go into.
type Entry struct {
	Time           int64 // Unix milliseconds
	RequestID      string
	Tenant         string
	Actor          string // principal id
	Authentication string // how the actor was authenticated: api_key, oidc, mtls, internal
	Action         string
	Record         string // record id, the HMAC of the token
	Generation     uint32
	Type           string
	Subject        string // HMAC of the subject id
	Purpose        string
	Ticket         string
	Reveal         string // plain or masked
	Decision       string // allow or deny
	Policies       []string
	PolicySet      string // hash of the policy set that decided
	Budget         string
	Region         string // the region that acted
	DataKey        string // pv-key of the encryption context
	Copies         []string
	Client         string // network address of the caller
	About          *Ref   // the entry that this one follows up
	Outcome        Outcome
}
