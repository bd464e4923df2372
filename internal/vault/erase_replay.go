package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// replaySlack is how much longer ago than the restore point an audited erasure
// may have begun and still be carried out after it.
const replaySlack = time.Hour

// ErrNoAuditLogs reports an audit table in which nothing tells what was erased:
// it was lost, or is not the deployment's.
var ErrNoAuditLogs = errors.New("vault: the audit table holds no logs")

// ReplayErasures buries again what was erased since a time, after the records
// table was restored to that time and before it serves (G9): by the erase jobs
// in the control table and, should that have been restored too, by the entries
// of every audit log that this region's table holds: it reads and verifies the
// logs themselves, since their index may be behind or lost. A zero time replays
// all. It needs no KMS. What was written
// after an erasure, such as a deterministic value made again, is left alone.
// It may be repeated: every step is idempotent. An erasure that was authorized
// and then failed is carried out too: somebody asked for it.
//
// An error means that it is not complete. Of a log that does not verify
// (audit.ErrTampered, audit.ErrCorrupt) it carries out what it could read, and
// all of the others. ErrNoAuditLogs: the audit table tells nothing at all.
func (v *Vault) ReplayErasures(ctx context.Context, since time.Time) (ReplayResult, error) {
	r := replay{v: v, since: since}
	if err := r.jobs(ctx); err != nil {
		return r.ReplayResult, fmt.Errorf("vault: replay erase jobs: %w", err)
	}
	if err := r.audited(ctx); err != nil {
		return r.ReplayResult, fmt.Errorf("vault: replay audited erasures: %w", err)
	}
	return r.ReplayResult, nil
}

type replay struct {
	v     *Vault
	since time.Time
	ReplayResult
}

// erasure is one to be done again: of what existed until then.
type erasure struct {
	tenant, subject string
	records         []eraseRef
	until           int64 // Unix ms
}

// jobs replays from the control table, as if each job had just come.
func (r *replay) jobs(ctx context.Context) error {
	return eachItem(ctx, r.v.control, authz.KindEraseJob, "", func(item authz.Item) error {
		job, err := decodeEraseJob(item)
		if err != nil {
			return err
		}
		until, err := r.v.erasedUntil(ctx, job)
		if err != nil || until < r.since.UnixMilli() {
			return err
		}
		r.Jobs++
		return r.again(ctx, erasure{job.Tenant, job.Subject, job.Targets, until})
	})
}

// erasedUntil is until when the job's target could not be written, or what was
// written fell to the job: the last region's confirmation, or now while one is
// missing.
func (v *Vault) erasedUntil(ctx context.Context, job *eraseJob) (int64, error) {
	items, err := v.control.List(ctx, authz.KindEraseConfirm, job.ID+"#", crypto.MaxCopies)
	if err != nil {
		return 0, err
	}
	confirmed := 0
	awaits := v.awaits(job)
	until := job.Created + v.ErasureQuiet.Milliseconds()
	for _, item := range items {
		if region, ok := strings.CutPrefix(item.ID, job.ID+"#"); ok && slices.Contains(awaits, region) {
			confirmed++
			until = max(until, confirmedAt(item))
		}
	}
	if confirmed < len(awaits) {
		return v.Now().UnixMilli(), nil
	}
	return until, nil
}

// eraseConfirmation is the body of a region's confirmation.
type eraseConfirmation struct {
	Version int   `json:"v"`
	At      int64 `json:"at,omitempty"` // Unix ms
}

// confirmedAt is 0 for a confirmation that does not tell.
func confirmedAt(item authz.Item) int64 {
	var c eraseConfirmation
	if json.Unmarshal(item.Body, &c) != nil {
		return 0
	}
	return c.At
}

// audited replays from the audit logs, which name records and subjects.
func (r *replay) audited(ctx context.Context) error {
	from := int64(math.MinInt64)
	if !r.since.IsZero() {
		from = r.since.Add(-replaySlack).UnixMilli()
	}
	logs, err := audit.Walk(ctx, r.v.Logs, from, func(_ audit.Ref, e *audit.Entry) error {
		r.Read++
		if e.Action != string(authz.ActionErase) || e.Outcome != audit.Authorized || e.Time < from {
			return nil
		}
		r.Entries++
		return r.again(ctx, r.v.auditedErasure(e))
	})
	r.Logs = len(logs)
	for _, log := range logs {
		if log.Behind > 0 {
			r.Unfinished = append(r.Unfinished, log.Log)
		}
	}
	switch {
	case err != nil && (!errors.Is(err, audit.ErrUnfinished) || errors.Is(err, audit.ErrTampered) || errors.Is(err, audit.ErrCorrupt)):
		return err
	case r.Read == 0 && r.Logs <= 1: // the one log is the one that whoever replays has just begun
		return ErrNoAuditLogs
	}
	return nil
}

// auditedErasure is what an entry says. Whether a token has generations is not in it.
func (v *Vault) auditedErasure(e *audit.Entry) erasure {
	until := e.Time + v.ErasureQuiet.Milliseconds()
	if e.Record != "" {
		return erasure{tenant: e.Tenant, records: []eraseRef{{Record: e.Record, Generations: true}}, until: until}
	}
	return erasure{tenant: e.Tenant, subject: e.Subject, until: until}
}

// again buries what an erasure named and was there by then, and X#0 of what is
// not there, lest it come.
func (r *replay) again(ctx context.Context, e erasure) error {
	if e.subject != "" {
		return r.subject(ctx, e)
	}
	refs := make([]store.Ref, len(e.records))
	for i, ref := range e.records {
		refs[i] = store.Ref{Tenant: e.tenant, ID: ref.Record, Generations: true}
	}
	keys, err := r.v.local.Seen(ctx, refs)
	if err != nil {
		return err
	}
	if err := r.bury(ctx, keys, e.until); err != nil {
		return err
	}
	var absent []store.Key
	for _, ref := range refs {
		first := store.Key{Tenant: ref.Tenant, ID: ref.ID}
		record, buried, err := r.v.local.Get(ctx, first)
		if err != nil {
			return err
		}
		if record == nil && !buried {
			absent = append(absent, first)
		}
	}
	return r.v.buryKeys(ctx, absent)
}

func (r *replay) subject(ctx context.Context, e erasure) error {
	for page := (store.Page{Limit: erasePage}); ; {
		keys, next, err := r.v.local.BySubject(ctx, e.tenant, e.subject, page)
		if err == nil {
			keys, err = r.v.unburied(ctx, keys)
		}
		if err == nil {
			err = r.bury(ctx, keys, e.until)
		}
		if err != nil || next == "" {
			return err
		}
		page.After = next
	}
}

// bury ends the generations that were there by a time, each with its entry.
// One of which there is a link and no record was never acknowledged.
func (r *replay) bury(ctx context.Context, keys []store.Key, until int64) error {
	var due []store.Key
	var entries []audit.Entry
	for _, key := range keys {
		record, buried, err := r.v.local.Get(ctx, key)
		if err != nil {
			return err
		}
		if buried || record != nil && record.Created > until {
			continue
		}
		e := r.v.own(key.Tenant, actionReplayErase)
		e.Record, e.Generation = key.ID, key.Generation
		due, entries = append(due, key), append(entries, e)
	}
	if len(due) == 0 {
		return nil
	}
	if _, err := r.v.note(ctx, entries...); err != nil {
		return err
	}
	if err := r.v.local.Bury(ctx, due); err != nil {
		return err
	}
	r.Buried += len(due)
	return nil
}
