package authz

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

// running starts Keys that poll and stops them when the test ends.
func running(t *testing.T, log *bytes.Buffer, tables []RegionControl) *Keys {
	t.Helper()
	k := NewKeys(KeysConfig{Tables: tables, Now: time.Now, Random: rand.Reader, Logger: zerolog.New(log)})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return k
}

func TestBeforeTheFirstPollNobodyIsRefused(t *testing.T) {
	k := NewKeys(KeysConfig{Tables: regions(newMemory(), newMemory()), Now: time.Now, Random: rand.Reader})
	if _, err := k.Authenticate(secret.NewText("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v: whether a key is good is not known yet", err)
	}
	if err := k.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
}

// A revocation is in force at once where it was made, and within five seconds
// on every other instance, whatever the moment between two polls.
func TestRevocationIsInForceWithinFiveSeconds(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, time.Second, 1999 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			local, remote := newMemory(), newMemory()
			here := running(t, new(bytes.Buffer), regions(local, remote))
			same := running(t, new(bytes.Buffer), regions(local, remote))
			there := running(t, new(bytes.Buffer), regions(remote, local))
			id, cred := mustCreate(t, here, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
			time.Sleep(4*time.Second + after)
			for _, k := range []*Keys{here, same, there} {
				if _, err := k.Authenticate(cred); err != nil {
					t.Fatalf("before: %v", err)
				}
			}
			if notReached, err := here.Revoke(t.Context(), tenantA, id); err != nil || notReached != nil {
				t.Fatal(notReached, err)
			}
			if _, err := here.Authenticate(cred); !errors.Is(err, ErrUnauthenticated) {
				t.Errorf("here, at once: %v", err)
			}
			time.Sleep(5 * time.Second)
			for i, k := range []*Keys{here, same, there} {
				if _, err := k.Authenticate(cred); !errors.Is(err, ErrUnauthenticated) {
					t.Errorf("instance %d after five seconds: %v", i, err)
				}
			}
		})
	}
}

// An instance that cannot learn of revocations for five seconds serves nobody
// until it can; the failure and its end are logged once each.
func TestAnInstanceThatCannotPollServesNobody(t *testing.T) {
	for name, f := range map[string]fault{"fails": fails, "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, log := newMemory(), new(bytes.Buffer)
				k := running(t, log, regions(local, newMemory()))
				_, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
				local.breaks(f)
				time.Sleep(4900 * time.Millisecond)
				if _, err := k.Authenticate(cred); err != nil {
					t.Errorf("within five seconds: %v", err)
				}
				time.Sleep(101 * time.Millisecond)
				if _, err := k.Authenticate(cred); !errors.Is(err, ErrUnavailable) {
					t.Errorf("after five seconds: %v", err)
				}
				if err := k.Ready(); !errors.Is(err, ErrUnavailable) {
					t.Errorf("ready: %v", err)
				}
				time.Sleep(time.Minute)
				local.breaks(works)
				time.Sleep(4 * time.Second)
				if _, err := k.Authenticate(cred); err != nil || k.Ready() != nil {
					t.Errorf("once it polls again: %v", err)
				}
				synctest.Wait()
				if lines := strings.Count(log.String(), "\n"); lines != 2 {
					t.Errorf("%d lines logged:\n%s", lines, log)
				}
			})
		})
	}
}

func TestTheEndOfRunIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, log := newMemory(), new(bytes.Buffer)
		local.breaks(hangs)
		k := NewKeys(KeysConfig{Tables: regions(local, newMemory()), Now: time.Now, Random: rand.Reader, Logger: zerolog.New(log)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		k.Run(ctx)
		if log.Len() > 0 {
			t.Errorf("logged: %s", log)
		}
	})
}

