package audit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of an entry. Whoever fills one in keeps to them: what cannot be
// recorded cannot be done.
const (
	MaxString = 1024  // bytes of each string
	MaxList   = 64    // strings of each list
	MaxLeaf   = 16384 // bytes of an encoded entry
)

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
// value, a token, a credential or a parser's text could go into. Strings are
// UTF-8 and, like lists and the whole, bounded by the limits above; Outcome is
// one of the constants.
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

// outcomeCode is the stored form of an outcome; 0 is none of them. A new
// outcome gets the next number; the others are fixed for ever.
func outcomeCode(o Outcome) byte {
	switch o {
	case Authorized:
		return 1
	case Denied:
		return 2
	case NotFound:
		return 3
	case NotYetVisible:
		return 4
	case Expired:
		return 5
	case Erased:
		return 6
	case OverBudget:
		return 7
	case Failed:
		return 8
	case CopyUsed:
		return 9
	}
	return 0
}

func outcomeOf(code byte) Outcome {
	all := [...]Outcome{"", Authorized, Denied, NotFound, NotYetVisible, Expired, Erased, OverBudget, Failed, CopyUsed}
	if int(code) < len(all) {
		return all[code]
	}
	return ""
}

// texts lists the plain strings in the order in which they are stored.
func (e *Entry) texts() [17]*string {
	return [...]*string{
		&e.RequestID, &e.Tenant, &e.Actor, &e.Authentication, &e.Action, &e.Record, &e.Type, &e.Subject, &e.Purpose,
		&e.Ticket, &e.Reveal, &e.Decision, &e.PolicySet, &e.Budget, &e.Region, &e.DataKey, &e.Client,
	}
}

// encodedBound is at least the length of the encoded entry.
func (e *Entry) encodedBound() int {
	const fixed, perString = 64, 2
	n := fixed
	for _, s := range e.texts() {
		n += perString + len(*s)
	}
	for _, list := range [...][]string{e.Policies, e.Copies} {
		for _, s := range list {
			n += perString + len(s)
		}
	}
	if e.About != nil {
		n += len(e.About.Log)
	}
	return n
}

// valid reports an entry within the limits that Entry names. The text that it
// refuses is not repeated: a mistake might have put anything there.
func (e *Entry) valid() error {
	for _, s := range e.texts() {
		if !validText(*s) {
			return fmt.Errorf("string: %w", ErrEntry)
		}
	}
	for _, list := range [...][]string{e.Policies, e.Copies} {
		if len(list) > MaxList || slices.ContainsFunc(list, func(s string) bool { return !validText(s) }) {
			return fmt.Errorf("list: %w", ErrEntry)
		}
	}
	if e.About != nil {
		if _, err := ParseLogName(e.About.Log); err != nil {
			return fmt.Errorf("about: %w", ErrEntry)
		}
	}
	if outcomeCode(e.Outcome) == 0 {
		return fmt.Errorf("outcome: %w", ErrEntry)
	}
	return nil
}

func validText(s string) bool { return len(s) <= MaxString && utf8.ValidString(s) }

// AppendEntry appends the entry's one encoding (docs/design/format.md §7), or
// returns ErrEntry.
func AppendEntry(dst []byte, e *Entry) ([]byte, error) {
	if err := e.valid(); err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, leafEntryV1)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time))
	dst = append(dst, outcomeCode(e.Outcome))
	dst = binary.AppendUvarint(dst, uint64(e.Generation))
	for _, s := range e.texts() {
		dst = appendString(dst, *s)
	}
	dst = appendList(dst, e.Policies)
	dst = appendList(dst, e.Copies)
	if e.About == nil {
		dst = append(dst, 0)
	} else {
		dst = appendString(append(dst, 1), e.About.Log)
		dst = binary.AppendUvarint(dst, e.About.Index)
	}
	if len(dst)-start > MaxLeaf {
		return dst[:start], fmt.Errorf("size: %w", ErrEntry)
	}
	return dst, nil
}

// DecodeEntry is AppendEntry's strict inverse; ErrCorrupt for all else.
func DecodeEntry(leaf []byte) (Entry, error) {
	if len(leaf) > MaxLeaf || len(leaf) == 0 || leaf[0] != leafEntryV1 {
		return Entry{}, fmt.Errorf("entry version: %w", ErrCorrupt)
	}
	var e Entry
	c := cutter{rest: string(leaf[1:])}
	e.Time = int64(c.uint64())
	e.Outcome = outcomeOf(c.byte())
	generation := c.uvarint()
	e.Generation = uint32(generation)
	for _, s := range e.texts() {
		*s = c.string(MaxString)
	}
	e.Policies = c.list(MaxList, MaxString)
	e.Copies = c.list(MaxList, MaxString)
	e.About = c.about()
	if c.bad || c.rest != "" || uint64(e.Generation) != generation || e.valid() != nil {
		return Entry{}, fmt.Errorf("entry: %w", ErrCorrupt)
	}
	return e, nil
}

func (c *cutter) about() *Ref {
	switch c.byte() {
	case 0:
		return nil
	case 1:
		return &Ref{Log: c.string(MaxString), Index: c.uvarint()}
	}
	c.bad = true
	return nil
}

// IsEntry reports whether a leaf is an entry, of whatever version, and not a
// claim.
func IsEntry(leaf []byte) bool { return len(leaf) > 0 && leaf[0]&claimBit == 0 }
