package vault

import (
	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
)

// Re-exported so that the layers above need no leaf.
type (
	// Principal is who calls.
	Principal = authz.Principal
	// Role is a named set of rights.
	Role = authz.Role
	// Reveal is how much of a value is shown: plain or masked.
	Reveal = authz.Reveal
	// AuditEntry is one audited fact with its place in the log.
	AuditEntry = audit.Found
	// PrincipalLimits are one principal's budget.
	PrincipalLimits = authz.PrincipalLimits
	// Limit bounds one kind of use by the hour and by the day.
	Limit = authz.Limit
	// Stop is a use of the kill switch that is in force.
	Stop = authz.Stop
	// KeyInfo describes an API key without its secret.
	KeyInfo = authz.KeyInfo
)

// The two reveals.
const (
	Plain  = authz.Plain
	Masked = authz.Masked
)

// Call is one authenticated request: who, which, and from where.
type Call struct {
	Principal Principal
	RequestID string
	Client    string // network address
}

// KeyCopies says which regions hold a key copy of a record.
type KeyCopies struct{ Present, Missing []string }

// TokenizeItem is one value to keep.
type TokenizeItem struct {
	Type    string
	Value   secret.Plaintext // as sent; the use case wipes it
	Subject string           // subject_id as sent
	Expires string           // expires_at as sent: RFC 3339, or ""
	Country string           // ISO 3166-1 alpha-2, or ""
}

// TokenizeRequest is a batch of values.
type TokenizeRequest struct {
	Items          []TokenizeItem
	Continue       bool // on_error: continue
	IdempotencyKey secret.Text
}

// Tokenized answers one item: a token, or Err.
type Tokenized struct {
	Token  secret.Text
	Copies KeyCopies
	Err    *ItemError
}

// DetokenizeItem asks for one value.
type DetokenizeItem struct {
	Token  secret.Text
	Reveal Reveal // "" means plain
}

// DetokenizeRequest is a batch of tokens with the reason for asking.
type DetokenizeRequest struct {
	Items    []DetokenizeItem
	Purpose  string
	Ticket   string
	Continue bool
}

// Revealed answers one item: a value, or Err.
type Revealed struct {
	Type   string
	Value  secret.Plaintext // the caller wipes it
	Reveal Reveal           // what was granted
	Err    *ItemError
}

// DetokenizeResult is the values and the place of their audit entries.
type DetokenizeResult struct {
	Items  []Revealed
	Audit  audit.Receipt
	Budget *BudgetLeft // nil: nothing was drawn on
}

// Inspected is a record's metadata; nothing in it is derived from the value.
type Inspected struct {
	Type             string
	Created, Expires int64 // Unix ms; Expires 0: never
	Generation       uint32
	Bound            bool
	RingEpoch        uint64
	HomeRegion       string
	DataKey          string // pv-key of the encryption context
	DataKeyReused    bool   // the type's policy lets fields share a data key
	MaxFields        int    // that one KMS call could open, as the policy has it
	Copies           KeyCopies
	Readers          []Reader // of Explain
	Err              *ItemError
}

// Reader is a default role that may read a value, and the policies that permit it.
type Reader struct {
	Role     Role
	Reveal   Reveal
	Policies []string
}

// EraseRequest names tokens or a subject, or the job of an earlier request.
type EraseRequest struct {
	Tokens    []secret.Text
	SubjectID string
	Job       string // instead of both: asks how far an erasure is
}

// EraseResult says what is erased here, and which regions confirmed.
type EraseResult struct {
	Job      string // names the erasure, for asking again
	Erased   int
	Complete bool
	Regions  []RegionConfirmed
}

// ReplayResult counts what a replay of erasures went through.
type ReplayResult struct {
	Jobs    int // erase jobs of the control table
	Entries int // erasures in the audit logs, most of them the jobs' own
	Buried  int // generations that had come back and are gone again
	Logs    int // audit logs, those over before the time left unread
	Read    int // entries read from them
	// Unfinished logs have blocks behind a hole (audit.ErrUnfinished): where the
	// audit table was restored too, an erasure may have been in it.
	Unfinished []string
}

// RegionConfirmed is one region's part of an erasure.
type RegionConfirmed struct {
	Name      string
	Confirmed bool
}

// TypeInfo describes a configured type.
type TypeInfo struct {
	Name, TokenFormat string
	Bound, Searchable bool
	MaskExample       string
}

// RegionInfo describes a region of the ring.
type RegionInfo struct {
	Name          string
	KMS           string // up, down, denied
	MissingCopies int
}

// RegionsResult is the ring as this instance sees it.
type RegionsResult struct {
	Local           string
	Regions         []RegionInfo
	DegradedRecords int
}

// RepairStatus is the reconciler's progress.
type RepairStatus struct {
	Running                              bool
	Scanned, Repaired, Remaining, Failed int
	// RingScan: this pass looks, or looked, for records of older ring epochs;
	// Outdated is how many it knows to be left, part of Remaining.
	RingScan bool
	Outdated int
	// both are those of Outdated that lack a copy, too: they remain once.
	both     int
	Epoch    uint64   // of this instance's ring
	RingDone []string // regions in which no record of an older epoch is left
	// Superseded: a newer ring is in use, and this instance repairs nothing.
	Superseded bool
}

// NewKeyRequest asks for an API key.
type NewKeyRequest struct {
	Name    string
	Roles   []Role
	Expires string // RFC 3339, or ""
	// Budget is the key's own; nil: the deployment's.
	Budget *KeyBudget
}

// KeyBudget is a key's own limits; nil members: the deployment's.
type KeyBudget struct{ Plain, Masked, Misses, Guesses, Subjects *Limit }

// NewKeyResult carries the credential, shown this once.
type NewKeyResult struct {
	ID         string
	Key        secret.Text
	NotReached []string // regions whose control table could not be written
}

// RotateKeyResult carries a key's successor; its credential is shown this once.
type RotateKeyResult struct {
	ID         string
	Key        secret.Text
	Expires    int64    // of the new key, Unix ms; 0: never
	OldExpires int64    // Unix ms
	NotReached []string // regions that do not know of it yet
}

// RevokeResult says which regions do not know yet.
type RevokeResult struct{ NotReached []string }

// StopResult names a stop, and the regions that do not know of it yet.
type StopResult struct {
	ID         string
	NotReached []string
}

// ResumeResult names the stops that were lifted.
type ResumeResult struct {
	Lifted     []string
	Stopped    bool // there are others: the deployment's, or one made meanwhile
	NotReached []string
}

// AuditRequest is a query as sent: token and subject are hashed here.
type AuditRequest struct {
	Actor, Record, Type, Action, Purpose, Outcome string
	Token                                         secret.Text
	SubjectID                                     string
	From, To                                      string // RFC 3339, or ""
	Limit                                         int    // 0: 100
	Cursor                                        string
}

// AuditResult is a page of entries, newest first.
type AuditResult struct {
	Entries    []AuditEntry
	NextCursor string
}
