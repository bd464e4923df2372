package vault

import (
	"context"
	"slices"

	"piivault/internal/authz"
)

// KeyState is an API key, its limits and what is left of them.
type KeyState struct {
	Key     KeyInfo
	Region  string // whose share is told
	Budgets []KeyBudgetState
}

// KeyBudgetState is one limit: see authz.BudgetState.
type KeyBudgetState struct {
	authz.BudgetState
	Window string // hour or day
}

// ShowKey describes an API key of the caller's tenant and what is left of its
// budgets in this region. It takes nothing of them.
func (v *Vault) ShowKey(ctx context.Context, c Call, id string) (KeyState, error) {
	if err := v.admin(ctx, c, actionShowKey); err != nil {
		return KeyState{}, err
	}
	keys, err := v.Keys.List(ctx, c.Principal.Tenant)
	if err != nil {
		return KeyState{}, unavailable("unavailable", err)
	}
	i := slices.IndexFunc(keys, func(k KeyInfo) bool { return k.ID == id })
	if i < 0 {
		return KeyState{}, keyError(authz.ErrNotFound)
	}
	var types []string
	for _, t := range v.Catalog.All() {
		types = append(types, t.Name)
	}
	p := Principal{Tenant: c.Principal.Tenant, ID: "key_" + id, Limits: keys[i].Limits}
	budgets, err := v.Budgets.State(ctx, &p, types)
	if err != nil {
		return KeyState{}, unavailable("budget_unavailable", err)
	}
	state := KeyState{Key: keys[i], Region: v.region}
	for _, b := range budgets {
		state.Budgets = append(state.Budgets, KeyBudgetState{b, spanName(b.Span)})
	}
	return state, nil
}
