package authz

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"piivault/internal/secret"
)

func refuses(k *Keys, cred secret.Text) bool {
	_, err := k.Authenticate(cred)
	return errors.Is(err, ErrUnauthenticated)
}

// A suspension is in force at once where it was made and within five seconds
// in the other region, and so is its end.
func TestSuspensionIsInForceWithinFiveSeconds(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 1999 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			local, remote := newMemory(), newMemory()
			here := running(t, new(bytes.Buffer), regions(local, remote))
			there := running(t, new(bytes.Buffer), regions(remote, local))
			id, cred := mustCreate(t, here, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
			time.Sleep(4*time.Second + after)

			notReached, err := here.Suspend(t.Context(), tenantA, id)
			if err != nil || notReached != nil || !refuses(here, cred) {
				t.Fatal("suspended here at once: ", notReached, err)
			}
			time.Sleep(5 * time.Second)
			if !refuses(there, cred) || !there.Suspended(tenantA, "key_"+id) {
				t.Error("not suspended there after five seconds")
			}
			if notReached, err = there.Reinstate(t.Context(), tenantA, id); err != nil || notReached != nil || refuses(there, cred) {
				t.Fatal("reinstated there at once: ", notReached, err)
			}
			time.Sleep(5 * time.Second)
			if refuses(here, cred) || here.Suspended(tenantA, "key_"+id) {
				t.Error("not reinstated here after five seconds")
			}
		})
	}
}

// A reinstatement lifts what its region knew of and nothing else, whatever the
// order in which replication brings both.
func TestASuspensionThatWasNotSeenStaysInForce(t *testing.T) {
	local, remote := newMemory(), newMemory()
	here, there := newKeys(t, regions(local, remote), at(start(t))), newKeys(t, regions(remote, local), at(start(t)))
	id, cred := mustCreate(t, here, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	if _, err := here.Suspend(t.Context(), tenantA, id); err != nil {
		t.Fatal(err)
	}
	of := subject{tenantA, "key_" + id}
	own := Item{KindSuspension, of.itemID(strings.Repeat("c", 26)), []byte(`{"v":1,"suspended":1}`)}
	remote.set(own) // made there, on its way here
	if _, err := here.Reinstate(t.Context(), tenantA, id); err != nil {
		t.Fatal(err)
	}
	if refuses(here, cred) {
		t.Error("here does not know of the other suspension yet")
	}
	if err := there.Refresh(t.Context()); err != nil || !refuses(there, cred) {
		t.Errorf("there: %v", err)
	}
	local.set(own) // replication
	if err := here.Refresh(t.Context()); err != nil || !refuses(here, cred) {
		t.Errorf("here, once it has arrived: %v", err)
	}
	if _, err := here.Reinstate(t.Context(), tenantA, id); err != nil || refuses(here, cred) {
		t.Errorf("lifted: %v", err)
	}
}

// Whatever is suspended and reinstated in two regions, in any order of
// arrival: in force is what no reinstatement names.
func TestSuspensionsDoNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := []string{strings.Repeat("a", 26), strings.Repeat("b", 26), strings.Repeat("c", 26)}
		of := rapid.SampledFrom([]subject{{tenantA, "key_x"}, {tenantB, "key_x"}, {tenantA, "mtls_x"}})
		id := rapid.SampledFrom(ids)
		var suspended, reinstated []Item
		want := map[string]bool{}
		for range rapid.IntRange(0, 6).Draw(t, "suspensions") {
			item := Item{KindSuspension, of.Draw(t, "of").itemID(id.Draw(t, "id")), []byte(`{"v":1,"suspended":7}`)}
			suspended, want[item.ID] = append(suspended, item), true
		}
		for n := range rapid.IntRange(0, 6).Draw(t, "reinstatements") {
			who, lifts := of.Draw(t, "of"), []string{id.Draw(t, "lifted")}
			b, _ := encodeBody(reinstatedBody{bodyVersion, 9, lifts})
			reinstated = append(reinstated, Item{KindReinstated, who.itemID(ids[n%3]), b})
			delete(want, who.itemID(lifts[0]))
		}
		shuffled := func(items []Item) []Item {
			return rapid.Permutation(items).Draw(t, "order")
		}
		got := map[string]bool{}
		for who, in := range readSuspensions(shuffled(suspended), shuffled(reinstated), func(Item) { t.Error("unreadable") }) {
			for id := range in {
				got[who.itemID(id)] = true
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("in force: %v, not %v", got, want)
		}
	})
}

