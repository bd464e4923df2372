package authz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Tenant is one customer's separate world: keys, records and a secret of its
// own. Its id is random and final; the alias is a name for people.
type Tenant struct {
	ID      string // 26 characters of lower-case base32
	Alias   string // [a-z][a-z0-9-]{0,62}, not of an id's shape
	Created int64  // Unix milliseconds
	Active  bool   // its secret was read back from every region's table
}

// maxAlias is the longest alias, in bytes.
const maxAlias = 63

// activeSuffix makes the id of the item that says a tenant is active: items
// are insert-only, so a state is the presence of an item.
const activeSuffix = "#active"

// listPage is how many items a listing reads at once.
const listPage = 500

// NewTenantID draws a tenant id: 128 random bits.
func NewTenantID(random io.Reader) (string, error) { return randomBase32(random, keyIDBytes) }

// isID reports the shape of a key's or a tenant's id.
func isID(s string) bool { return len(s) == keyIDLen && isBase32(s) }

func checkAlias(alias string) error {
	bad := &InputError{"bad_alias", "an alias is 1 to 63 of a-z, 0-9 and -, starts with a letter and does not look like an id"}
	if alias == "" || len(alias) > maxAlias || alias[0] < 'a' || alias[0] > 'z' || isID(alias) {
		return bad
	}
	for i := range len(alias) {
		if c := alias[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return bad
		}
	}
	return nil
}

// CreateTenant writes the alias and then the tenant, not yet active, to every
// region's table; the local table is the first. It is resumable: called with
// an alias whose tenant is not active yet it completes that tenant and returns
// it with its own id and time, so a crash on the way to ActivateTenant costs
// nothing but calling again. ErrExists: the alias belongs to an active tenant,
// or the id to another alias. An *InputError refuses the alias.
func CreateTenant(ctx context.Context, tables []RegionControl, t Tenant) (created Tenant, notReached []string, err error) {
	if err := checkAlias(t.Alias); err != nil {
		return Tenant{}, nil, err
	}
	if !isID(t.ID) || t.Created <= 0 {
		return Tenant{}, nil, &InputError{"bad_tenant", "a tenant needs an id of NewTenantID and a time"}
	}
	if t, err = claimed(ctx, tables[0].Control, t); err != nil {
		return Tenant{}, nil, err
	}
	lacksAlias, err := insertBody(ctx, tables, KindTenantAlias, t.Alias, aliasBody{bodyVersion, t.ID, t.Created})
	if err != nil {
		return Tenant{}, nil, fmt.Errorf("write the alias: %w", err)
	}
	lacksTenant, err := insertBody(ctx, tables, KindTenant, t.ID, tenantBody{bodyVersion, t.Alias, t.Created})
	if err != nil {
		return Tenant{}, nil, fmt.Errorf("write the tenant: %w", err)
	}
	return t, inEither(tables, lacksAlias, lacksTenant), nil
}

// claimed returns the tenant that an earlier, unfinished CreateTenant of the
// alias began, or t itself.
func claimed(ctx context.Context, local Control, t Tenant) (Tenant, error) {
	id, created, err := resolve(ctx, local, t.Alias)
	if errors.Is(err, ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return Tenant{}, err
	}
	active, err := isActive(ctx, local, id)
	if err == nil && active {
		err = ErrExists
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("claim the alias: %w", err)
	}
	return Tenant{ID: id, Alias: t.Alias, Created: created}, nil
}

// ActivateTenant marks a tenant active in every region's table; once more is
// success and reaches the regions that were not. Its caller has read the
// tenant's secret back from all of them.
func ActivateTenant(ctx context.Context, tables []RegionControl, id string) (notReached []string, err error) {
	if _, err := tenantByID(ctx, tables[0].Control, id); err != nil {
		return nil, err
	}
	notReached, err = insertBody(ctx, tables, KindTenant, id+activeSuffix, activationBody{bodyVersion, true})
	if err != nil {
		return nil, fmt.Errorf("activate the tenant: %w", err)
	}
	return notReached, nil
}

// FindTenant looks a tenant up by its id or its alias; ErrNotFound also where
// an alias was claimed and its tenant not yet written.
func FindTenant(ctx context.Context, table Control, idOrAlias string) (Tenant, error) {
	if isID(idOrAlias) {
		return tenantByID(ctx, table, idOrAlias)
	}
	id, _, err := resolve(ctx, table, idOrAlias)
	if err != nil {
		return Tenant{}, err
	}
	return tenantByID(ctx, table, id)
}

// ListTenants returns every tenant in order of id.
func ListTenants(ctx context.Context, table Control) ([]Tenant, error) {
	items, err := listAll(ctx, table, KindTenant)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var tenants []Tenant
	for _, item := range items {
		if tenants, err = appendTenant(tenants, item); err != nil {
			return nil, fmt.Errorf("list tenants: %w", err)
		}
	}
	return tenants, nil
}

// appendTenant takes items in order of id, where an activation follows its tenant.
func appendTenant(tenants []Tenant, item Item) ([]Tenant, error) {
	id, ok := strings.CutSuffix(item.ID, activeSuffix)
	if !ok {
		body, err := decodeTenantBody(item.Body)
		return append(tenants, Tenant{ID: id, Alias: body.Alias, Created: body.Created}), err
	}
	_, err := decodeActivationBody(item.Body)
	if last := len(tenants) - 1; last >= 0 && tenants[last].ID == id {
		tenants[last].Active = true
	}
	return tenants, err
}

func tenantByID(ctx context.Context, table Control, id string) (Tenant, error) {
	item, err := table.Get(ctx, KindTenant, id)
	if err != nil {
		return Tenant{}, fmt.Errorf("read the tenant: %w", err)
	}
	body, err := decodeTenantBody(item.Body)
	if err != nil {
		return Tenant{}, fmt.Errorf("read the tenant: %w", err)
	}
	active, err := isActive(ctx, table, id)
	if err != nil {
		return Tenant{}, fmt.Errorf("read the tenant: %w", err)
	}
	return Tenant{ID: id, Alias: body.Alias, Created: body.Created, Active: active}, nil
}

func isActive(ctx context.Context, table Control, id string) (bool, error) {
	item, err := table.Get(ctx, KindTenant, id+activeSuffix)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err == nil {
		_, err = decodeActivationBody(item.Body)
	}
	return err == nil, err
}

func resolve(ctx context.Context, table Control, alias string) (id string, created int64, err error) {
	item, err := table.Get(ctx, KindTenantAlias, alias)
	if err != nil {
		return "", 0, fmt.Errorf("read the alias: %w", err)
	}
	body, err := decodeAliasBody(item.Body)
	if err != nil {
		return "", 0, fmt.Errorf("read the alias: %w", err)
	}
	return body.Tenant, body.Created, nil
}
