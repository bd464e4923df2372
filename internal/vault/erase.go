package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/pii"
	"piivault/internal/secret"
	"piivault/internal/store"
)

// erasePage is how many keys of a subject are buried at once.
const erasePage = 500

// eraseJob is the body of an erasure's control item: what to erase, never
// what it was. Every region works on it by itself and confirms (design §5).
type eraseJob struct {
	Version int        `json:"v"`
	ID      string     `json:"-"`
	Tenant  string     `json:"tenant"`
	Subject string     `json:"subject,omitempty"` // HMAC of the subject id
	Targets []eraseRef `json:"targets,omitempty"`
	Created int64      `json:"created"` // Unix ms
	// Regions are to confirm, those of the ring of this Epoch.
	Epoch   uint64   `json:"epoch,omitempty"`
	Regions []string `json:"regions,omitempty"`
}

// eraseRef is one token's record.
type eraseRef struct {
	Record string `json:"record"`
	// Generations: a deterministic token, each of whose generations is looked
	// for; any other has only generation 0, buried whether seen or not.
	Generations bool `json:"generations,omitempty"`
}

const (
	eraseJobVersion = 1
	jobIDSize       = 36 // a UUID as text
)

// Erase buries the records of tokens or of a subject, here at once and in
// every other region as soon as it learns of the job. What was acknowledged
// anywhere before the call is gone once Complete says that all regions have
// confirmed; asking for the Job tells how far they are. It succeeds for what
// does not exist: nothing tells the caller what was there, but the count of
// records buried here.
func (v *Vault) Erase(ctx context.Context, c Call, req EraseRequest) (EraseResult, error) {
	if err := v.allow(ctx, c, authz.ActionErase); err != nil {
		return EraseResult{}, err
	}
	if req.Job != "" {
		return v.eraseStatus(ctx, c, req)
	}
	job, err := v.eraseJob(ctx, c, req)
	if err != nil {
		return EraseResult{}, err
	}
	if err := v.noteErase(ctx, c, job); err != nil {
		return EraseResult{}, err
	}
	buried, err := v.bury(ctx, job)
	if err != nil {
		return EraseResult{}, unavailable("unavailable", err)
	}
	if job.ID, err = v.joinable(ctx, job); err != nil {
		return EraseResult{}, unavailable("unavailable", err)
	}
	if job.ID == "" {
		if err := v.startErase(ctx, job); err != nil {
			return EraseResult{}, err
		}
	}
	v.jobs.progress(ctx, job.ID, buried)
	return v.jobs.result(job, buried), nil
}

