package vault_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/vault"
)

// A job that cannot be read here, of a newer version for example, is told of
// and does not hold up the others (G9); who starts refuses to.
func TestUnknownEraseJobHoldsUpNoOther(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.b, "email", "ann@example.com")
	for _, body := range []string{"", `{"v":2,"tenant":"t"}`, `{"v":1}`} {
		item := authz.Item{Kind: authz.KindEraseJob, ID: "00000000-" + body, Body: []byte(body)}
		if err := rw.cfgs[regionA].Controls[0].Control.Insert(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	rw.clock.advance(2 * time.Hour)
	rw.erase(rw.b, vault.EraseRequest{Tokens: []secret.Text{token}})
	rw.a.ErasePass(t.Context())
	if n := len(rw.entries(rw.a, "confirm_erase")); n != 1 {
		t.Errorf("%d confirmations", n)
	}
	rw.settle()
	rw.wantGone(rw.a, token)
	v, err := vault.New(*rw.cfgs[regionA])
	if err != nil {
		t.Fatal(err)
	}
	if v.Start(t.Context()) == nil {
		t.Error("an instance started without knowing what is erased")
	}
}

// unlisted loses one listing of erase jobs.
type unlisted struct {
	authz.Control
	fail  atomic.Bool
	froms []string
}

// List implements authz.Control.
func (c *unlisted) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if kind == authz.KindEraseJob {
		c.froms = append(c.froms, after)
		if c.fail.Load() {
			return nil, errFault
		}
	}
	return c.Control.List(ctx, kind, after, limit)
}

// Polls look back a day, and every hour at everything: at once again where
// that failed (G9).
func TestPollsOfEverything(t *testing.T) {
	rw := newRingWorld(t)
	control := &unlisted{Control: rw.cfgs[regionA].Controls[0].Control}
	v := rw.with(regionA, 1, ab(), func(c *vault.Config) {
		c.Controls = []authz.RegionControl{{Region: regionA, Control: control}}
	})
	poll := func() (whole bool) {
		control.froms = nil
		v.ErasePass(t.Context())
		return control.froms[0] == ""
	}
	if control.froms[0] != "" {
		t.Error("the first is not of everything")
	}
	if poll() {
		t.Error("of everything each time")
	}
	day := rw.clock.now().Add(-24 * time.Hour).UnixMilli()
	if id := control.froms[0]; id != jobIDAt(day) && id != jobIDAt(day-1) {
		t.Errorf("from %s", id)
	}
	rw.clock.advance(time.Hour)
	control.fail.Store(true)
	for range 2 {
		if !poll() {
			t.Error("after an hour, failing, not of everything")
		}
	}
	control.fail.Store(false)
	if !poll() {
		t.Error("not of everything when it can be")
	}
	if poll() {
		t.Error("of everything again")
	}
}

// jobIDAt is how ids of a time begin (RFC 9562 §5.7).
func jobIDAt(ms int64) string {
	id := fmt.Sprintf("%012x", ms)
	return id[:8] + "-" + id[8:]
}
