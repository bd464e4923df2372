package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/secret"
)

// tenants keeps the unwrapped tenant keys. A tenant secret never changes, so
// what was unwrapped once stays right for the life of the process.
type tenants struct {
	v      *Vault
	flight singleflight.Group

	mu    sync.RWMutex // guards known
	known map[string]*crypto.TenantKeys
}

func newTenants(v *Vault) *tenants { return &tenants{v: v, known: map[string]*crypto.TenantKeys{}} }

// keys returns the tenant's keys, unwrapping its secret by any region's KMS
// the first time; that unwrap is audited before the keys are used.
func (t *tenants) keys(ctx context.Context, c Call) (*crypto.TenantKeys, error) {
	tenant := c.Principal.Tenant
	if k := t.get(tenant); k != nil {
		return k, nil
	}
	// The flight outlives any one caller, so it must not end with one.
	_, err, _ := t.flight.Do(tenant, func() (any, error) { return nil, t.unwrap(context.WithoutCancel(ctx), tenant) })
	return t.get(tenant), err
}

func (t *tenants) get(tenant string) *crypto.TenantKeys {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[tenant]
}

func (t *tenants) unwrap(ctx context.Context, tenant string) error {
	item, err := t.v.control.Get(ctx, authz.KindTenantSecret, tenant)
	if err != nil {
		return unavailable("unavailable", fmt.Errorf("read the tenant secret: %w", err))
	}
	key, dataKey, region, err := t.v.Sealer.OpenTenantSecret(ctx, tenant, item.Body)
	if err != nil {
		return unavailable(kmsCode(err), fmt.Errorf("open the tenant secret: %w", err))
	}
	defer key.Wipe()
	e := t.v.own(tenant, actionUnwrapTenant)
	e.DataKey, e.Copies = dataKey, []string{region}
	if _, err := t.v.note(ctx, e); err != nil {
		return err
	}
	keys, err := crypto.NewTenantKeys(tenant, key)
	if err != nil {
		return fmt.Errorf("vault: derive tenant keys: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[tenant] = keys
	return nil
}

// CreateTenant makes a tenant under an alias: a random id, and a secret that
// every region's table was seen to hold before the tenant is active (design
// §4). Unlike everything else it needs every region; after a failure it may be
// called again and completes what was begun. Its entry is durable before the
// tenant is active.
func (v *Vault) CreateTenant(ctx context.Context, alias string) (string, error) {
	id, err := authz.NewTenantID(v.Random)
	if err != nil {
		return "", fmt.Errorf("vault: tenant id: %w", err)
	}
	tenant, missed, err := authz.CreateTenant(ctx, v.Controls, authz.Tenant{ID: id, Alias: alias, Created: v.Now().UnixMilli()})
	if err := everywhere(missed, err); err != nil {
		return "", err
	}
	if _, err := v.note(ctx, v.own(tenant.ID, actionCreateTenant)); err != nil {
		return "", err
	}
	item, err := v.tenantSecret(ctx, tenant.ID)
	if err != nil {
		return "", err
	}
	if err := everywhere(authz.InsertEverywhere(ctx, v.Controls, item)); err != nil {
		return "", err
	}
	for _, table := range v.Controls {
		there, err := table.Control.Get(ctx, authz.KindTenantSecret, tenant.ID)
		if err != nil || !bytes.Equal(there.Body, item.Body) {
			return "", unavailable("unavailable", errors.Join(errors.New("a region does not hold the tenant's secret"), err))
		}
	}
	return tenant.ID, everywhere(authz.ActivateTenant(ctx, v.Controls, tenant.ID))
}

// tenantSecret returns the secret's item that an earlier attempt left, or a new one.
func (v *Vault) tenantSecret(ctx context.Context, tenant string) (authz.Item, error) {
	item, err := v.control.Get(ctx, authz.KindTenantSecret, tenant)
	if !errors.Is(err, authz.ErrNotFound) {
		return item, err
	}
	key, err := secret.GenerateKey(v.Random)
	if err != nil {
		return item, fmt.Errorf("vault: tenant secret: %w", err)
	}
	defer key.Wipe()
	sealed, err := v.Sealer.SealTenantSecret(ctx, tenant, key)
	if err != nil {
		return item, unavailable(kmsCode(err), err)
	}
	return authz.Item{Kind: authz.KindTenantSecret, ID: tenant, Body: sealed.Message}, nil
}

// everywhere turns a control write that missed a region into an error.
func everywhere(missed []string, err error) error {
	if err == nil && len(missed) > 0 {
		err = errors.New("a region's control table was not reached")
	}
	if err != nil {
		return unavailable("unavailable", err)
	}
	return nil
}