// joinable is an open job that covers all that this one would, "" for none:
// one for the same target that this region has not confirmed. It cannot be
// complete anywhere then, so whatever a region accepted, it accepted before it
// learned of that job, and will find when it works on it.
func (v *Vault) joinable(ctx context.Context, job *eraseJob) (string, error) {
	for _, id := range v.jobs.unconfirmed(job) {
		_, err := v.control.Get(ctx, authz.KindEraseConfirm, confirmationID(id, v.region))
		if errors.Is(err, authz.ErrNotFound) {
			return id, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// eraseStatus tells how far an earlier erasure of the caller's tenant is, as
// far as this region knows.
func (v *Vault) eraseStatus(ctx context.Context, c Call, req EraseRequest) (EraseResult, error) {
	if req.SubjectID != "" || len(req.Tokens) > 0 {
		return EraseResult{}, invalid("invalid_erase", "Give either items or subject_id, or a job.")
	}
	if err := uuid.Validate(req.Job); err != nil || len(req.Job) != jobIDSize {
		return EraseResult{}, noSuchJob()
	}
	item, err := v.control.Get(ctx, authz.KindEraseJob, req.Job)
	if errors.Is(err, authz.ErrNotFound) {
		return EraseResult{}, noSuchJob()
	}
	if err != nil {
		return EraseResult{}, unavailable("unavailable", err)
	}
	job, err := decodeEraseJob(item)
	if err != nil || job.Tenant != c.Principal.Tenant {
		return EraseResult{}, errors.Join(noSuchJob(), err)
	}
	confirmed, err := v.confirmedBy(ctx, job.ID)
	if err != nil {
		return EraseResult{}, unavailable("unavailable", err)
	}
	return eraseResult(job.ID, v.awaits(job), confirmed), nil
}

func noSuchJob() *Error {
	return &Error{Kind: ErrNotFound, Code: "not_found", Message: "There is no such erasure, or this region does not know of it yet."}
}

// eraseJob validates the request and hashes what it names.
func (v *Vault) eraseJob(ctx context.Context, c Call, req EraseRequest) (*eraseJob, error) {
	if (req.SubjectID == "") == (len(req.Tokens) == 0) {
		return nil, invalid("invalid_erase", "Give either items or subject_id.")
	}
	if req.SubjectID != "" && !validLabel(req.SubjectID) {
		return nil, invalid("invalid_subject_id", "subject_id must be 1 to 256 bytes without control characters.")
	}
	keys, err := v.tenants.keys(ctx, c)
	if err != nil {
		return nil, err
	}
	job := &eraseJob{
		Version: eraseJobVersion, Tenant: c.Principal.Tenant, Created: v.Now().UnixMilli(),
		Epoch: v.Ring.Epoch(), Regions: v.Ring.Names(),
	}
	if req.SubjectID != "" {
		job.Subject = keys.SubjectID(req.SubjectID)
		return job, v.mayErase(ctx, c, job, nil)
	}
	var types []string
	var bad []ItemError
	for i, token := range req.Tokens {
		target, typ, ok := v.eraseTarget(token, keys.RecordID)
		if !ok {
			bad = append(bad, ItemError{Index: i, Code: "not_found", Message: "This is not a token."})
			continue
		}
		types, job.Targets = append(types, typ), append(job.Targets, target)
	}
	if len(bad) > 0 {
		return nil, itemsRefused(ErrNotFound, bad)
	}
	return job, v.mayErase(ctx, c, job, types)
}

func (v *Vault) eraseTarget(token secret.Text, recordID func(secret.Text) string) (eraseRef, string, bool) {
	parsed, err := pii.ParseToken(token)
	if err != nil {
		return eraseRef{}, "", false
	}
	return eraseRef{Record: recordID(token), Generations: v.hasGenerations(parsed)}, parsed.Type, true
}

// mayErase decides by what a token says of its type: the record may be gone.
func (v *Vault) mayErase(ctx context.Context, c Call, job *eraseJob, types []string) error {
	if len(types) == 0 {
		types = []string{""}
	}
	decider := v.decider(c)
	for _, typ := range types {
		d := decider.decide(authz.Request{Action: authz.ActionErase, Type: typ, Subject: job.Subject, Time: v.Now().Unix()})
		if d.Allowed {
			continue
		}
		e := v.entry(c, string(authz.ActionErase), audit.Denied)
		e.Type, e.Subject = typ, job.Subject
		decided(&e, d)
		if _, err := v.note(ctx, e); err != nil {
			return err
		}
		return forbidden()
	}
	return nil
}

// noteErase audits the erasure before it begins: an entry per record, or one for a subject.
func (v *Vault) noteErase(ctx context.Context, c Call, job *eraseJob) error {
	e := v.entry(c, string(authz.ActionErase), audit.Authorized)
	e.Subject, e.Decision, e.PolicySet = job.Subject, decisionAllow, v.Policies.Current().Hash()
	entries := []audit.Entry{e}
	if job.Subject == "" {
		entries = entries[:0]
		for _, target := range job.Targets {
			e.Record = target.Record
			entries = append(entries, e)
		}
	}
	_, err := v.note(ctx, entries...)
	return err
}

// startErase makes the job durable here and known in every region reached.
// The others learn of it by replication.
func (v *Vault) startErase(ctx context.Context, job *eraseJob) error {
	var err error
	if job.ID, err = v.newJobID(); err != nil {
		return fmt.Errorf("vault: erase job id: %w", err)
	}
	body, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("vault: encode an erase job: %w", err)
	}
	if _, err := authz.InsertEverywhere(ctx, v.Controls, authz.Item{Kind: authz.KindEraseJob, ID: job.ID, Body: body}); err != nil {
		return unavailable("unavailable", err)
	}
	v.jobs.add(job)
	return nil
}

// newJobID is a UUID of version 7 (RFC 9562 §5.7) by the vault's own clock:
// ids sort by the time at which they were made, as polls rely on.
func (v *Vault) newJobID() (string, error) {
	var id uuid.UUID
	if _, err := io.ReadFull(v.Random, id[6:]); err != nil {
		return "", err
	}
	ms := v.Now().UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String(), nil
}

// bury inserts the tombstones that a job asks for and this region lacks, and
// counts the live records that it ended.
func (v *Vault) bury(ctx context.Context, job *eraseJob) (int, error) {
	if job.Subject != "" {
		return v.burySubject(ctx, job)
	}
	var plain []store.Key
	var refs, deterministic []store.Ref
	for _, t := range job.Targets {
		ref := store.Ref{Tenant: job.Tenant, ID: t.Record, Generations: t.Generations}
		refs = append(refs, ref)
		if t.Generations {
			deterministic = append(deterministic, ref)
		} else {
			plain = append(plain, store.Key{Tenant: job.Tenant, ID: t.Record})
		}
	}
	live, err := v.countLive(ctx, refs)
	if err != nil {
		return 0, err
	}
	if len(deterministic) > 0 {
		seen, err := v.local.Seen(ctx, deterministic)
		if err != nil {
			return 0, err
		}
		plain = append(plain, seen...)
	}
	return live, v.buryKeys(ctx, plain)
}

func (v *Vault) countLive(ctx context.Context, refs []store.Ref) (int, error) {
	states, err := v.local.Read(ctx, refs)
	live := 0
	for _, s := range states {
		if s.Record != nil {
			live++
		}
	}
	return live, err
}

// burySubject walks every record that names the subject.
func (v *Vault) burySubject(ctx context.Context, job *eraseJob) (int, error) {
	total := 0
	for page := (store.Page{Limit: erasePage}); ; {
		keys, next, err := v.local.BySubject(ctx, job.Tenant, job.Subject, page)
		if err != nil {
			return total, err
		}
		live, err := v.unburied(ctx, keys)
		if err != nil {
			return total, err
		}
		if err := v.buryKeys(ctx, live); err != nil {
			return total, err
		}
		total += len(live)
		if next == "" {
			return total, nil
		}
		page.After = next
	}
}

func (v *Vault) buryKeys(ctx context.Context, keys []store.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return v.local.Bury(ctx, keys)
}

// unburied leaves out generations that have their tombstone.
func (v *Vault) unburied(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	live := keys[:0]
	for _, key := range keys {
		_, buried, err := v.local.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if !buried {
			live = append(live, key)
		}
	}
	return live, nil
}

// decodeEraseJob reads a job that any region may have written.
func decodeEraseJob(item authz.Item) (*eraseJob, error) {
	job := &eraseJob{ID: item.ID}
	if err := json.Unmarshal(item.Body, job); err != nil || job.Version != eraseJobVersion || job.Tenant == "" {
		return nil, errors.New("vault: an erase job is not of a version known here")
	}
	return job, nil
}

// since tells how long ago a time was by the vault's clock.
func (v *Vault) since(t time.Time) time.Duration { return v.Now().Sub(t) }
