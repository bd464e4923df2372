package vault_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto/localkms"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

func (rw *ringWorld) coverage(v *vault.Vault) vault.CoverageResult {
	rw.t.Helper()
	c, err := v.Coverage(rw.t.Context(), rw.admin, "")
	if err != nil {
		rw.t.Fatal(err)
	}
	return c
}

// G3: at any time one call tells what could not be read if a region were lost.
func TestCoverage(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 3)
	rw.b.BeatPass(t.Context())
	rw.settle()
	rw.clock.advance(7 * time.Second)
	c := rw.coverage(rw.a)
	if c.Records != 3 || c.Degraded != 0 || c.Unreadable != 0 || c.TenantSecrets != 1 || c.Outdated != 0 || c.Epoch != 1 {
		t.Fatalf("healthy: %+v", c)
	}
	for _, r := range c.Regions {
		if r.KMS != "up" || r.IfLost != 0 || r.SecretsIfLost != 0 || r.MissingCopies != 0 {
			t.Errorf("healthy: %+v", r)
		}
	}
	if c.Regions[0].LagKnown || !c.Regions[1].LagKnown || c.Regions[1].Lag.Round(time.Second) != 7*time.Second {
		t.Errorf("lag %+v", c.Regions)
	}
	rw.keyDown("b")
	rw.some(rw.a, 2)
	rw.a.ProbePass(t.Context())
	if c = rw.coverage(rw.a); c.Degraded != 2 || c.Regions[0].IfLost != 5 || c.Regions[0].SecretsIfLost != 1 || c.Regions[1].IfLost != 0 || c.Regions[1].MissingCopies != 2 {
		t.Errorf("with B down all hangs on A: %+v", c)
	}
	rw.keyDown()
	rw.a.ProbePass(t.Context())
	if c = rw.coverage(rw.a); c.Regions[0].IfLost != 2 || c.Regions[0].SecretsIfLost != 0 || c.Unreadable != 0 {
		t.Errorf("two records lack B's copy: %+v", c)
	}
	rw.kms["a"].SetFault(localkms.Denied, 0) // somebody disabled a key: its copies do not count
	rw.a.ProbePass(t.Context())
	if c = rw.coverage(rw.a); c.Unreadable != 2 || c.Regions[0].IfLost != 2 || c.Regions[1].IfLost != 5 || c.Regions[0].KMS != "denied" {
		t.Errorf("with A's key disabled: %+v", c)
	}
	rw.keyDown()
	added := rw.with(regionA, 2, abc())
	if c = rw.coverage(added); c.Outdated != 5 || c.Degraded != 5 || c.Regions[2].MissingCopies != 5 {
		t.Errorf("a region added: %+v", c)
	}
	if err := added.StartRepair(t.Context(), rw.admin); err != nil { // B's share, too
		t.Fatal(err)
	}
	added.RepairPass(t.Context())
	if c = rw.coverage(added); c.Outdated != 0 || c.Degraded != 0 || c.Regions[0].IfLost != 0 {
		t.Errorf("and repaired: %+v", c)
	}
}

// slowScans is a table of which a second shows three rows.
type slowScans struct{ store.Store }

// Scan implements store.Store.
func (s slowScans) Scan(ctx context.Context, part store.Part, page store.Page) ([]store.Row, string, error) {
	time.Sleep(time.Second)
	page.Limit = 3
	return s.Store.Scan(ctx, part, page)
}

// A table that one request cannot read is counted in several, each of which
// gets further, and every record once.
func TestCoverageInSeveralAnswers(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 5 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			const n = 20
			rw := newRingWorld(t)
			rw.some(rw.a, n)
			rw.degraded(2)
			v := rw.with(regionA, 1, ab(), func(c *vault.Config) { c.Store = slowScans{c.Store} })
			var records, degraded, secrets, answers int
			for cursor := ""; ; answers++ {
				ctx, cancel := context.WithDeadline(context.WithoutCancel(t.Context()), time.Now().Add(timeout))
				c, err := v.Coverage(ignoreDeadline{ctx}, rw.admin, cursor)
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				records, degraded, secrets = records+c.Records, degraded+c.Degraded, secrets+c.TenantSecrets
				if cursor = c.NextCursor; cursor == "" {
					break
				}
			}
			if records != n+2 || degraded != 2 || secrets != 1 {
				t.Errorf("%s: counted %d records, %d degraded, %d secrets", timeout, records, degraded, secrets)
			}
			if want := timeout < time.Hour; (answers > 1) != want {
				t.Errorf("%s: %d answers with more to come", timeout, answers)
			}
		})
	}
}

// ignoreDeadline is a context that is never done but says when it would be.
type ignoreDeadline struct{ context.Context }

// Done implements context.Context.
func (ignoreDeadline) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (ignoreDeadline) Err() error { return nil }

func TestCoverageRefusesForeignCursors(t *testing.T) {
	rw := newRingWorld(t)
	rw.some(rw.a, 2)
	for _, cursor := range []string{"x", "0", ".", "0.%", "1.~0.", "0.~0.", "16.", "-1.", "+1.", "00.", "0.~", "~0.", " 0.", "0." + strings.Repeat("A", 1023)} {
		c, err := rw.a.Coverage(t.Context(), rw.admin, cursor)
		wantCode(t, err, vault.ErrInvalid, "invalid_cursor")
		if c.Records != 0 {
			t.Errorf("%q: %d records with the refusal", cursor, c.Records)
		}
	}
}

func TestCoverageIsForOperators(t *testing.T) {
	rw := newRingWorld(t)
	if _, err := rw.a.Coverage(t.Context(), rw.as(authz.RoleOperator), ""); err != nil {
		t.Errorf("an operator: %v", err)
	}
	_, err := rw.a.Coverage(t.Context(), rw.as(authz.RoleReader), "")
	wantCode(t, err, vault.ErrForbidden, "forbidden")
}

func TestCoverageLeavesOutWhatExpired(t *testing.T) {
	rw := newRingWorld(t)
	rw.token(rw.a, "note", "call back")
	rw.token(rw.a, "email", "ann@example.com")
	rw.clock.advance(2 * time.Hour)
	if c := rw.coverage(rw.a); c.Records != 1 {
		t.Errorf("%d records, want 1", c.Records)
	}
}

// Explain tells who may read a value and why, and what one KMS call opens.
func TestExplain(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.token(rw.a, "email", "ann@example.com")
	out, err := rw.a.Explain(t.Context(), rw.admin, []secret.Text{token, secret.NewText("x")})
	if err != nil || out[0].Err != nil || out[1].Err == nil || out[0].MaxFields != 1 {
		t.Fatalf("explained %+v, %v", out, err)
	}
	got := map[authz.Role]vault.Reveal{}
	for _, r := range out[0].Readers {
		got[r.Role] = r.Reveal
		if len(r.Policies) == 0 {
			t.Errorf("%s may, but by which policy?", r.Role)
		}
	}
	if len(got) != 2 || got[authz.RoleReader] != vault.Plain || got[authz.RoleSupport] != vault.Masked {
		t.Errorf("readers %v", got)
	}
	in, err := rw.a.Inspect(t.Context(), rw.admin, []secret.Text{token})
	if err != nil || in[0].Readers != nil {
		t.Errorf("inspected %+v, %v", in, err)
	}
}
