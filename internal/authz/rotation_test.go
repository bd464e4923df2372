package authz

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Both keys work while they overlap, in both regions; then the new one alone.
func TestRotationOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := newMemory(), newMemory()
		here := running(t, new(bytes.Buffer), regions(local, remote))
		there := running(t, new(bytes.Buffer), regions(remote, local))
		limits := DefaultLimits().Principal
		limits.Plain = Limit{1, 2}
		id, old := mustCreate(t, here, tenantA, NewKey{
			Name: "shop", Roles: []Role{RoleReader, RoleWriter}, Expires: time.Now().Add(100 * time.Hour), Limits: &limits,
		})
		time.Sleep(10 * time.Hour)
		r, err := here.Rotate(t.Context(), tenantA, id, time.Hour)
		if err != nil || r.NotReached != nil {
			t.Fatal(r.NotReached, err)
		}
		time.Sleep(5 * time.Second)
		for name, k := range map[string]*Keys{"here": here, "there": there} {
			p, err := k.Authenticate(r.Credential)
			if err != nil || p.ID != "key_"+r.ID || p.Name != "shop" || !slices.Equal(p.Roles, []Role{RoleWriter, RoleReader}) || *p.Limits != limits {
				t.Errorf("%s: the new key: %+v, %v", name, p, err)
			}
			if refuses(k, old) {
				t.Errorf("%s: the old key in the overlap is refused", name)
			}
		}
		if want := time.Now().Add(100*time.Hour - 5*time.Second).UnixMilli(); r.Expires != want {
			t.Errorf("the new key expires at %d, not %d", r.Expires, want)
		}
		if want := time.Now().Add(time.Hour - 5*time.Second).UnixMilli(); r.OldEnds != want {
			t.Errorf("the old key ends at %d, not %d", r.OldEnds, want)
		}
		keys, err := there.List(t.Context(), tenantA)
		if err != nil || len(keys) != 2 || keys[0].Expires != r.OldEnds {
			t.Errorf("listed %+v, %v", keys, err)
		}
		time.Sleep(time.Hour - 5*time.Second)
		for name, k := range map[string]*Keys{"here": here, "there": there} {
			if !refuses(k, old) || refuses(k, r.Credential) {
				t.Errorf("%s: after the overlap", name)
			}
		}
		if _, err := here.Rotate(t.Context(), tenantA, id, time.Hour); !errors.Is(err, ErrNotActive) {
			t.Errorf("a key that is over: %v", err)
		}
	})
}

func TestRotateAtOnceAndAgain(t *testing.T) {
	now := start(t)
	k := newKeys(t, regions(newMemory(), newMemory()), func() time.Time { return now })
	id, old := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	first, err := k.Rotate(t.Context(), tenantA, id, time.Hour)
	if err != nil || first.Expires != 0 {
		t.Fatal(first.Expires, err)
	}
	second, err := k.Rotate(t.Context(), tenantA, id, 24*time.Hour) // the answer was lost
	if err != nil || refuses(k, first.Credential) || refuses(k, second.Credential) {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if !refuses(k, old) {
		t.Error("a later rotation made the old key live longer")
	}
	if _, err := k.Rotate(t.Context(), tenantA, second.ID, 0); err != nil || !refuses(k, second.Credential) {
		t.Errorf("without an overlap: %v", err)
	}
}

func TestRotateRefusesAndFails(t *testing.T) {
	local, remote := newMemory(), newMemory()
	k := newKeys(t, regions(local, remote), at(start(t)))
	id, old := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	var refused *InputError
	for _, overlap := range []time.Duration{-1, MaxOverlap + 1} {
		if _, err := k.Rotate(t.Context(), tenantA, id, overlap); !errors.As(err, &refused) {
			t.Errorf("%v: %v", overlap, err)
		}
	}
	for tenant, id := range map[string]string{tenantA: "x", tenantB: id} {
		if _, err := k.Rotate(t.Context(), tenant, id, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
	}
	for name, stop := range map[string]func(id string) ([]string, error){
		"revoked":   func(id string) ([]string, error) { return k.Revoke(t.Context(), tenantA, id) },
		"suspended": func(id string) ([]string, error) { return k.Suspend(t.Context(), tenantA, id) },
	} {
		id, _ := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
		if _, err := stop(id); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Rotate(t.Context(), tenantA, id, 0); !errors.Is(err, ErrNotActive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, f := range []Kind{KindKey, KindRetirement} {
		local.breaksOn(func(op string, kind Kind) fault {
			if op == "insert" && kind == f {
				return fails
			}
			return works
		})
		if _, err := k.Rotate(t.Context(), tenantA, id, 0); !errors.Is(err, ErrUnavailable) || refuses(k, old) {
			t.Errorf("writing a %s failed: %v", f, err)
		}
	}
	local.breaks(works)
	remote.breaks(fails)
	if r, err := k.Rotate(t.Context(), tenantA, id, 0); err != nil || !slices.Equal(r.NotReached, []string{"us-east-1"}) {
		t.Errorf("the other region is down: %v, %v", r.NotReached, err)
	}
}

// A use costs a write an hour at most, however many there are, and both
// regions list it by the hour.
func TestLastUseIsCoarse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := newMemory(), newMemory()
		writes := 0
		local.breaksOn(func(op string, kind Kind) fault {
			if kind == KindLastUse && (op == "insert" || op == "replace") {
				writes++
			}
			return works
		})
		k := running(t, new(bytes.Buffer), regions(local, remote))
		id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
		time.Sleep(time.Minute)
		if keys, err := k.List(t.Context(), tenantA); err != nil || keys[0].LastUsed != 0 || writes != 0 {
			t.Errorf("unused: %+v, %v", keys, err)
		}
		begun := time.Now()
		for range 3 * 60 * 4 { // three hours, four times a minute
			if refuses(k, cred) {
				t.Fatal("refused")
			}
			time.Sleep(15 * time.Second)
		}
		last := time.Now().Truncate(time.Hour)
		if last.Sub(begun) <= 0 {
			t.Fatal("no hour passed")
		}
		time.Sleep(2 * time.Minute)
		keys, err := k.List(t.Context(), tenantA)
		if err != nil || keys[0].LastUsed < last.Add(-time.Hour).UnixMilli() || keys[0].LastUsed > last.UnixMilli() {
			t.Errorf("used until %d: %+v, %v", last.UnixMilli(), keys, err)
		}
		if writes < 3 || writes > 4 {
			t.Errorf("%d writes in three hours", writes)
		}
		remote.set(Item{KindLastUse, id + "#eu-west-1", local.body(KindLastUse, id+"#eu-west-1")})
		there, err := newKeys(t, regions(remote, local), time.Now).List(t.Context(), tenantA)
		if err != nil || there[0].LastUsed != keys[0].LastUsed {
			t.Errorf("there: %+v, %v", there, err)
		}
	})
}