func TestSuspendAgainReachesTheOtherRegion(t *testing.T) {
	local, remote := newMemory(), newMemory()
	k := newKeys(t, regions(local, remote), at(start(t)))
	there := newKeys(t, regions(remote, local), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	remote.breaks(fails)
	if notReached, err := k.Suspend(t.Context(), tenantA, id); err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
		t.Fatal(notReached, err)
	}
	remote.breaks(works)
	if notReached, err := k.Suspend(t.Context(), tenantA, id); err != nil || notReached != nil {
		t.Fatal(notReached, err)
	}
	if local.count(KindSuspension) != 1 || remote.count(KindSuspension) != 1 {
		t.Error("a repetition wrote another suspension")
	}
	if err := there.Refresh(t.Context()); err != nil || !refuses(there, cred) {
		t.Errorf("there: %v", err)
	}
	remote.breaks(fails)
	if notReached, err := k.Reinstate(t.Context(), tenantA, id); err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
		t.Fatal(notReached, err)
	}
	remote.breaks(works)
	if notReached, err := k.Reinstate(t.Context(), tenantA, id); err != nil || notReached != nil {
		t.Fatal(notReached, err)
	}
	if err := there.Refresh(t.Context()); err != nil || refuses(there, cred) {
		t.Errorf("there, reinstated: %v", err)
	}
}

func TestSuspendRefusesAndFails(t *testing.T) {
	local := newMemory()
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	for _, do := range []func(tenant, id string) error{
		func(tenant, id string) error { _, err := k.Suspend(t.Context(), tenant, id); return err },
		func(tenant, id string) error { _, err := k.Reinstate(t.Context(), tenant, id); return err },
	} {
		for _, bad := range []string{"", "x", strings.Repeat("a", 26), "key_", "oidc_a#b", "oidc_a/b", "root_x", "mtls_" + strings.Repeat("a", 300)} {
			if err := do(tenantA, bad); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if err := do(tenantB, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("another tenant's: %v", err)
		}
		if err := do(tenantA, "oidc_corp_alice"); err != nil {
			t.Errorf("one who has no item: %v", err)
		}
	}
	if k.Suspended(tenantA, "oidc_corp_alice") || local.count(KindSuspension) != 1 {
		t.Error("what was suspended and reinstated")
	}
	local.breaksOn(func(op string, _ Kind) fault {
		if op == "insert" {
			return fails
		}
		return works
	})
	if _, err := k.Suspend(t.Context(), tenantA, id); !errors.Is(err, ErrUnavailable) || refuses(k, cred) {
		t.Errorf("the write failed: %v", err)
	}
	local.breaksOn(func(op string, _ Kind) fault {
		if op == "insert" {
			return applied
		}
		return works
	})
	if _, err := k.Suspend(t.Context(), tenantA, id); err != nil || !refuses(k, cred) {
		t.Errorf("failed but applied: %v", err)
	}
}

// Items that cannot be read count against their principal, and are logged once.
func TestUnreadableSuspensionsAndRotations(t *testing.T) {
	local, log := newMemory(), new(bytes.Buffer)
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	k.cfg.Logger = zerolog.New(log)
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	rotated, rotatedCred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	of := subject{tenantA, "key_" + id}
	local.set(Item{KindSuspension, of.itemID(strings.Repeat("c", 26)), []byte("{}")})
	local.set(Item{KindReinstated, of.itemID(strings.Repeat("d", 26)), []byte(`{"v":1}`)})
	local.set(Item{KindRetirement, rotated + "#" + id, nil})
	local.set(Item{KindLastUse, id + "#eu-west-1", []byte("?")})
	for range 3 {
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !refuses(k, cred) || !refuses(k, rotatedCred) {
		t.Error("an item that cannot be read is ignored")
	}
	keys, err := k.List(t.Context(), tenantA)
	if err != nil || len(keys) != 2 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		if key.ID == id && key.Suspended != 1 || key.ID == rotated && key.Expires != 1 || key.LastUsed != 0 {
			t.Errorf("listed %+v", key)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 3 {
		t.Errorf("%d lines logged:\n%s", lines, log)
	}
}
