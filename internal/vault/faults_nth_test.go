package vault_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// nth fails the n-th call, of all those that a vault makes of its tables and log.
type nth struct{ left atomic.Int64 }

func (n *nth) err() error {
	if n.left.Add(-1) == 0 {
		return errFault
	}
	return nil
}

type nthStore struct {
	store.Store
	*nth
}

func (s nthStore) Read(ctx context.Context, refs []store.Ref) ([]store.State, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Read(ctx, refs)
}

func (s nthStore) Bury(ctx context.Context, keys []store.Key) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Bury(ctx, keys)
}

func (s nthStore) Delete(ctx context.Context, keys []store.Key) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, keys)
}

func (s nthStore) Replace(ctx context.Context, old, next *store.Record) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Replace(ctx, old, next)
}

func (s nthStore) BySubject(ctx context.Context, tenant, subject string, p store.Page) ([]store.Key, string, error) {
	if err := s.err(); err != nil {
		return nil, "", err
	}
	return s.Store.BySubject(ctx, tenant, subject, p)
}

func (s nthStore) Degraded(ctx context.Context, region string, p store.Page) ([]store.Key, string, error) {
	if err := s.err(); err != nil {
		return nil, "", err
	}
	return s.Store.Degraded(ctx, region, p)
}

func (s nthStore) CountDegraded(ctx context.Context, limit int) (map[string]int, int, error) {
	if err := s.err(); err != nil {
		return nil, 0, err
	}
	return s.Store.CountDegraded(ctx, limit)
}

func (s nthStore) Expired(ctx context.Context, before int64, p store.Page) ([]store.Key, string, error) {
	if err := s.err(); err != nil {
		return nil, "", err
	}
	return s.Store.Expired(ctx, before, p)
}

func (s nthStore) Swept(ctx context.Context, p store.Page) ([]store.Key, string, error) {
	if err := s.err(); err != nil {
		return nil, "", err
	}
	return s.Store.Swept(ctx, p)
}

func (s nthStore) Scan(ctx context.Context, part store.Part, p store.Page) ([]store.Row, string, error) {
	if err := s.err(); err != nil {
		return nil, "", err
	}
	return s.Store.Scan(ctx, part, p)
}

func (s nthStore) Seen(ctx context.Context, refs []store.Ref) ([]store.Key, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Seen(ctx, refs)
}

func (s nthStore) Get(ctx context.Context, key store.Key) (*store.Record, bool, error) {
	if err := s.err(); err != nil {
		return nil, false, err
	}
	return s.Store.Get(ctx, key)
}

func (s nthStore) Beats(ctx context.Context) (map[string]int64, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Beats(ctx)
}

type nthControl struct {
	authz.Control
	*nth
}

func (c nthControl) Insert(ctx context.Context, item authz.Item) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Control.Insert(ctx, item)
}

func (c nthControl) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	return c.Control.List(ctx, kind, after, limit)
}

func (c nthControl) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if err := c.err(); err != nil {
		return authz.Item{}, err
	}
	return c.Control.Get(ctx, kind, id)
}

func (c nthControl) Replace(ctx context.Context, old, next authz.Item) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Control.Replace(ctx, old, next)
}

type nthLog struct {
	audit.Log
	*nth
}

func (l nthLog) Append(entries []audit.Entry) audit.Pending {
	if l.err() != nil {
		return failedAppend{}
	}
	return l.Log.Append(entries)
}

type nthSource struct {
	audit.Source
	*nth
}

func (s nthSource) Claims(ctx context.Context, fn func(audit.LogName, []byte) error) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Source.Claims(ctx, fn)
}

func (s nthSource) Blocks(ctx context.Context, log audit.LogName, fn func(uint64, []byte) error) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Source.Blocks(ctx, log, fn)
}

