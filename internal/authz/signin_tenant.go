package authz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// unknownFor is how long a tenant that is not there is not looked for again.
	unknownFor = 10 * time.Second
	// maxUnknown bounds those.
	maxUnknown = 1000
)

// tenantIDs finds active tenants by id or alias. Both are final, and a tenant
// once active stays so: what was found is remembered for good.
type tenantIDs struct {
	table Control
	now   func() time.Time

	mu      sync.RWMutex // guards what follows
	active  map[string]string
	unknown map[string]time.Time // until when
}

func newTenantIDs(table Control, now func() time.Time) *tenantIDs {
	return &tenantIDs{table: table, now: now, active: map[string]string{}, unknown: map[string]time.Time{}}
}

// find returns the tenant's id. ErrUnauthenticated: no active tenant is called
// so; ErrUnavailable: the table does not answer.
func (t *tenantIDs) find(ctx context.Context, name string) (string, error) {
	t.mu.RLock()
	id, until := t.active[name], t.unknown[name]
	t.mu.RUnlock()
	switch {
	case id != "":
		return id, nil
	case t.now().Before(until), !isID(name) && checkAlias(name) != nil:
		return "", ErrUnauthenticated
	}
	found, err := FindTenant(ctx, t.table, name)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && found.Active:
		delete(t.unknown, name)
		t.active[name] = found.ID
		return found.ID, nil
	case err == nil || errors.Is(err, ErrNotFound):
		if len(t.unknown) >= maxUnknown {
			clear(t.unknown)
		}
		t.unknown[name] = t.now().Add(unknownFor)
		return "", ErrUnauthenticated
	}
	return "", fmt.Errorf("find the tenant: %w: %w", err, ErrUnavailable)
}
