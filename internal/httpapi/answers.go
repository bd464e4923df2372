package httpapi

import (
	"fmt"
	"math"
	"time"

	"piivault/api"
	"piivault/internal/vault"
)

func tokenized(items []api.TokenizeItem, answers []vault.Tokenized) *api.TokenizeResponse {
	out := make([]api.TokenizedItem, len(answers))
	for i := range answers {
		a := &answers[i]
		out[i] = api.TokenizedItem{Index: number32(i), Reference: items[i].Reference, Status: statusOfItem(a.Err)}
		if a.Err != nil {
			out[i].Error = itemProblem(a.Err)
			continue
		}
		out[i].Token, out[i].KeyCopies = a.Token.Reveal(), keyCopies(a.Copies)
	}
	return &api.TokenizeResponse{Items: out}
}

// revealed hands the values on; the answer wipes them.
func revealed(items []api.DetokenizeItem, result vault.DetokenizeResult) *api.DetokenizeResponse {
	out := make([]api.DetokenizedItem, len(result.Items))
	for i := range result.Items {
		a := &result.Items[i]
		out[i] = api.DetokenizedItem{Index: number32(i), Reference: items[i].Reference, Status: statusOfItem(a.Err)}
		if a.Err != nil {
			out[i].Error = itemProblem(a.Err)
			continue
		}
		out[i].Type, out[i].Value, out[i].Reveal = a.Type, api.Value{Plaintext: a.Value}, api.Reveal(a.Reveal)
	}
	return &api.DetokenizeResponse{Items: out, Audit: api.AuditReceipt{
		Log: result.Audit.Log, FirstIndex: number64(result.Audit.First), Entries: number32(result.Audit.Entries),
	}}
}

func inspected(answers []vault.Inspected) *api.InspectResponse {
	out := make([]api.InspectedItem, len(answers))
	for i := range answers {
		a := &answers[i]
		out[i] = api.InspectedItem{Index: number32(i), Status: statusOfItem(a.Err)}
		if a.Err != nil {
			out[i].Error = itemProblem(a.Err)
			continue
		}
		out[i].Type, out[i].Created, out[i].Expires = a.Type, timestamp(a.Created), timestamp(a.Expires)
		out[i].Generation, out[i].Bound = new(int64(a.Generation)), new(a.Bound)
		out[i].RingEpoch, out[i].HomeRegion = number64(a.RingEpoch), a.HomeRegion
		out[i].DataKey = api.DataKeyInfo{ID: a.DataKey, Reused: a.DataKeyReused, MaxFields: int64(a.MaxFields)}
		for _, r := range a.Readers {
			out[i].Readers = append(out[i].Readers, api.Reader{Role: string(r.Role), Reveal: api.Reveal(r.Reveal), Policies: r.Policies})
		}
		out[i].KeyCopies = keyCopies(a.Copies)
	}
	return &api.InspectResponse{Items: out}
}

func keyInfo(k vault.KeyInfo) api.KeyInfo {
	return api.KeyInfo{
		ID: k.ID, Name: k.Name, Roles: texts(k.Roles),
		Created: timestamp(k.Created), Expires: timestamp(k.Expires), Revoked: timestamp(k.Revoked),
		Suspended: timestamp(k.Suspended), LastUsed: timestamp(k.LastUsed), Budget: budgetOf(k.Limits),
	}
}

// successor is a key that was made by a rotation.
func successor(k *vault.RotateKeyResult) api.RotateKeyResponse {
	return api.RotateKeyResponse{
		ID: k.ID, Key: k.Key.Reveal(), Expires: timestamp(k.Expires), OldExpires: timestamp(k.OldExpires), NotReached: k.NotReached,
	}
}

// keyBudget is a key's own budget; nil for none.
func keyBudget(b api.Budget) *vault.KeyBudget {
	if b == (api.Budget{}) {
		return nil
	}
	limit := func(l *api.BudgetLimit) *vault.Limit {
		if l == nil {
			return nil
		}
		return &vault.Limit{Hour: l.Hour, Day: l.Day}
	}
	return &vault.KeyBudget{
		Plain: limit(b.Plain), Masked: limit(b.Masked), Misses: limit(b.Misses), Guesses: limit(b.Guesses), Subjects: limit(b.Subjects),
	}
}

func budgetOf(l *vault.PrincipalLimits) (b api.Budget) {
	if l == nil {
		return b
	}
	limit := func(l vault.Limit) *api.BudgetLimit { return &api.BudgetLimit{Hour: l.Hour, Day: l.Day} }
	return api.Budget{
		Plain: limit(l.Plain), Masked: limit(l.Masked), Misses: limit(l.Misses), Guesses: limit(l.Guesses), Subjects: limit(l.Subjects),
	}
}

// rateLimit is what is left of a budget (draft-ietf-httpapi-ratelimit-headers-10 §4).
func rateLimit(b *vault.BudgetLeft) string {
	return fmt.Sprintf("%q;r=%d;t=%d", b.Kind+"-"+b.Span, b.Units, int64(math.Ceil(b.Ends.Seconds())))
}

func auditEntry(found *vault.AuditEntry) api.AuditEntry {
	e := &found.Entry
	out := api.AuditEntry{
		Log: found.Log, Index: number64(found.Index), Time: timestamp(e.Time), RequestID: e.RequestID,
		Tenant: e.Tenant, Actor: e.Actor, Authentication: e.Authentication, Action: e.Action,
		Record: e.Record, Type: e.Type, Subject: e.Subject, Purpose: e.Purpose, Ticket: e.Ticket,
		Reveal: e.Reveal, Decision: e.Decision, Policies: e.Policies, PolicySet: e.PolicySet, Budget: e.Budget,
		Region: e.Region, DataKey: e.DataKey, Copies: e.Copies, Client: e.Client, Outcome: string(e.Outcome),
	}
	if e.Record != "" {
		out.Generation = new(int64(e.Generation))
	}
	if e.About != nil {
		out.About = api.AuditReference{Log: e.About.Log, Index: number64(e.About.Index)}
	}
	return out
}

func keyCopies(c vault.KeyCopies) api.KeyCopies {
	return api.KeyCopies{Present: c.Present, Missing: c.Missing}
}

func statusOfItem(err *vault.ItemError) api.ItemStatus {
	if err != nil {
		return api.ItemStatusError
	}
	return api.ItemStatusOk
}

func itemProblem(e *vault.ItemError) api.ItemProblem {
	return api.ItemProblem{Code: e.Code, Message: e.Message, Retryable: e.Retryable}
}

// timestamp is RFC 3339 in UTC, always with milliseconds; "" for 0.
func timestamp(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// number32 and number64 fit counts into the contract's integers.
func number32(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func number64(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// texts is a list of named strings as plain ones, [] for nil.
func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = string(t)
	}
	return out
}
