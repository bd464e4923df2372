package vault

import (
	"context"

	"piivault/internal/audit"
	"piivault/internal/authz"
)

// Actions of entries that are the vault's own, beside authz's.
const (
	actionUnwrapTenant = "unwrap_tenant_secret"
	actionRepair       = "repair_record"
	actionRepairTenant = "repair_tenant_secret"
	actionRingDone     = "ring_done"
	actionCreateTenant = "create_tenant"
	actionCreateKey    = "create_key"
	actionRevokeKey    = "revoke_key"
	actionRotateKey    = "rotate_key"
	actionSuspend      = "suspend_principal"
	actionReinstate    = "reinstate_principal"
	actionListKeys     = "list_keys"
	actionShowKey      = "show_key"
	actionConfirmErase = "confirm_erase"
	actionReplayErase  = "replay_erase"
	actorInternal      = "vault"
	authInternal       = "internal"
	decisionAllow      = "allow"
	decisionDeny       = "deny"
)

// entry begins an audit entry of a call.
func (v *Vault) entry(c Call, action string, outcome audit.Outcome) audit.Entry {
	return audit.Entry{
		Time: v.Now().UnixMilli(), RequestID: c.RequestID, Tenant: c.Principal.Tenant,
		Actor: c.Principal.ID, Authentication: c.Principal.Authentication,
		Action: action, Region: v.region, Client: c.Client, Outcome: outcome,
	}
}

// own begins an audit entry of what the vault does by itself.
func (v *Vault) own(tenant, action string) audit.Entry {
	return v.entry(Call{Principal: Principal{Tenant: tenant, ID: actorInternal, Authentication: authInternal}}, action, audit.Authorized)
}

// note makes entries durable; an error means that they may not be.
func (v *Vault) note(ctx context.Context, entries ...audit.Entry) (audit.Receipt, error) {
	receipt, err := v.Log.Append(entries).Wait(ctx)
	if err != nil {
		return receipt, auditUnavailable(err)
	}
	return receipt, nil
}

// followUp is an entry about an earlier one that ended otherwise than it said.
func followUp(e audit.Entry, about audit.Ref, outcome audit.Outcome) audit.Entry {
	e.About, e.Outcome = &about, outcome
	return e
}

// allow refuses a caller whose credential has no right at all to an action
// (403); finer decisions are made by attributes.
func (v *Vault) allow(ctx context.Context, c Call, action authz.Action) error {
	policies := v.Policies.Current()
	if policies.May(c.Principal, action) {
		return nil
	}
	e := v.entry(c, string(action), audit.Denied)
	e.Decision, e.PolicySet = decisionDeny, policies.Hash()
	if _, err := v.note(ctx, e); err != nil {
		return err
	}
	return forbidden()
}

// decided copies a decision into an entry.
func decided(e *audit.Entry, d authz.Decision) {
	e.Decision, e.Policies, e.PolicySet = decisionDeny, d.Policies, d.PolicySet
	if d.Allowed {
		e.Decision = decisionAllow
	}
}

// decider asks the policies. All of a batch is decided by one set, whatever is
// reloaded meanwhile.
type decider struct {
	policies *authz.Policies
	c        Call
}

func (v *Vault) decider(c Call) *decider { return &decider{v.Policies.Current(), c} }

func (d *decider) decide(r authz.Request) authz.Decision {
	return d.policies.CachedDecide(d.c.Principal, r)
}
