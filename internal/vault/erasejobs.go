package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/store"
)

// jobs follows the erasures that are not complete: it does this region's part
// of each, and refuses tokenizes that would race one.
type jobs struct {
	v *Vault

	// mu guards everything below.
	mu       sync.Mutex
	open     map[string]*openJob
	complete map[string]struct{} // ids of finished jobs of about a day, so that a poll skips them
	subjects map[string]int      // tenant#subject → open jobs
	records  map[string]int      // tenant#record of deterministic tokens → open jobs
	wholeAt  time.Time           // when a listing of all jobs last began that came to its end
}

// openJob is an erasure under way, as this region sees it.
type openJob struct {
	*eraseJob
	awaits     []string  // regions that are to confirm
	quietSince time.Time // when a pass last found something, or the job was first seen
	confirmed  map[string]bool
	sent       time.Time // when it was last sent to all regions from here, or first seen
	known      bool      // confirmed was read since: what is complete must not be worked on again
}

func newJobs(v *Vault) *jobs {
	return &jobs{v: v, open: map[string]*openJob{}, complete: map[string]struct{}{}, subjects: map[string]int{}, records: map[string]int{}}
}

// run polls for jobs and works on them until ctx is done.
func (j *jobs) run(ctx context.Context) {
	every(ctx, j.v.PollEvery, nil, j.step)
}

func (j *jobs) step(ctx context.Context) {
	if err := j.poll(ctx); err != nil && ctx.Err() == nil {
		j.v.Logger.Warn().Err(err).Msg("erase jobs cannot be read")
	}
	if !j.v.can(CanRepair) {
		return // it knows what it must not tokenize, and leaves the work to others
	}
	if err := j.resend(ctx); err != nil && ctx.Err() == nil {
		j.v.Logger.Warn().Err(err).Msg("an erasure that waits for other regions cannot be sent to them")
	}
	for _, id := range j.ids() {
		if err := j.work(ctx, id); err != nil && ctx.Err() == nil {
			j.v.Logger.Warn().Err(err).Str("job", id).Msg("an erasure cannot proceed here")
		}
	}
}

// poll learns of jobs and confirmations from this region's control table. A
// job that cannot be read does not hold up the others.
func (j *jobs) poll(ctx context.Context) error {
	after, whole := j.listFrom()
	var failures []error
	var past []authz.Item // of a listing of everything: most are complete
	err := eachItem(ctx, j.v.control, authz.KindEraseJob, after, func(item authz.Item) error {
		switch {
		case j.isComplete(item.ID):
		case whole.IsZero():
			confirmed, err := j.v.confirmedBy(ctx, item.ID)
			failures = append(failures, err, j.learn(item, confirmed))
		default:
			if past = append(past, item); len(past) == listPage {
				failures = append(failures, j.learnPast(ctx, past))
				past = past[:0]
			}
		}
		return nil
	})
	failures = append(failures, j.learnPast(ctx, past), err)
	if err == nil {
		j.listed(whole)
	}
	return errors.Join(failures...)
}

// learn makes a job visible unless it is complete, and takes note of who
// confirmed it, nil where that cannot be read.
func (j *jobs) learn(item authz.Item, confirmed map[string]bool) error {
	job, err := decodeEraseJob(item)
	if err != nil {
		return err
	}
	awaits := j.v.awaits(job)
	if confirmed == nil || slices.ContainsFunc(awaits, func(region string) bool { return !confirmed[region] }) {
		j.add(job)
	}
	j.confirmed(item.ID, confirmed)
	return nil
}