// Whatever fails in erasure, repair, sweeping and coverage, somebody hears of
// it: the caller, or the log of warnings, or the status; and what failed is
// done by the next try (G3, G9).
func TestEveryFaultIsToldOf(t *testing.T) {
	type world struct {
		*ringWorld
		v      *vault.Vault
		random secret.Text
		shared secret.Text
		job    string // an erasure that is not complete
	}
	for _, test := range []struct {
		name  string
		epoch uint64
		ring  []member
		do    func(w *world) error
		done  func(w *world)
	}{
		{
			"erase tokens", 1, ab(),
			func(w *world) error {
				_, err := w.v.Erase(w.ctx(), w.admin, vault.EraseRequest{Tokens: []secret.Text{w.random, w.shared}})
				return err
			},
			func(w *world) { w.wantGone(w.a, w.random); w.wantGone(w.a, w.shared) },
		},
		{
			"erase a subject", 1, ab(),
			func(w *world) error {
				_, err := w.v.Erase(w.ctx(), w.admin, vault.EraseRequest{SubjectID: "C-1"})
				return err
			},
			func(w *world) { w.wantGone(w.a, w.shared) },
		},
		{
			"erase a subject again", 1, ab(),
			func(w *world) error {
				_, err := w.v.Erase(w.ctx(), w.admin, vault.EraseRequest{SubjectID: "C-1"})
				return err
			},
			func(w *world) { w.wantGone(w.a, w.shared) },
		},
		{
			"the status of an erasure", 1, ab(),
			func(w *world) error {
				_, err := w.v.Erase(w.ctx(), w.admin, vault.EraseRequest{Job: w.job})
				return err
			},
			func(*world) {},
		},
		{
			"an erase job's pass", 1, ab(),
			func(w *world) error { w.v.ErasePass(w.ctx()); return nil },
			func(*world) {},
		},
		{
			"repair", 2, abc(),
			func(w *world) error { w.v.RepairPass(w.ctx()); return nil },
			func(w *world) {
				if c := w.coverage(w.v); c.Outdated != 0 || c.Degraded != 0 {
					w.t.Errorf("coverage %+v", c)
				}
			},
		},
		{
			"the status of repair", 2, abc(),
			func(w *world) error { _, err := w.v.RepairStatus(w.ctx(), w.admin); return err },
			func(*world) {},
		},
		{
			"coverage", 2, abc(),
			func(w *world) error { _, err := w.v.Coverage(w.ctx(), w.admin, ""); return err },
			func(*world) {},
		},
		{
			"replay", 1, ab(),
			func(w *world) error {
				_, err := w.v.ReplayErasures(w.ctx(), time.Time{})
				return err
			},
			func(*world) {},
		},
		{
			"sweep", 1, ab(),
			func(w *world) error { w.v.SweepPass(w.ctx()); return nil },
			func(*world) {},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for call := int64(1); call < 100; call++ {
				rw := newRingWorld(t)
				w := &world{ringWorld: rw}
				rw.keyDown("b")
				w.random = rw.token(rw.a, "email", "ann@example.com")
				w.shared = rw.subjectToken(rw.a, "customer_email", "bob@example.com", "C-1")
				rw.keyDown()
				switch test.name {
				case "erase a subject again", "the status of an erasure":
					w.job = rw.erase(rw.a, vault.EraseRequest{SubjectID: "C-1"}).Job
				case "sweep":
					rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{w.random}})
					rw.token(rw.a, "note", "call back")
					rw.clock.advance(3 * time.Hour)
				case "an erase job's pass", "replay":
					rw.erase(rw.b, vault.EraseRequest{Tokens: []secret.Text{w.random, w.shared}})
					rw.erase(rw.b, vault.EraseRequest{SubjectID: "C-1"})
					rw.erase(rw.a, vault.EraseRequest{Tokens: []secret.Text{rw.token(rw.a, "email", "c@example.com")}})
				}
				n := new(nth)
				n.left.Store(1 << 40)
				var warned bytes.Buffer
				w.v = rw.with(regionA, test.epoch, test.ring, func(c *vault.Config) {
					c.Store, c.Log, c.Logs = nthStore{c.Store, n}, nthLog{c.Log, n}, nthSource{c.Logs, n}
					c.Controls = []authz.RegionControl{{Region: regionA, Control: nthControl{c.Controls[0].Control, n}}}
					c.Logger = zerolog.New(&warned).Level(zerolog.WarnLevel)
					c.RepairWorkers = 1
				})
				rw.clock.advance(time.Minute)
				n.left.Store(call)
				err := test.do(w)
				if n.left.Load() > 0 { // all of its calls have failed once
					if err != nil || warned.Len() > 0 {
						t.Errorf("without a fault: %v, %s", err, warned.String())
					}
					return
				}
				n.left.Store(1 << 40)
				if err == nil && warned.Len() == 0 {
					t.Errorf("call %d failed, and nobody hears of it", call)
				}
				if err := test.do(w); err != nil {
					t.Errorf("after call %d failed: %v", call, err)
				}
				test.done(w)
			}
			t.Error("it never came to its end")
		})
	}
}
