package authz

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestTenantLife(t *testing.T) {
	local, remote := newMemory(), newMemory()
	tables := regions(local, remote)
	want := Tenant{ID: tenantB, Alias: "default", Created: 5}
	got, notReached, err := CreateTenant(t.Context(), tables, want)
	if err != nil || notReached != nil || got != want {
		t.Fatalf("created %+v, %v, %v", got, notReached, err)
	}
	if _, _, err := CreateTenant(t.Context(), tables, Tenant{ID: tenantA, Alias: "other", Created: 6}); err != nil {
		t.Fatal(err)
	}
	for _, active := range []bool{false, true, true} {
		want.Active = active
		if active {
			if notReached, err := ActivateTenant(t.Context(), tables, tenantB); err != nil || notReached != nil {
				t.Fatal(notReached, err)
			}
		}
		for region, table := range map[string]*memory{"local": local, "remote": remote} {
			for _, name := range []string{tenantB, "default"} {
				if got, err := FindTenant(t.Context(), table, name); err != nil || got != want {
					t.Errorf("%s: %s is %+v, %v", region, name, got, err)
				}
			}
			all, err := ListTenants(t.Context(), table)
			if err != nil || !slices.Equal(all, []Tenant{{tenantA, "other", 6, false}, want}) {
				t.Errorf("%s: listed %+v, %v", region, all, err)
			}
		}
	}
	if _, _, err := CreateTenant(t.Context(), tables, Tenant{ID: tenantA, Alias: "default", Created: 7}); !errors.Is(err, ErrExists) {
		t.Errorf("an active tenant's alias: %v", err)
	}
}

func TestTenantsThatAreNotThere(t *testing.T) {
	table := newMemory()
	table.set(Item{KindTenantAlias, "claimed", []byte(`{"v":1,"tenant":"` + tenantA + `","created":5}`)})
	for _, name := range []string{"", "default", tenantA, "claimed", tenantA + activeSuffix} {
		if _, err := FindTenant(t.Context(), table, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := ActivateTenant(t.Context(), regions(table, newMemory()), tenantA); !errors.Is(err, ErrNotFound) {
		t.Errorf("activated what is not there: %v", err)
	}
	if all, err := ListTenants(t.Context(), table); err != nil || all != nil {
		t.Errorf("listed %+v, %v", all, err)
	}
}

// However often and wherever CreateTenant is cut off, calling it again makes
// one tenant: the first that claimed the alias.
func TestCreateTenantIsResumable(t *testing.T) {
	for _, kind := range []Kind{KindTenantAlias, KindTenant} {
		for name, f := range map[string]fault{"fails": fails, "fails but was applied": applied} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				local, remote := newMemory(), newMemory()
				tables := regions(local, remote)
				local.breaksOn(func(op string, k Kind) fault {
					if k == kind && (op == "insert" || local.count(kind) > 0) { // nor can it be read back
						return f
					}
					return works
				})
				if _, _, err := CreateTenant(t.Context(), tables, Tenant{ID: tenantA, Alias: "shop", Created: 5}); !errors.Is(err, ErrUnavailable) && f == fails {
					t.Fatalf("cut off: %v", err)
				}
				local.breaks(works)
				got, _, err := CreateTenant(t.Context(), tables, Tenant{ID: tenantB, Alias: "shop", Created: 6})
				if err != nil {
					t.Fatal(err)
				}
				if claimed := kind == KindTenant || f == applied; claimed != (got == Tenant{ID: tenantA, Alias: "shop", Created: 5}) {
					t.Errorf("resumed as %+v", got)
				}
				for _, table := range []*memory{local, remote} {
					if all, err := ListTenants(t.Context(), table); err != nil || !slices.Equal(all, []Tenant{got}) {
						t.Errorf("listed %+v, %v", all, err)
					}
				}
			})
		}
	}
}

func TestCreateTenantNamesTheRegionsNotReached(t *testing.T) {
	for _, kind := range []Kind{KindTenantAlias, KindTenant} {
		remote := newMemory()
		remote.breaksOn(func(_ string, k Kind) fault {
			if k == kind {
				return fails
			}
			return works
		})
		_, notReached, err := CreateTenant(t.Context(), regions(newMemory(), remote), Tenant{ID: tenantA, Alias: "shop", Created: 5})
		if err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
			t.Errorf("%s: got %v, %v", kind, notReached, err)
		}
	}
}

func TestCreateTenantRefuses(t *testing.T) {
	for _, alias := range []string{"", "Shop", "1shop", "-shop", "shop_eu", "a b", "é", strings.Repeat("a", 64), tenantA, "shop#active"} {
		_, _, err := CreateTenant(t.Context(), regions(newMemory(), newMemory()), Tenant{ID: tenantA, Alias: alias, Created: 1})
		var refused *InputError
		if !errors.As(err, &refused) || refused.Code != "bad_alias" {
			t.Errorf("%q: %v", alias, err)
		}
	}
	for _, tenant := range []Tenant{{ID: "default", Alias: "a", Created: 1}, {ID: tenantA, Alias: "a"}} {
		_, _, err := CreateTenant(t.Context(), regions(newMemory(), newMemory()), tenant)
		var refused *InputError
		if !errors.As(err, &refused) || refused.Code != "bad_tenant" {
			t.Errorf("%+v: %v", tenant, err)
		}
	}
}

// What cannot be read is an error, never an absent or an inactive tenant.
func TestUnreadableTenants(t *testing.T) {
	lookups := map[string]func(context.Context, *memory) error{
		"by id":    func(ctx context.Context, m *memory) error { _, err := FindTenant(ctx, m, tenantA); return err },
		"by alias": func(ctx context.Context, m *memory) error { _, err := FindTenant(ctx, m, "shop"); return err },
		"list":     func(ctx context.Context, m *memory) error { _, err := ListTenants(ctx, m); return err },
		"create": func(ctx context.Context, m *memory) error {
			_, _, err := CreateTenant(ctx, regions(m, newMemory()), Tenant{ID: tenantB, Alias: "shop", Created: 5})
			return err
		},
	}
	for _, item := range []Item{
		{KindTenant, tenantA, nil},
		{KindTenant, tenantA + activeSuffix, []byte("{}")},
		{KindTenantAlias, "shop", []byte("[]")},
	} {
		table := newMemory()
		if _, _, err := CreateTenant(t.Context(), regions(table, newMemory()), Tenant{ID: tenantA, Alias: "shop", Created: 5}); err != nil {
			t.Fatal(err)
		}
		table.set(item)
		failed := 0
		for name, lookup := range lookups {
			if err := lookup(t.Context(), table); errors.Is(err, errBody) {
				failed++
			} else if err != nil && !errors.Is(err, ErrExists) {
				t.Errorf("%s %s: %v", item.Kind, name, err)
			}
			table.breaks(fails)
			if err := lookup(t.Context(), table); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s while the table is down: %v", name, err)
			}
			table.breaks(works)
		}
		if failed < 1 || (item.Kind == KindTenant && failed < 3) {
			t.Errorf("%s %s: only %d of the lookups saw it", item.Kind, item.ID, failed)
		}
	}
}

func TestNewTenantID(t *testing.T) {
	a, err := NewTenantID(rand.Reader)
	b, err2 := NewTenantID(rand.Reader)
	if err != nil || err2 != nil || a == b || !isID(a) || !isID(b) {
		t.Errorf("drew %q and %q: %v, %v", a, b, err, err2)
	}
	if _, err := NewTenantID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("drew an id of 15 bytes")
	}
}
