package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"piivault/internal/audit"
	"piivault/internal/authz"
	"piivault/internal/httpapi"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// canaryFaults are the failures that are injected, one at a time.
type canaryFaults struct{ store, hang, log, counters, control, panics atomic.Bool }

var errCanaryFault = errors.New("an injected fault")

type canaryStore struct {
	store.Store
	on *canaryFaults
}

func (s canaryStore) fail(ctx context.Context) error {
	if s.on.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.on.store.Load() {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, errCanaryFault)
	}
	return nil
}

func (s canaryStore) Read(ctx context.Context, refs []store.Ref) ([]store.State, error) {
	if err := s.fail(ctx); err != nil {
		return nil, err
	}
	return s.Store.Read(ctx, refs)
}

func (s canaryStore) Insert(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	if err := s.fail(ctx); err != nil {
		return nil, err
	}
	return s.Store.Insert(ctx, records)
}

type canaryLog struct {
	audit.Log
	on *canaryFaults
}

func (l canaryLog) Append(entries []audit.Entry) audit.Pending {
	return canaryPending{l.Log.Append(entries), l.on}
}

type canaryPending struct {
	audit.Pending
	on *canaryFaults
}

func (p canaryPending) Wait(ctx context.Context) (audit.Receipt, error) {
	receipt, err := p.Pending.Wait(ctx)
	if p.on.log.Load() {
		return audit.Receipt{}, fmt.Errorf("%w: %w", audit.ErrUnavailable, errCanaryFault)
	}
	return receipt, err
}

// canaryCounters grant all that is asked for.
type canaryCounters struct{ on *canaryFaults }

func (c canaryCounters) fault() error {
	if c.on.counters.Load() {
		return errCanaryFault
	}
	return nil
}

func (c canaryCounters) Take(_ context.Context, _ authz.Counter, n, _ int64) (authz.Taken, error) {
	return authz.Taken{Units: n}, c.fault()
}

func (c canaryCounters) Now(context.Context) (time.Time, error) { return time.Now(), c.fault() }

func (c canaryCounters) Used(context.Context, authz.Counter) (int64, error) { return 0, c.fault() }

func (c canaryCounters) Mark(context.Context, authz.Member, authz.Windows) (authz.Windows, error) {
	return authz.Windows{}, c.fault()
}

func (c canaryCounters) Marked(context.Context, authz.Member) (authz.Windows, error) {
	return authz.Windows{}, c.fault()
}

type canaryControl struct {
	authz.Control
	on *canaryFaults
}

func (c canaryControl) fault() error {
	if c.on.control.Load() {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, errCanaryFault)
	}
	return nil
}

func (c canaryControl) Insert(ctx context.Context, item authz.Item) error {
	return errors.Join(c.fault(), c.Control.Insert(ctx, item)) // it failed, but was applied
}

func (c canaryControl) Get(ctx context.Context, kind authz.Kind, id string) (authz.Item, error) {
	if err := c.fault(); err != nil {
		return authz.Item{}, err
	}
	return c.Control.Get(ctx, kind, id)
}

func (c canaryControl) List(ctx context.Context, kind authz.Kind, after string, limit int) ([]authz.Item, error) {
	if err := c.fault(); err != nil {
		return nil, err
	}
	return c.Control.List(ctx, kind, after, limit)
}

// canaryVault panics with what it was sent.
type canaryVault struct {
	httpapi.Vault
	on *canaryFaults
}

func (v canaryVault) Tokenize(ctx context.Context, c vault.Call, req vault.TokenizeRequest) ([]vault.Tokenized, error) {
	if v.on.panics.Load() {
		panic(fmt.Errorf("value %s", req.Items[0].Value.Bytes()))
	}
	return v.Vault.Tokenize(ctx, c, req)
}

func (v canaryVault) Detokenize(ctx context.Context, c vault.Call, req vault.DetokenizeRequest) (vault.DetokenizeResult, error) {
	out, err := v.Vault.Detokenize(ctx, c, req)
	if v.on.panics.Load() {
		panic(append([]vault.Revealed{}, out.Items...))
	}
	return out, err
}

func (v canaryVault) Inspect(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error) {
	if v.on.panics.Load() {
		panic(tokens[0].Reveal())
	}
	return v.Vault.Inspect(ctx, c, tokens)
}

func (v canaryVault) Coverage(ctx context.Context, c vault.Call, cursor string) (vault.CoverageResult, error) {
	if v.on.panics.Load() {
		panic(cursor)
	}
	return v.Vault.Coverage(ctx, c, cursor)
}

func (v canaryVault) ShowKey(ctx context.Context, c vault.Call, id string) (vault.KeyState, error) {
	if v.on.panics.Load() {
		panic(vault.KeyInfo{Name: id})
	}
	return v.Vault.ShowKey(ctx, c, id)
}
