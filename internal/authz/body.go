package authz

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
)

// bodyVersion is the version of every body below (format.md §6).
const bodyVersion = 1

// errBody reports an item whose body is not exactly what this version writes.
// It quotes nothing of it.
var errBody = errors.New("authz: unreadable control item")

// keyBody is stored for an API key. The field order is the stored order.
type keyBody struct {
	Version int    `json:"v"`
	Tenant  string `json:"tenant"`
	Name    string `json:"name"`
	Roles   []Role `json:"roles"` // canonical
	Hash    string `json:"hash"`  // base64url of a digest
	Created int64  `json:"created"`
	Expires int64  `json:"expires"` // 0: never
	// Budget are the key's own limits; absent where it has the deployment's.
	Budget *budgetBody `json:"budget,omitempty"`
}

// budgetBody is limits by the hour and the day.
type budgetBody struct {
	Plain    [2]int64 `json:"plain"`
	Masked   [2]int64 `json:"masked"`
	Misses   [2]int64 `json:"misses"`
	Guesses  [2]int64 `json:"guesses"`
	Subjects [2]int64 `json:"subjects"`
}

func newBudgetBody(l *PrincipalLimits) *budgetBody {
	if l == nil {
		return nil
	}
	pair := func(l Limit) [2]int64 { return [2]int64{l.Hour, l.Day} }
	return &budgetBody{pair(l.Plain), pair(l.Masked), pair(l.Misses), pair(l.Guesses), pair(l.Subjects)}
}

// limits is newBudgetBody's inverse.
func (b *budgetBody) limits() *PrincipalLimits {
	if b == nil {
		return nil
	}
	limit := func(pair [2]int64) Limit { return Limit{pair[0], pair[1]} }
	return &PrincipalLimits{
		Limits:   Limits{limit(b.Plain), limit(b.Masked), limit(b.Misses), limit(b.Guesses)},
		Subjects: limit(b.Subjects),
	}
}

// revocationBody is stored under the id of the key it revokes.
type revocationBody struct {
	Version int    `json:"v"`
	Tenant  string `json:"tenant"`
	Revoked int64  `json:"revoked"`
}

// retirementBody ends a key that was rotated.
type retirementBody struct {
	Version int   `json:"v"`
	Ends    int64 `json:"ends"`
}

// suspensionBody is stored for a suspension.
type suspensionBody struct {
	Version   int   `json:"v"`
	Suspended int64 `json:"suspended"`
}

// reinstatedBody lifts suspensions of the same principal.
type reinstatedBody struct {
	Version    int      `json:"v"`
	Reinstated int64    `json:"reinstated"`
	Lifts      []string `json:"lifts"` // the random ids of suspensions, sorted
}

// lastUseBody is the hour in which a key was last used in a region.
type lastUseBody struct {
	Version int   `json:"v"`
	Hour    int64 `json:"hour"` // since the Unix epoch
}

// tenantBody is stored for a tenant.
type tenantBody struct {
	Version int    `json:"v"`
	Alias   string `json:"alias"`
	Created int64  `json:"created"`
}

// activationBody is stored beside a tenant once it is active.
type activationBody struct {
	Version int  `json:"v"`
	Active  bool `json:"active"`
}

// aliasBody is stored under an alias. It carries the tenant's creation time,
// so that whoever finds an alias without its tenant can complete it.
type aliasBody struct {
	Version int    `json:"v"`
	Tenant  string `json:"tenant"`
	Created int64  `json:"created"`
}

// encodeBody writes the one encoding that decodeBody accepts.
func encodeBody(body any) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode a control item: %w", err)
	}
	return b, nil
}

// decodeBody accepts exactly what encodeBody writes, by writing it again: no
// unknown, missing or repeated member, no other order, spacing or escape.
func decodeBody[B any](b []byte) (B, error) {
	var body, none B
	if err := json.Unmarshal(b, &body); err != nil {
		return none, errBody
	}
	again, err := json.Marshal(body)
	if err != nil || !bytes.Equal(again, b) {
		return none, errBody
	}
	return body, nil
}

func decodeKeyBody(b []byte) (keyBody, digest, error) {
	body, err := decodeBody[keyBody](b)
	if err != nil {
		return keyBody{}, digest{}, err
	}
	hash, err := base64.RawURLEncoding.Strict().DecodeString(body.Hash)
	roles, rolesErr := canonicalRoles(body.Roles)
	switch {
	case body.Version != bodyVersion, err != nil, len(hash) != len(digest{}),
		rolesErr != nil, !slices.Equal(roles, body.Roles), checkName(body.Name) != nil,
		body.Tenant == "", body.Created <= 0, body.Expires < 0,
		body.Budget != nil && body.Budget.limits().Validate() != nil:
		return keyBody{}, digest{}, errBody
	}
	return body, digest(hash), nil
}

func decodeRevocationBody(b []byte) (revocationBody, error) {
	body, err := decodeBody[revocationBody](b)
	if err != nil || body.Version != bodyVersion || body.Tenant == "" || body.Revoked <= 0 {
		return revocationBody{}, errBody
	}
	return body, nil
}

func decodeRetirementBody(b []byte) (retirementBody, error) {
	body, err := decodeBody[retirementBody](b)
	if err != nil || body.Version != bodyVersion || body.Ends <= 0 {
		return retirementBody{}, errBody
	}
	return body, nil
}

func decodeSuspensionBody(b []byte) (suspensionBody, error) {
	body, err := decodeBody[suspensionBody](b)
	if err != nil || body.Version != bodyVersion || body.Suspended <= 0 {
		return suspensionBody{}, errBody
	}
	return body, nil
}

func decodeReinstatedBody(b []byte) (reinstatedBody, error) {
	body, err := decodeBody[reinstatedBody](b)
	if err != nil || body.Version != bodyVersion || body.Reinstated <= 0 || len(body.Lifts) == 0 || len(body.Lifts) > maxLifts ||
		!slices.IsSorted(body.Lifts) || len(slices.Compact(slices.Clone(body.Lifts))) != len(body.Lifts) {
		return reinstatedBody{}, errBody
	}
	for _, id := range body.Lifts {
		if !isID(id) {
			return reinstatedBody{}, errBody
		}
	}
	return body, nil
}

func decodeLastUseBody(b []byte) (lastUseBody, error) {
	body, err := decodeBody[lastUseBody](b)
	if err != nil || body.Version != bodyVersion || body.Hour <= 0 {
		return lastUseBody{}, errBody
	}
	return body, nil
}

func decodeTenantBody(b []byte) (tenantBody, error) {
	body, err := decodeBody[tenantBody](b)
	if err != nil || body.Version != bodyVersion || checkAlias(body.Alias) != nil || body.Created <= 0 {
		return tenantBody{}, errBody
	}
	return body, nil
}

func decodeActivationBody(b []byte) (activationBody, error) {
	body, err := decodeBody[activationBody](b)
	if err != nil || body.Version != bodyVersion || !body.Active {
		return activationBody{}, errBody
	}
	return body, nil
}

func decodeAliasBody(b []byte) (aliasBody, error) {
	body, err := decodeBody[aliasBody](b)
	if err != nil || body.Version != bodyVersion || !isID(body.Tenant) || body.Created <= 0 {
		return aliasBody{}, errBody
	}
	return body, nil
}
