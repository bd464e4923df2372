package vault_test

import (
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// A job that came to one region alone, from one that was lost then, is sent to
// the others by that one: it completes, and what it names ends there too (G9).
func TestAJobThatOthersDoNotKnowIsSentAgain(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.b, "customer_email", "ann@example.com")
	alone := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Controls = c.Controls[:1] })
	rw.erase(alone, vault.EraseRequest{Tokens: []secret.Text{token}})
	there := func() bool {
		jobs, err := rw.cfgs[regionB].Controls[0].Control.List(t.Context(), authz.KindEraseJob, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(jobs) > 0
	}
	rw.a.ErasePass(t.Context())
	if there() {
		t.Fatal("the other region knows already")
	}
	rw.clock.advance(2 * time.Hour)
	rw.a.ErasePass(t.Context())
	if !there() {
		t.Error("the other region does not know after two hours")
	}
}
