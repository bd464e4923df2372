package authz

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/secret"
)

const (
	tenantA = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	tenantB = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// newKeys returns Keys that have read their tables.
func newKeys(t *testing.T, tables []RegionControl, now func() time.Time) *Keys {
	t.Helper()
	k := NewKeys(KeysConfig{Tables: tables, Now: now, Random: rand.Reader, Logger: zerolog.Nop()})
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func mustCreate(t *testing.T, k *Keys, tenant string, req NewKey) (string, secret.Text) {
	t.Helper()
	id, cred, notReached, err := k.Create(t.Context(), tenant, req)
	if err != nil || notReached != nil {
		t.Fatal(notReached, err)
	}
	return id, cred
}

func TestAKeyIsItsTenantAndRoles(t *testing.T) {
	local, remote := newMemory(), newMemory()
	k := newKeys(t, regions(local, remote), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "shop", Roles: []Role{RoleReader, RoleWriter, RoleReader}})
	want := Principal{Tenant: tenantA, ID: "key_" + id, Name: "shop", Roles: []Role{RoleWriter, RoleReader}, Authentication: "api_key"}

	// It works here at once, and in the other region, which was written directly.
	for name, k := range map[string]*Keys{"here": k, "there": newKeys(t, regions(remote, local), at(start(t)))} {
		got, err := k.Authenticate(cred)
		if err != nil || got.Tenant != want.Tenant || got.ID != want.ID || got.Name != want.Name ||
			!slices.Equal(got.Roles, want.Roles) || got.Authentication != want.Authentication {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// Everything that is wrong is refused alike.
func TestAuthenticateRefusesAlike(t *testing.T) {
	now := start(t)
	k := newKeys(t, regions(newMemory(), newMemory()), func() time.Time { return now })
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "good", Roles: []Role{RoleReader}})
	_, otherCred := mustCreate(t, k, tenantA, NewKey{Name: "other", Roles: []Role{RoleReader}})
	_, expired := mustCreate(t, k, tenantA, NewKey{Name: "old", Roles: []Role{RoleReader}, Expires: now.Add(time.Hour)})
	revokedID, revoked := mustCreate(t, k, tenantA, NewKey{Name: "gone", Roles: []Role{RoleReader}})
	if _, err := k.Revoke(t.Context(), tenantA, revokedID); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)

	good := cred.Reveal()
	unknownID, secretText, err := newCredential(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]string{
		"empty": "", "prefix": "pvk_", "a word": "hello", "too long": good + "a", "too short": good[:len(good)-1],
		"upper case": strings.ToUpper(good), "another prefix": "pvx_" + good[4:], "a space": " " + good[:len(good)-1],
		"no separator": strings.Replace(good, id+"_", id+"a", 1), "id only": id,
		"another key's secret": credential(id, otherCred.Reveal()[31:]).Reveal(),
		"unknown id":           credential(unknownID, good[31:]).Reveal(),
		"unknown":              credential(unknownID, secretText).Reveal(),
		"expired":              expired.Reveal(), "revoked": revoked.Reveal(),
		"invalid UTF-8": good[:40] + "\xff" + good[41:], "NUL": good[:40] + "\x00" + good[41:],
	}
	for name, s := range wrong {
		if pr, err := k.Authenticate(secret.NewText(s)); err != ErrUnauthenticated || pr.Tenant != "" { //nolint:errorlint // the very same, not one wrapped with a difference
			t.Errorf("%s: got %+v, %v", name, pr, err)
		}
	}
	for i := range len(good) {
		b := []byte(good)
		if b[i] = 'c'; good[i] == 'c' {
			b[i] = 'd'
		}
		if _, err := k.Authenticate(secret.NewText(string(b))); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("character %d may be changed", i)
		}
	}
	if _, err := k.Authenticate(cred); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// A known and an unknown id cost the same hashing.
func TestAuthenticateDoesTheSameWork(t *testing.T) {
	k := newKeys(t, regions(newMemory(), newMemory()), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "good", Roles: []Role{RoleReader}})
	hashed := 0
	k.hash = func(id, secretText string) digest {
		hashed += len(id) + len(secretText)
		return hashCredential(id, secretText)
	}
	unknownID, secretText, err := newCredential(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	work := make(map[int]bool)
	for _, c := range []secret.Text{cred, credential(id, secretText), credential(unknownID, secretText)} {
		hashed = 0
		_, _ = k.Authenticate(c)
		work[hashed] = true
	}
	if len(work) != 1 || work[0] {
		t.Errorf("bytes hashed: %v", work)
	}
}

func TestCreateRefuses(t *testing.T) {
	now := start(t)
	local := newMemory()
	k := newKeys(t, regions(local, newMemory()), at(now))
	reader := []Role{RoleReader}
	tests := map[string]struct {
		tenant string
		req    NewKey
		code   string
	}{
		"no role":          {tenantA, NewKey{Name: "n"}, "no_roles"},
		"unknown role":     {tenantA, NewKey{Name: "n", Roles: []Role{RoleReader, "root"}}, "unknown_role"},
		"empty role":       {tenantA, NewKey{Name: "n", Roles: []Role{""}}, "unknown_role"},
		"role in capitals": {tenantA, NewKey{Name: "n", Roles: []Role{"Admin"}}, "unknown_role"},
		"no name":          {tenantA, NewKey{Roles: reader}, "bad_name"},
		"blank name":       {tenantA, NewKey{Name: " ", Roles: reader}, "bad_name"},
		"name with space":  {tenantA, NewKey{Name: "n ", Roles: reader}, "bad_name"},
		"long name":        {tenantA, NewKey{Name: strings.Repeat("n", 129), Roles: reader}, "bad_name"},
		"line break":       {tenantA, NewKey{Name: "a\nb", Roles: reader}, "bad_name"},
		"right to left":    {tenantA, NewKey{Name: "a\u202eb", Roles: reader}, "bad_name"},
		"invalid UTF-8":    {tenantA, NewKey{Name: "a\xff", Roles: reader}, "bad_name"},
		"expired":          {tenantA, NewKey{Name: "n", Roles: reader, Expires: now}, "bad_expiry"},
		"no tenant":        {"", NewKey{Name: "n", Roles: reader}, "bad_tenant"},
	}
	for name, tt := range tests {
		_, cred, _, err := k.Create(t.Context(), tt.tenant, tt.req)
		var refused *InputError
		if !errors.As(err, &refused) || refused.Code != tt.code || !cred.IsZero() {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if local.count(KindKey) != 0 {
		t.Error("a refused key was stored")
	}
}

func TestCreateFaults(t *testing.T) {
	req := NewKey{Name: "n", Roles: []Role{RoleReader}}
	local, remote := newMemory(), newMemory()
	k := newKeys(t, regions(local, remote), at(start(t)))

	remote.breaks(fails)
	_, cred, notReached, err := k.Create(t.Context(), tenantA, req)
	if err != nil || !slices.Equal(notReached, []string{"us-east-1"}) {
		t.Errorf("remote fails: got %v, %v", notReached, err)
	}
	if _, err := k.Authenticate(cred); err != nil {
		t.Errorf("remote fails: %v", err)
	}
	local.breaks(fails)
	if _, cred, _, err = k.Create(t.Context(), tenantA, req); !errors.Is(err, ErrUnavailable) || !cred.IsZero() {
		t.Errorf("local fails: got %v", err)
	}
	k.cfg.Random = strings.NewReader("too little randomness")
	if _, cred, _, err = k.Create(t.Context(), tenantA, req); err == nil || !cred.IsZero() {
		t.Error("a credential was made of too little randomness")
	}
}

// Keys of one tenant are nothing to another.
func TestTenantsAreSeparate(t *testing.T) {
	local := newMemory()
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	idA, credA := mustCreate(t, k, tenantA, NewKey{Name: "a", Roles: []Role{RoleAdmin}})
	_, credB := mustCreate(t, k, tenantB, NewKey{Name: "b", Roles: []Role{RoleAdmin}})

	if _, err := k.Revoke(t.Context(), tenantB, idA); !errors.Is(err, ErrNotFound) {
		t.Errorf("another tenant's key: got %v", err)
	}
	for _, id := range []string{"", "x", strings.Repeat("a", 26), idA + "#", "key_" + idA} {
		if _, err := k.Revoke(t.Context(), tenantA, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown key: got %v", err)
		}
	}
	if local.count(KindRevocation) != 0 {
		t.Error("a revocation was written")
	}
	for tenant, cred := range map[string]secret.Text{tenantA: credA, tenantB: credB} {
		pr, err := k.Authenticate(cred)
		if err != nil || pr.Tenant != tenant {
			t.Errorf("got %+v, %v", pr, err)
		}
		keys, err := k.List(t.Context(), tenant)
		if err != nil || len(keys) != 1 || keys[0].ID != strings.TrimPrefix(pr.ID, "key_") {
			t.Errorf("listed %+v, %v", keys, err)
		}
	}
	if keys, err := k.List(t.Context(), "nobody"); err != nil || keys != nil {
		t.Errorf("listed %+v, %v", keys, err)
	}
}

func TestListIsWhatTheTableHas(t *testing.T) {
	now := start(t)
	local, remote := newMemory(), newMemory()
	local.page = 2 // listings in many pages
	k := newKeys(t, regions(local, remote), func() time.Time { return now })
	elsewhere := newKeys(t, regions(local, remote), func() time.Time { return now })
	var ids []string
	for i := range 7 {
		now = now.Add(time.Second)
		id, _ := mustCreate(t, elsewhere, tenantA, NewKey{Name: fmt.Sprint("key ", i), Roles: []Role{RoleReader}, Expires: now.Add(time.Hour)})
		ids = append(ids, id)
	}
	revokedAt := now.UnixMilli()
	if _, err := elsewhere.Revoke(t.Context(), tenantA, ids[3]); err != nil {
		t.Fatal(err)
	}
	keys, err := k.List(t.Context(), tenantA)
	if err != nil || len(keys) != len(ids) {
		t.Fatalf("listed %+v, %v", keys, err)
	}
	for i, key := range keys {
		created := start(t).Add(time.Duration(i+1) * time.Second)
		wantRevoked := int64(0)
		if i == 3 {
			wantRevoked = revokedAt
		}
		if key.ID != ids[i] || key.Name != fmt.Sprint("key ", i) || !slices.Equal(key.Roles, []Role{RoleReader}) ||
			key.Created != created.UnixMilli() || key.Expires != created.Add(time.Hour).UnixMilli() || key.Revoked != wantRevoked {
			t.Errorf("%d: got %+v", i, key)
		}
	}
	keys[0].Roles[0] = RoleAdmin
	if again, _ := k.List(t.Context(), tenantA); again[0].Roles[0] != RoleReader {
		t.Error("a caller of List can change a key's roles")
	}
	local.breaks(fails)
	if _, err := k.List(t.Context(), tenantA); !errors.Is(err, ErrUnavailable) {
		t.Errorf("table down: got %v", err)
	}
}

// G4: the tables hold no credential, in no form.
func TestOnlyAHashIsStored(t *testing.T) {
	local := newMemory()
	k := newKeys(t, regions(local, newMemory()), at(start(t)))
	id, cred := mustCreate(t, k, tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}})
	stored := local.body(KindKey, id)
	_, secretText, _ := parseCredential(cred.Reveal())
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(secretText))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{secretText, string(raw), hex.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw)} {
		if bytes.Contains(bytes.ToLower(stored), []byte(strings.ToLower(form))) {
			t.Errorf("the secret is stored in %s", stored)
		}
	}
	if len(raw)*8 < 256 {
		t.Errorf("the secret has %d bits", len(raw)*8)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	k := NewKeys(KeysConfig{Tables: regions(newMemory(), newMemory()), Now: time.Now, Random: rand.Reader, Logger: zerolog.Nop()})
	var cred secret.Text
	for range 100 {
		var err error
		if _, cred, _, err = k.Create(b.Context(), tenantA, NewKey{Name: "n", Roles: []Role{RoleReader}, Expires: time.Now().Add(time.Hour)}); err != nil {
			b.Fatal(err)
		}
	}
	if err := k.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Authenticate(cred); err != nil {
			b.Fatal(err)
		}
	}
}
