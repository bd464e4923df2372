package vault_test

import (
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// asC is region C's first instance in a ring that it has joined, on a copy of
// what is in A's tables.
func (rw *ringWorld) asC(epoch uint64, members []member) *vault.Vault {
	rw.t.Helper()
	rw.cfgs[regionC] = new(*rw.cfgs[regionA])
	return rw.with(regionC, epoch, members, func(c *vault.Config) {
		c.Controls = []authz.RegionControl{{Region: regionC, Control: c.Controls[0].Control}}
	})
}

// G1, G9: a region that joins does not carry out again what was erased before
// it came: what was made since stays, and may be made.
func TestJoiningRegionLeavesOldErasuresAlone(t *testing.T) {
	rw := newRingWorld(t)
	erased := rw.token(rw.a, "customer_email", "bob@example.com")
	gone := rw.subjectToken(rw.a, "email", "ann@example.com", "C-1")
	rw.settle()
	rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{erased}})
	rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"})
	rw.completeErase()
	again := rw.token(rw.a, "customer_email", "bob@example.com")
	since := rw.subjectToken(rw.a, "email", "new@example.com", "C-1")
	rw.clock.advance(time.Hour)

	a := rw.with(regionA, 2, abc())
	c := rw.asC(2, abc())
	for range 3 {
		c.ErasePass(t.Context())
		a.ErasePass(t.Context())
		rw.clock.advance(time.Minute)
	}
	for _, v := range []*vault.Vault{a, c} {
		rw.wantGone(v, gone)
		rw.wantReveal(v, since, "new@example.com")
		rw.wantReveal(v, again, "bob@example.com")
	}
	rw.subjectToken(a, "email", "newer@example.com", "C-1")
	rw.token(a, "customer_email", "bob@example.com")
	done := rw.replay(a, time.Time{})
	if done.Buried != 0 {
		t.Errorf("replayed %+v", done)
	}
	rw.wantReveal(a, again, "bob@example.com")
}
