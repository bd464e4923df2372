package vault_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

func onlyB() []member { return []member{{regionB, "b", nil}} }

// start is what starting an instance with a new ring says.
func (rw *ringWorld) start(region string, epoch uint64, members []member, change ...func(*vault.Config)) error {
	rw.t.Helper()
	cfg := *rw.cfgs[region]
	rw.install(&cfg, region, epoch, members)
	for _, c := range change {
		c(&cfg)
	}
	v, err := vault.New(cfg)
	if err != nil {
		rw.t.Fatal(err)
	}
	return v.Start(rw.t.Context())
}

func (rw *ringWorld) wantLoss(err error) {
	rw.t.Helper()
	if !errors.Is(err, vault.ErrRingLoses) {
		rw.t.Errorf("got %v, want a refusal of the ring", err)
	}
}

// G3: a region does not leave the ring while a record has its copy alone: not
// before repair, unless somebody gives the record up.
func TestARingThatLosesARecordIsNotTakenIntoUse(t *testing.T) {
	for _, way := range []string{"repaired", "erased", "given up"} {
		t.Run(way, func(t *testing.T) {
			rw := newRingWorld(t)
			rw.keyDown("b")
			token := rw.token(rw.a, "email", "ann@example.com")
			rw.token(rw.a, "note", "expires") // in an hour
			rw.keyDown()
			rw.clock.advance(2 * time.Hour)
			rw.settle()
			rw.wantLoss(rw.start(regionB, 2, onlyB()))
			if err := rw.start(regionB, 1, ab()); err != nil {
				t.Errorf("the ring in use: %v", err)
			}
			var accept bool
			switch way {
			case "repaired":
				rw.a.ProbePass(rw.ctx())
				rw.a.RepairPass(rw.ctx())
			case "erased":
				rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
			default:
				accept = true
			}
			rw.settle()
			if err := rw.start(regionB, 2, onlyB(), func(c *vault.Config) { c.AcceptLoss = accept }); err != nil {
				t.Errorf("%s: %v", way, err)
			}
		})
	}
}

// G3: nor while tenant secrets have none but the copies of regions that leave.
func TestARingThatLosesTenantSecretsIsNotTakenIntoUse(t *testing.T) {
	rw := newRingWorld(t)
	rw.wantLoss(rw.start(regionA, 2, []member{{regionA, "a2", nil}}))
	if err := rw.start(regionA, 2, []member{{regionA, "a2", []string{"a"}}}); err != nil {
		t.Errorf("a former key opens them: %v", err)
	}
}

// G3: nor while the last change is not done, and records of before it would be lost.
func TestARingThatLosesWhatTheLastChangeLeft(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	added := rw.with(regionA, 2, abc())
	added.RepairTenants(rw.ctx())
	onlyC := []member{{regionC, "c", nil}, {regionA, "a2", nil}}
	rw.wantLoss(rw.start(regionA, 3, onlyC))
	added.RepairPass(rw.ctx())
	if err := rw.start(regionA, 3, onlyC); err != nil {
		t.Errorf("after it is done: %v", err)
	}
	rw.wantReveal(rw.a, token, "ann@example.com")
}

// More than can be looked at in the time of a start is not taken for nothing.
func TestALossThatCannotBeTold(t *testing.T) {
	rw := newRingWorld(t)
	rw.keyDown("b")
	rw.token(rw.a, "email", "ann@example.com")
	record := rw.rows(regionA)[0]
	rw.keyDown()
	of := func(n int) error {
		return rw.start(regionA, 2, abc(), func(c *vault.Config) { c.Store = manyDegraded{c.Store, record, n} })
	}
	rw.wantLoss(of(10_001))
	if err := of(10_000); err != nil {
		t.Errorf("as many as are looked at: %v", err)
	}
}

// manyDegraded is a table that lists more degraded records than anybody reads.
type manyDegraded struct {
	store.Store
	record *store.Record
	n      int
}

// Degraded implements store.Store.
func (m manyDegraded) Degraded(_ context.Context, _ string, page store.Page) (keys []store.Key, next string, err error) {
	from, _ := strconv.Atoi(page.After) // 0 at the beginning
	for i := from; i < min(from+page.Limit, m.n); i++ {
		keys = append(keys, store.Key{Tenant: "t", ID: strconv.Itoa(i)})
	}
	if from+page.Limit < m.n {
		next = strconv.Itoa(from + page.Limit)
	}
	return keys, next, nil
}

// Get implements store.Store.
func (m manyDegraded) Get(context.Context, store.Key) (*store.Record, bool, error) {
	return m.record, false, nil
}
