package authz

import (
	"context"
	"io"
)

// Tenant is one customer's separate world: keys, records and secrets.
type Tenant struct {
	ID      string // 26 characters, random
	Alias   string
	Created int64 // Unix milliseconds
	Active  bool  // its secret was read back from every region's table
}

func NewTenantID(random io.Reader) (string, error) { return randomBase32(random, keyIDBytes) }

// CreateTenant writes the alias and the tenant to every region's table. The tenant is not active yet. It is
// resumable: called again with an alias whose tenant is not active it completes that one, and returns it
// (with its first id). ErrExists: the alias belongs to an active tenant.
func CreateTenant(ctx context.Context, tables []RegionControl, t Tenant) (created Tenant, notReached []string, err error) {
	return t, nil, nil
}

// ActivateTenant marks the tenant active, everywhere; again is success.
func ActivateTenant(ctx context.Context, tables []RegionControl, id string) (notReached []string, err error) {
	return nil, nil
}

// FindTenant looks a tenant up by id or alias; ErrNotFound.
func FindTenant(ctx context.Context, table Control, idOrAlias string) (Tenant, error) {
	return Tenant{}, ErrNotFound
}

// ListTenants returns every tenant in order of id.
func ListTenants(ctx context.Context, table Control) ([]Tenant, error) { return nil, nil }
