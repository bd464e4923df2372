package vault

import (
	"context"
	"errors"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
)

// Limits of one page of entries.
const (
	defaultAuditPage = 100
	maxAuditPage     = 1000
)

// QueryAudit pages through the tenant's entries, newest first. A token or a
// subject id to filter by is hashed here and goes no further. Reading the log
// is itself an entry.
func (v *Vault) QueryAudit(ctx context.Context, c Call, req AuditRequest) (AuditResult, error) {
	if err := v.allow(ctx, c, authz.ActionAuditRead); err != nil {
		return AuditResult{}, err
	}
	q, err := v.auditQuery(ctx, c, req)
	if err != nil {
		return AuditResult{}, err
	}
	if err := v.permitted(ctx, c, authz.ActionAuditRead, string(authz.ActionAuditRead)); err != nil {
		return AuditResult{}, err
	}
	found, next, err := v.Audit.Query(ctx, q)
	switch {
	case errors.Is(err, audit.ErrCursor):
		return AuditResult{}, invalid("invalid_cursor", "cursor must be one that this query returned.")
	case err != nil:
		return AuditResult{}, auditUnavailable(err)
	}
	return AuditResult{Entries: found, NextCursor: next}, nil
}

func (v *Vault) auditQuery(ctx context.Context, c Call, req AuditRequest) (audit.Query, error) {
	q := audit.Query{
		Tenant: c.Principal.Tenant, Actor: req.Actor, Record: req.Record, Type: req.Type,
		Action: req.Action, Purpose: req.Purpose, Outcome: audit.Outcome(req.Outcome), Limit: req.Limit, Cursor: req.Cursor,
	}
	if q.Limit == 0 {
		q.Limit = defaultAuditPage
	}
	if q.Limit < 1 || q.Limit > maxAuditPage {
		return q, invalid("invalid_limit", "limit must be 1 to 1,000.")
	}
	var err error
	if q.From, err = queryTime(req.From); err != nil {
		return q, err
	}
	if q.To, err = queryTime(req.To); err != nil {
		return q, err
	}
	if q.To != 0 && q.From >= q.To {
		return q, invalid("invalid_time", "from must be before to.")
	}
	if q.Outcome != "" && !knownOutcome(q.Outcome) {
		return q, invalid("invalid_outcome", "There is no such outcome.")
	}
	if req.SubjectID != "" && !validLabel(req.SubjectID) {
		return q, invalid("invalid_subject_id", "subject_id must be 1 to 256 bytes without control characters.")
	}
	return q, v.hashFilters(ctx, c, req, &q)
}

// hashFilters turns a token and a subject id into what entries name.
func (v *Vault) hashFilters(ctx context.Context, c Call, req AuditRequest, q *audit.Query) error {
	if req.Token.IsZero() && req.SubjectID == "" {
		return nil
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return err
	}
	if !req.Token.IsZero() {
		id := keys.RecordID(req.Token)
		if q.Record != "" && q.Record != id {
			return invalid("invalid_filter", "record and token name different records.")
		}
		q.Record = id
	}
	if req.SubjectID != "" {
		q.Subject = keys.SubjectID(req.SubjectID)
	}
	return nil
}

func queryTime(sent string) (int64, error) {
	if sent == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, sent)
	if err != nil {
		return 0, invalid("invalid_time", "from and to must be RFC 3339 times.")
	}
	return at.UnixMilli(), nil
}

func knownOutcome(o audit.Outcome) bool {
	switch o {
	case audit.Authorized, audit.Denied, audit.NotFound, audit.NotYetVisible, audit.Expired,
		audit.Erased, audit.OverBudget, audit.Failed, audit.CopyUsed:
		return true
	default:
		return false
	}
}