// learnPast learns jobs that follow each other with one reading of all their
// confirmations, instead of one for each.
func (j *jobs) learnPast(ctx context.Context, items []authz.Item) error {
	if len(items) == 0 {
		return nil
	}
	last := items[len(items)-1].ID
	confirmed := map[string]map[string]bool{}
	err := eachItem(ctx, j.v.control, authz.KindEraseConfirm, items[0].ID, func(item authz.Item) error {
		job, region, _ := strings.Cut(item.ID, "#")
		if job > last {
			return errEnough
		}
		if confirmed[job] == nil {
			confirmed[job] = map[string]bool{}
		}
		confirmed[job][region] = true
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err // the poll after this one is of everything, too
	}
	var failures []error
	for _, item := range items {
		failures = append(failures, j.learn(item, confirmed[item.ID]))
	}
	return errors.Join(failures...)
}

// errEnough ends a listing.
var errEnough = errors.New("vault: enough")

// Job ids begin with their time. Polls look back a day, which replication
// stays well within, and now and then at everything.
const (
	jobWindow = 24 * time.Hour
	wholeList = time.Hour
)

// listFrom is where a poll begins, and when, if it is one of everything.
func (j *jobs) listFrom() (after string, whole time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.v.Now()
	if now.Sub(j.wholeAt) >= wholeList {
		return "", now
	}
	return windowFrom(now), time.Time{}
}

// windowFrom is before the ids of all jobs of the last day.
func windowFrom(now time.Time) string {
	ms := fmt.Sprintf("%012x", now.Add(-jobWindow).UnixMilli())
	return ms[:8] + "-" + ms[8:]
}

// listed takes note of a poll of everything that came to its end, and forgets
// complete jobs that no other poll comes by.
func (j *jobs) listed(whole time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !whole.After(j.wholeAt) {
		return
	}
	j.wholeAt = whole
	from := windowFrom(whole)
	maps.DeleteFunc(j.complete, func(id string, _ struct{}) bool { return id < from })
}

func (j *jobs) isComplete(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.complete[id]
	return ok
}

func (j *jobs) ids() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := make([]string, 0, len(j.open))
	for id := range j.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// add makes a job visible: from now on tokenizes of its target are refused.
func (j *jobs) add(job *eraseJob) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.open[job.ID]; ok {
		return
	}
	j.open[job.ID] = &openJob{eraseJob: job, awaits: j.v.awaits(job), quietSince: j.v.Now(), sent: j.v.Now(), confirmed: map[string]bool{}}
	j.count(job, 1)
}

// awaits are the regions that do a job's work and confirm it: those of the ring
// in which it was made, but for those that have left. A region that has joined
// since got the tombstones with all else; what it would find may have been made
// after the erasure was complete.
func (v *Vault) awaits(job *eraseJob) []string {
	switch names := v.Ring.Names(); {
	case len(job.Regions) == 0: // from before jobs said so
		return names
	case job.Epoch > v.Ring.Epoch(): // who has left is not known here
		return job.Regions
	default:
		return slices.DeleteFunc(slices.Clone(job.Regions), func(region string) bool { return !slices.Contains(names, region) })
	}
}

// count keeps the sets that covers asks; mu is held.
func (j *jobs) count(job *eraseJob, by int) {
	bump := func(m map[string]int, key string) {
		if m[key] += by; m[key] <= 0 {
			delete(m, key)
		}
	}
	if job.Subject != "" {
		bump(j.subjects, job.Tenant+"#"+job.Subject)
	}
	for _, t := range job.Targets {
		if t.Generations {
			bump(j.records, job.Tenant+"#"+t.Record)
		}
	}
}

// covers reports that a visible job erases this subject or deterministic token.
func (j *jobs) covers(ref store.Ref, subject string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.open) == 0 {
		return false
	}
	return j.subjects[ref.Tenant+"#"+subject] > 0 && subject != "" || ref.Generations && j.records[ref.Tenant+"#"+ref.ID] > 0
}

