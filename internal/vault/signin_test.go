package vault_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// A key is suspended in one region and refused in both, reinstated in the
// other and good in both; whoever did it is in the audit log.
func TestSuspendAndReinstateAcrossRegions(t *testing.T) {
	w := newWorld(t)
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{Name: "n", Roles: []authz.Role{authz.RoleReader}})
	if err != nil {
		t.Fatal(err)
	}
	signsIn := func(v *vault.Vault) bool {
		if err := v.Keys.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := v.Authenticate(t.Context(), vault.Credentials{Bearer: made.Key})
		if err != nil && !errors.Is(err, vault.ErrUnauthenticated) {
			t.Fatal(err)
		}
		return err == nil
	}
	if r, err := w.a.SuspendKey(t.Context(), w.admin, made.ID); err != nil || r.NotReached != nil || signsIn(w.a) || signsIn(w.b) {
		t.Errorf("suspended: %v, %v", r.NotReached, err)
	}
	keys, err := w.b.ListKeys(t.Context(), w.admin)
	if err != nil || !slices.ContainsFunc(keys, func(k vault.KeyInfo) bool { return k.ID == made.ID && k.Suspended != 0 }) {
		t.Errorf("listed %+v, %v", keys, err)
	}
	_, err = w.b.RotateKey(t.Context(), w.admin, made.ID, time.Hour)
	wantCode(t, err, vault.ErrConflict, "key_not_active")
	if r, err := w.b.ReinstateKey(t.Context(), w.admin, made.ID); err != nil || r.NotReached != nil || !signsIn(w.a) || !signsIn(w.b) {
		t.Errorf("reinstated: %v, %v", r.NotReached, err)
	}
	w.reindex()
	if len(w.entries(w.a, "suspend_principal")) != 1 || len(w.entries(w.b, "reinstate_principal")) != 1 {
		t.Error("the audit log does not tell of it")
	}
}

func TestRotateAcrossRegions(t *testing.T) {
	w := newWorld(t)
	made, err := w.a.CreateKey(t.Context(), w.admin, vault.NewKeyRequest{Name: "n", Roles: []authz.Role{authz.RoleReader}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.a.RotateKey(t.Context(), w.admin, made.ID, 0)
	if err != nil || r.NotReached != nil || r.ID == made.ID || r.OldExpires == 0 || r.Expires != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, v := range []*vault.Vault{w.a, w.b} {
		if err := v.Keys.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = v.Authenticate(t.Context(), vault.Credentials{Bearer: made.Key})
		wantCode(t, err, vault.ErrUnauthenticated, "unauthenticated")
		if p, err := v.Authenticate(t.Context(), vault.Credentials{Bearer: r.Key}); err != nil || p.Name != "n" {
			t.Errorf("the new key: %+v, %v", p, err)
		}
	}
	_, err = w.a.RotateKey(t.Context(), w.admin, r.ID, authz.MaxOverlap+1)
	wantCode(t, err, vault.ErrInvalid, "invalid_overlap")
	for _, do := range []func(c vault.Call, id string) error{
		func(c vault.Call, id string) error { _, err := w.a.RotateKey(t.Context(), c, id, 0); return err },
		func(c vault.Call, id string) error { _, err := w.a.SuspendKey(t.Context(), c, id); return err },
		func(c vault.Call, id string) error { _, err := w.a.ReinstateKey(t.Context(), c, id); return err },
	} {
		wantCode(t, do(w.admin, strings.Repeat("a", 26)), vault.ErrNotFound, "not_found")
		wantCode(t, do(w.as(authz.RoleReader, authz.RoleOperator), r.ID), vault.ErrForbidden, "forbidden")
	}
}

// Who fails too often is told to come back, and when.
func TestTooManyFailures(t *testing.T) {
	w := newWorld(t)
	var err error
	for range 1000 {
		_, err = w.a.Authenticate(t.Context(), vault.Credentials{Bearer: secret.NewText("pvk_wrong"), Address: "192.0.2.1"})
	}
	wantCode(t, err, vault.ErrOverBudget, "too_many_failures")
	if e := (*vault.Error)(nil); !errors.As(err, &e) || e.RetryAfter <= 0 {
		t.Errorf("%+v", e)
	}
	_, err = w.a.Authenticate(t.Context(), vault.Credentials{Bearer: secret.NewText("pvk_wrong"), Address: "192.0.2.2"})
	wantCode(t, err, vault.ErrUnauthenticated, "unauthenticated")
}
