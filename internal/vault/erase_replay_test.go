package vault_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/store"
	storeembedded "piivault/internal/store/embedded"
	"piivault/internal/vault"
	"piivault/internal/wal"
)

// restored is a vault whose records table is the one of an earlier time.
func (rw *ringWorld) restored(records []*store.Record, change func(*vault.Config)) *vault.Vault {
	rw.t.Helper()
	engine, err := wal.Open(wal.Options{Dir: rw.t.TempDir(), Region: regionA, Now: rw.clock.now, Tables: []wal.Table{storeembedded.Table()}})
	if err != nil {
		rw.t.Fatal(err)
	}
	rw.t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			rw.t.Error(err)
		}
	})
	table := storeembedded.New(engine)
	for _, r := range records {
		if _, err := table.Insert(rw.t.Context(), []store.New{{Record: r}}); err != nil {
			rw.t.Fatal(err)
		}
	}
	return rw.with(regionA, 1, ab(), func(c *vault.Config) {
		c.Store, c.Others = table, nil
		c.Audit = nil // whatever its index says is not asked
		change(c)
	})
}

func (rw *ringWorld) replay(v *vault.Vault, since time.Time) vault.ReplayResult {
	rw.t.Helper()
	done, err := v.ReplayErasures(rw.t.Context(), since)
	if err != nil {
		rw.t.Fatal(err)
	}
	return done
}

// G9: erase, restore an older copy of the table, replay: nothing is back, and
// what was written since stays. From the control table, from the audit log
// alone, and a second time.
func TestReplayAfterRestore(t *testing.T) {
	for name, noJobs := range map[string]bool{"control": false, "audit alone": true} {
		t.Run(name, func(t *testing.T) {
			rw := newRingWorld(t)
			random := rw.token(rw.a, "email", "ann@example.com")
			deterministic := rw.token(rw.a, "customer_email", "bob@example.com")
			ofSubject := rw.subjectToken(rw.a, "email", "carl@example.com", "C-1")
			kept := rw.token(rw.a, "email", "kept@example.com")
			old := rw.rows(regionA)
			restorePoint := rw.clock.now()
			rw.clock.advance(time.Minute)
			rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{random, deterministic}})
			rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"})
			rw.completeErase()
			rw.clock.advance(time.Hour)
			again := rw.token(rw.a, "customer_email", "bob@example.com")
			since := rw.subjectToken(rw.a, "email", "new@example.com", "C-1")
			for _, r := range rw.rows(regionA) {
				if r.Created > restorePoint.Add(30*time.Minute).UnixMilli() {
					old = append(old, r) // written since, and there: another table's copy
				}
			}
			v := rw.restored(old, func(c *vault.Config) {
				if noJobs {
					c.Controls = []authz.RegionControl{{Region: regionA, Control: &withoutJobs{c.Controls[0].Control}}}
				}
			})
			rw.wantReveal(v, random, "ann@example.com") // the restore brought it back
			done := rw.replay(v, restorePoint)
			if done.Buried != 3 || done.Entries != 3 || (done.Jobs == 0) != noJobs {
				t.Errorf("replayed %+v", done)
			}
			rw.wantGone(v, random)
			rw.wantGone(v, ofSubject)
			rw.wantReveal(v, kept, "kept@example.com")
			rw.wantReveal(v, since, "new@example.com")
			rw.wantReveal(v, again, "bob@example.com")
			if in, err := v.Inspect(t.Context(), rw.admin, []secret.Text{again}); err != nil || in[0].Generation != 1 {
				t.Errorf("inspected %+v, %v; want generation 1", in, err)
			}
			if done := rw.replay(v, time.Time{}); done.Buried != 0 {
				t.Errorf("the second time %+v", done)
			}
			rw.wantReveal(v, again, "bob@example.com")
			rw.wantReveal(v, since, "new@example.com")
			rw.clock.advance(24 * time.Hour)
			if done := rw.replay(v, rw.clock.now()); done.Jobs != 0 || done.Entries != 0 {
				t.Errorf("since now: %+v", done)
			}
		})
	}
}

// withoutJobs is a control table that was restored, too.
type withoutJobs struct{ authz.Control }

// List implements authz.Control.
func (c *withoutJobs) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if kind == authz.KindEraseJob {
		return nil, nil
	}
	return c.Control.List(ctx, kind, after, limit)
}

// G9: an erasure that some region has not confirmed is replayed whole.
func TestReplayOfAnIncompleteErasure(t *testing.T) {
	rw := newRingWorld(t)
	token := rw.subjectToken(rw.a, "email", "ann@example.com", "C-1")
	old := rw.rows(regionA)
	rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"})
	rw.clock.advance(time.Hour)
	old[0].Created = rw.clock.now().UnixMilli() // by a region that had not seen the job
	v := rw.restored(old, func(*vault.Config) {})
	if done := rw.replay(v, time.Time{}); done.Buried != 1 {
		t.Errorf("replayed %+v", done)
	}
	rw.wantGone(v, token)
}

// storedLogs are an audit table's logs as another source would give them.
type storedLogs struct {
	audit.Source
	edit func(log audit.LogName, number uint64, block []byte) []byte // nil: not there
}

// Blocks implements audit.Source.
func (s storedLogs) Blocks(ctx context.Context, log audit.LogName, fn func(uint64, []byte) error) error {
	return s.Source.Blocks(ctx, log, func(number uint64, block []byte) error {
		if block = s.edit(log, number, slices.Clone(block)); block == nil {
			return nil
		}
		return fn(number, block)
	})
}

// noLogs is an audit table that was lost.
type noLogs struct{ audit.Source }

// Claims implements audit.Source.
func (noLogs) Claims(context.Context, func(audit.LogName, []byte) error) error { return nil }

// G9: nobody is told that there is nothing to erase by a log that is damaged,
// ends before the erasures, or is not there at all; and what it tells is done.
func TestReplayFromWhatIsLeftOfTheLogs(t *testing.T) {
	erasures := func(entries []byte) bool { return bytes.Contains(entries, []byte("\x05erase")) }
	for name, test := range map[string]struct {
		logs  func(audit.Source) audit.Source
		want  error
		found int
		holes int
	}{
		"damaged": {func(s audit.Source) audit.Source {
			return storedLogs{s, func(_ audit.LogName, _ uint64, block []byte) []byte {
				if erasures(block) {
					block[len(block)-1] ^= 1
				}
				return block
			}}
		}, audit.ErrTampered, 1, 0},
		"cut off": {func(s audit.Source) audit.Source {
			var gone bool
			return storedLogs{s, func(_ audit.LogName, _ uint64, block []byte) []byte {
				if !gone && erasures(block) {
					gone = true
					return nil
				}
				return block
			}}
		}, nil, 1, 1},
		"lost": {func(s audit.Source) audit.Source { return noLogs{s} }, vault.ErrNoAuditLogs, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rw := newRingWorld(t)
			tokens := []secret.Text{rw.token(rw.a, "email", "ann@example.com"), rw.token(rw.a, "email", "bob@example.com")}
			old := rw.rows(regionA)
			for _, token := range tokens {
				rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{token}})
			}
			v := rw.restored(old, func(c *vault.Config) {
				c.Controls = []authz.RegionControl{{Region: regionA, Control: &withoutJobs{c.Controls[0].Control}}}
				c.Logs = test.logs(c.Logs)
			})
			done, err := v.ReplayErasures(t.Context(), time.Time{})
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if done.Entries != test.found || len(done.Unfinished) != test.holes {
				t.Errorf("replayed %+v", done)
			}
		})
	}
}