// unconfirmed are the open jobs for the same target, made in the same ring,
// that this region has not confirmed as far as this instance knows, oldest first.
func (j *jobs) unconfirmed(job *eraseJob) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ids []string
	for id, o := range j.open {
		if o.Epoch == job.Epoch && o.awaited(j.v.region) && o.target() == job.target() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// target names what a job erases.
func (job *eraseJob) target() string {
	names := []string{job.Tenant, job.Subject}
	for _, t := range job.Targets {
		names = append(names, t.Record)
	}
	return strings.Join(names, "#")
}

// work does this region's part once: bury what is there, and confirm after
// nothing new was found for longer than the replication lag.
func (j *jobs) work(ctx context.Context, id string) error {
	job := j.get(id)
	if job == nil || !j.awaitedHere(id) {
		return nil
	}
	buried, err := j.v.bury(ctx, job)
	if err != nil {
		return err
	}
	j.progress(ctx, id, buried)
	return nil
}

// resendAfter times ErasureQuiet is how long a job waits for the confirmations
// of other regions before it is sent to them again.
const resendAfter = 20

// resend writes one job that others have not confirmed for long to their
// tables, one a step: it may have come here by replication from a region that
// was lost before it came to them.
func (j *jobs) resend(ctx context.Context) error {
	id := j.overdue()
	if id == "" {
		return nil
	}
	item, err := j.v.control.Get(ctx, authz.KindEraseJob, id)
	if err != nil {
		return err
	}
	var failures []error
	for i := range j.v.Controls[1:] {
		attempt, cancel := context.WithTimeout(ctx, remoteTimeout)
		_, err := authz.InsertEverywhere(attempt, j.v.Controls[1+i:2+i], item)
		cancel()
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// overdue is the first job that is to be sent again, and takes note that it is.
func (j *jobs) overdue() string {
	ids := j.ids()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		o, ok := j.open[id]
		others := ok && slices.ContainsFunc(o.awaits, func(region string) bool { return region != j.v.region && o.awaited(region) })
		if others && o.known && j.v.since(o.sent) > resendAfter*j.v.ErasureQuiet {
			o.sent = j.v.Now()
			return id
		}
	}
	return ""
}

func (j *jobs) get(id string) *eraseJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	if o, ok := j.open[id]; ok {
		return o.eraseJob
	}
	return nil
}

func (j *jobs) awaitedHere(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	o, ok := j.open[id]
	return ok && o.known && o.awaited(j.v.region)
}

// awaited reports that a region is to confirm and has not.
func (o *openJob) awaited(region string) bool {
	return slices.Contains(o.awaits, region) && !o.confirmed[region]
}

// progress takes note of a pass and confirms when it is time. Random tokens
// have nothing to wait for: their tombstone holds whatever arrives later.
func (j *jobs) progress(ctx context.Context, id string, buried int) {
	if !j.due(id, buried) {
		return
	}
	if err := j.confirm(ctx, id); err != nil {
		j.v.Logger.Warn().Err(err).Str("job", id).Msg("an erasure cannot be confirmed")
	}
}

func (j *jobs) due(id string, buried int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	o, ok := j.open[id]
	if !ok || !o.awaited(j.v.region) {
		return false
	}
	final := o.Subject == "" && !slices.ContainsFunc(o.Targets, func(t eraseRef) bool { return t.Generations })
	if final {
		return true
	}
	if buried > 0 {
		o.quietSince = j.v.Now()
	}
	return j.v.since(o.quietSince) > j.v.ErasureQuiet
}

// confirm writes this region's confirmation, after its audit entry.
func (j *jobs) confirm(ctx context.Context, id string) error {
	job := j.get(id)
	if job == nil {
		return nil
	}
	e := j.v.own(job.Tenant, actionConfirmErase)
	e.Subject, e.RequestID = job.Subject, id
	if _, err := j.v.note(ctx, e); err != nil {
		return err
	}
	body, err := json.Marshal(eraseConfirmation{Version: 1, At: j.v.Now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("vault: encode a confirmation: %w", err)
	}
	item := authz.Item{Kind: authz.KindEraseConfirm, ID: confirmationID(id, j.v.region), Body: body}
	// ErrExists: another instance of this region, or an earlier try, confirmed.
	if _, err := authz.InsertEverywhere(ctx, j.v.Controls, item); err != nil && !errors.Is(err, authz.ErrExists) {
		return err
	}
	confirmed, err := j.v.confirmedBy(ctx, id)
	if err == nil {
		j.confirmed(id, confirmed)
	}
	return err
}

// confirmationID is the control item by which a region confirms a job.
func confirmationID(job, region string) string { return job + "#" + region }

// confirmedBy are the regions whose confirmations this region has.
func (v *Vault) confirmedBy(ctx context.Context, id string) (map[string]bool, error) {
	items, err := v.control.List(ctx, authz.KindEraseConfirm, confirmationID(id, ""), crypto.MaxCopies)
	if err != nil {
		return nil, err
	}
	confirmed := map[string]bool{}
	for _, item := range items {
		if region, ok := strings.CutPrefix(item.ID, confirmationID(id, "")); ok {
			confirmed[region] = true
		}
	}
	return confirmed, nil
}

// confirmed takes note of the regions that have confirmed, and closes a job
// that all that it awaits have.
func (j *jobs) confirmed(id string, by map[string]bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o, ok := j.open[id]
	if ok {
		maps.Copy(o.confirmed, by)
		if o.known = o.known || by != nil; slices.ContainsFunc(o.awaits, o.awaited) {
			return
		}
		delete(j.open, id)
		j.count(o.eraseJob, -1)
	}
	if id >= windowFrom(j.v.Now()) {
		j.complete[id] = struct{}{}
	}
}

// result tells how far an erasure is that was begun or joined just now.
func (j *jobs) result(job *eraseJob, buried int) EraseResult {
	j.mu.Lock()
	defer j.mu.Unlock()
	var confirmed map[string]bool
	awaits := j.v.awaits(job)
	if o, open := j.open[job.ID]; open {
		awaits, confirmed = o.awaits, o.confirmed
	} else {
		confirmed = map[string]bool{}
		for _, region := range awaits {
			confirmed[region] = true
		}
	}
	result := eraseResult(job.ID, awaits, confirmed)
	result.Erased = buried
	return result
}

// eraseResult is complete when all that are awaited have confirmed.
func eraseResult(id string, awaits []string, confirmed map[string]bool) EraseResult {
	result := EraseResult{Job: id, Complete: true}
	for _, region := range awaits {
		result.Regions = append(result.Regions, RegionConfirmed{Name: region, Confirmed: confirmed[region]})
		result.Complete = result.Complete && confirmed[region]
	}
	return result
}
