package vault

import (
	"context"
	"fmt"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
)

// stoppedRetry is what a stopped reveal's Retry-After says: people lift stops.
const stoppedRetry = time.Minute

// stopPolicy prefixes a stop's id where an entry names what decided.
const stopPolicy = "stop."

// Stop stops every reveal of the caller's tenant, or with everything of the
// whole deployment, until a Resume. It is in force here when it returns, and
// on every other instance at its next poll; NotReached names regions that
// learn of it by replication only. Where the audit log is out the stop is in
// force all the same, and the error says audit_unavailable.
//
// Only an operator with the rights to the tables may ask for everything: no
// route does.
func (v *Vault) Stop(ctx context.Context, c Call, reason string, everything bool) (StopResult, error) {
	if !validLabel(reason) {
		return StopResult{}, invalidReason()
	}
	d, err := v.mayStop(ctx, c, authz.ActionStop)
	if err != nil {
		return StopResult{}, err
	}
	pending := v.Log.Append([]audit.Entry{v.stopEntry(c, authz.ActionStop, reason, d)})
	id, missed, err := v.stops.Stop(ctx, scopeOf(c, everything), reason, c.Principal.ID)
	_, auditErr := pending.Wait(ctx)
	switch {
	case err != nil:
		return StopResult{}, unavailable("unavailable", err)
	case auditErr != nil:
		return StopResult{}, auditUnavailable(auditErr)
	}
	return StopResult{ID: id, NotReached: missed}, nil
}

// Resume lifts the stops of the caller's tenant, or with everything those of
// the whole deployment, that this region's table has. One that it has not seen
// stays in force. Nothing is lifted before the entry about it is durable.
func (v *Vault) Resume(ctx context.Context, c Call, reason string, everything bool) (ResumeResult, error) {
	if !validLabel(reason) {
		return ResumeResult{}, invalidReason()
	}
	d, err := v.mayStop(ctx, c, authz.ActionResume)
	if err != nil {
		return ResumeResult{}, err
	}
	if _, err := v.note(ctx, v.stopEntry(c, authz.ActionResume, reason, d)); err != nil {
		return ResumeResult{}, err
	}
	scope := scopeOf(c, everything)
	lifted, missed, err := v.stops.Resume(ctx, scope, reason, c.Principal.ID)
	if err != nil {
		return ResumeResult{}, unavailable("unavailable", err)
	}
	left, err := v.stops.Of(scope)
	if err != nil {
		return ResumeResult{}, unavailable("unavailable", err)
	}
	return ResumeResult{Lifted: lifted, Stopped: len(left) > 0, NotReached: missed}, nil
}

// Stops lists what stops the caller's tenant now, the deployment's stops too.
func (v *Vault) Stops(ctx context.Context, c Call) ([]Stop, error) {
	if err := v.allow(ctx, c, authz.ActionStop); err != nil {
		return nil, err
	}
	if err := v.stops.Refresh(ctx); err != nil {
		return nil, unavailable("unavailable", err)
	}
	stops, err := v.stops.Of(c.Principal.Tenant)
	if err != nil {
		return nil, unavailable("unavailable", err)
	}
	return stops, nil
}

func scopeOf(c Call, everything bool) string {
	if everything {
		return ""
	}
	return c.Principal.Tenant
}

func invalidReason() *Error {
	return invalid("invalid_reason", "reason must be 1 to 256 bytes without control characters.")
}

// mayStop decides; a refusal is audited.
func (v *Vault) mayStop(ctx context.Context, c Call, action authz.Action) (authz.Decision, error) {
	if err := v.allow(ctx, c, action); err != nil {
		return authz.Decision{}, err
	}
	d := v.Policies.Current().Decide(c.Principal, authz.Request{Action: action, Time: v.Now().Unix()})
	if d.Allowed {
		return d, nil
	}
	e := v.entry(c, string(action), audit.Denied)
	decided(&e, d)
	if _, err := v.note(ctx, e); err != nil {
		return d, err
	}
	return d, forbidden()
}

// stopEntry says who and, as its purpose, why.
func (v *Vault) stopEntry(c Call, action authz.Action, reason string, d authz.Decision) audit.Entry {
	e := v.entry(c, string(action), audit.Authorized)
	e.Purpose = reason
	decided(&e, d)
	return e
}

// running refuses while a stop of the caller's tenant is in force, or where
// that cannot be known.
func (v *Vault) running(c Call) (stops []authz.Stop, err error) {
	stops, err = v.stops.Of(c.Principal.Tenant)
	switch {
	case err != nil:
		return nil, unavailable("unavailable", fmt.Errorf("what is stopped: %w", err))
	case len(stops) > 0:
		return stops, &Error{
			Kind: ErrUnavailable, Code: "stopped", RetryAfter: stoppedRetry,
			Message: "Reveals are stopped by an operator. Nothing was released.",
		}
	}
	return nil, nil
}

// refuseStopped is running for the begin of a use case: the refusal is an
// entry that names the stops.
func (v *Vault) refuseStopped(ctx context.Context, c Call, action authz.Action) error {
	stops, err := v.running(c)
	if len(stops) == 0 {
		return err
	}
	e := v.entry(c, string(action), audit.Denied)
	e.Decision, e.PolicySet = decisionDeny, v.Policies.Current().Hash()
	for _, stop := range stops {
		e.Policies = append(e.Policies, stopPolicy+stop.ID)
	}
	if _, auditErr := v.note(ctx, e); auditErr != nil {
		return auditErr
	}
	return err
}