// A listing that was read before a key was made or revoked does not undo it.
// (No synctest: waiting for a mutex does not let its time pass.)
func TestASlowPollForgetsNothing(t *testing.T) {
	local, remote := newMemory(), newMemory()
	k := newKeys(t, regions(local, remote), at(start(t)))
	oldID, oldCred := mustCreate(t, k, tenantA, NewKey{Name: "old", Roles: []Role{RoleReader}})

	// The poll has read both kinds and is held up until a key and a revocation
	// are in the local table: then they are written to the remote one.
	read, written := make(chan struct{}), make(chan struct{}, 2)
	local.breaksOn(func(op string, kind Kind) fault {
		if op == "listed" && kind == KindRevocation {
			close(read)
			<-written
			<-written
		}
		return works
	})
	remote.breaksOn(func(op string, _ Kind) fault {
		if op == "insert" {
			written <- struct{}{}
		}
		return works
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-read
	var cred secret.Text
	wg.Go(func() {
		var err error
		if _, cred, _, err = k.Create(t.Context(), tenantA, NewKey{Name: "new", Roles: []Role{RoleReader}}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if _, err := k.Revoke(t.Context(), tenantA, oldID); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if _, err := k.Authenticate(cred); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := k.Authenticate(oldCred); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("the revoked key: %v", err)
	}
}

func TestRevokeAgainReachesTheOtherRegion(t *testing.T) {
	local, remote := newMemory(), newMemory()
	now := start(t)
	k := newKeys(t, regions(local, remote), func() time.Time { return now })
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	remote.breaks(fails)
	if notReached, err := k.Revoke(t.Context(), tenantA, id); err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
		t.Fatal(notReached, err)
	}
	remote.breaks(works)
	now = now.Add(time.Minute)
	if notReached, err := k.Revoke(t.Context(), tenantA, id); err != nil || notReached != nil {
		t.Fatal(notReached, err)
	}
	if !bytes.Equal(local.body(KindRevocation, id), remote.body(KindRevocation, id)) {
		t.Error("the regions hold different revocations")
	}
	there := newKeys(t, regions(remote, local), func() time.Time { return now })
	if _, err := there.Authenticate(cred); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("there: %v", err)
	}
	keys, err := k.List(t.Context(), tenantA)
	if err != nil || keys[0].Revoked != start(t).UnixMilli() {
		t.Errorf("the first revocation counts: %+v, %v", keys, err)
	}
}

func TestRevokeFaults(t *testing.T) {
	local := newMemory()
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	insert := func(f fault) func(string, Kind) fault {
		return func(op string, _ Kind) fault {
			if op == "insert" {
				return f
			}
			return works
		}
	}
	local.breaks(fails)
	if _, err := k.Revoke(t.Context(), tenantA, id); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the table is down: %v", err)
	}
	local.breaksOn(insert(fails))
	if _, err := k.Revoke(t.Context(), tenantA, id); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the write failed: %v", err)
	}
	if _, err := k.Authenticate(cred); err != nil {
		t.Errorf("not revoked: %v", err)
	}
	local.breaksOn(insert(applied))
	if _, err := k.Revoke(t.Context(), tenantA, id); err != nil {
		t.Errorf("failed but applied: %v", err)
	}
	if _, err := k.Authenticate(cred); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("revoked: %v", err)
	}
}

// Items that cannot be read fail closed, one by one, and are logged once.
func TestUnreadableItems(t *testing.T) {
	local, log := newMemory(), new(bytes.Buffer)
	k := NewKeys(KeysConfig{Tables: regions(local, newMemory()), Now: time.Now, Random: rand.Reader, Logger: zerolog.New(log)})
	badID, badCred := mustCreate(t, k, tenantA, NewKey{Name: "bad", Roles: []Role{RoleReader}})
	revokedID, revokedCred := mustCreate(t, k, tenantA, NewKey{Name: "revoked", Roles: []Role{RoleReader}})
	movedID, _ := mustCreate(t, k, tenantA, NewKey{Name: "moved", Roles: []Role{RoleReader}})
	_, goodCred := mustCreate(t, k, tenantA, NewKey{Name: "good", Roles: []Role{RoleReader}})
	adminID, adminCred := mustCreate(t, k, tenantA, NewKey{Name: "admin", Roles: []Role{RoleAdmin}})
	readable := local.body(KindKey, badID)
	local.set(Item{KindKey, badID, bytes.Replace(readable, []byte(`"v":1`), []byte(`"v":9`), 1)})
	local.set(Item{KindRevocation, revokedID, []byte("{}")})
	local.set(Item{KindKey, movedID, local.body(KindKey, adminID)}) // the admin's hash under another id

	for range 3 {
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, adminSecret, _ := parseCredential(adminCred.Reveal())
	for name, cred := range map[string]secret.Text{
		"unreadable": badCred, "revoked by an unreadable item": revokedCred,
		"zero": credential(badID, strings.Repeat("a", secretLen)), "moved": credential(movedID, adminSecret),
	} {
		if _, err := k.Authenticate(cred); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.Authenticate(goodCred); err != nil {
		t.Errorf("good: %v", err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines logged:\n%s", lines, log)
	}
	if keys, err := k.List(t.Context(), tenantA); err != nil || len(keys) != 4 {
		t.Errorf("listed %+v, %v", keys, err)
	}
	if _, err := k.Revoke(t.Context(), tenantA, badID); !errors.Is(err, errBody) {
		t.Errorf("revoke an unreadable key: %v", err)
	}

	local.set(Item{KindKey, badID, readable}) // a replica brought what was meant
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Authenticate(badCred); err != nil {
		t.Errorf("readable again: %v", err)
	}
}

// Not even a secret whose hash were all zeros opens an item that has none.
func TestNoHashProvesNothing(t *testing.T) {
	local := newMemory()
	id, secretText, err := newCredential(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	k.hash = func(string, string) digest { return digest{} }
	for name, set := range map[string]func(){"unknown": func() {}, "unreadable": func() { local.set(Item{KindKey, id, nil}) }} {
		set()
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pr, err := k.Authenticate(credential(id, secretText)); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v", name, pr, err)
		}
	}
}
