package main

import (
	"context"
	"crypto/rand"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"piivault/cmd/vault/internal/config"
	"piivault/cmd/vault/internal/tracing"
	"piivault/internal/audit"
	"piivault/internal/crypto"
	"piivault/internal/httpapi"
	"piivault/internal/secret"
	"piivault/internal/store"
	"piivault/internal/vault"
)

// newTracer is nil where the configuration names no collector: then nothing
// below wraps anything.
func newTracer(ctx context.Context, cfg *config.Config, instance string, logger zerolog.Logger) (*tracing.Tracer, error) {
	if cfg.Tracing.Endpoint == "" {
		return nil, nil //nolint:nilnil // no tracer is a valid one
	}
	return tracing.New(ctx, tracing.Config{
		Endpoint: cfg.Tracing.Endpoint, Sample: cfg.Tracing.Sample, Region: cfg.Region, Instance: instance,
		Version: version(debug.ReadBuildInfo()), Now: time.Now, Random: rand.Reader, Logger: logger,
	})
}

// tracedCalls tells spans of requests how many items they have.
func tracedCalls(t *tracing.Tracer, v httpapi.Vault) httpapi.Vault {
	if t == nil {
		return v
	}
	return tracedVault{v}
}

type observer = func(ctx context.Context, route string, status int, took time.Duration)

// tracedAnswers tells spans of requests how they were answered.
func tracedAnswers(t *tracing.Tracer, observe observer) observer {
	if t == nil {
		return observe
	}
	return func(ctx context.Context, route string, status int, took time.Duration) {
		tracing.Of(ctx).SetAnswer(route, status)
		observe(ctx, route, status, took)
	}
}

// traced puts spans around what requests wait for. They name an operation, a
// region and an outcome, and nothing that is stored or sent.
func traced(region string, v *vault.Config) {
	v.Store = tracedStore{v.Store, region}
	v.Log = tracedLog{v.Log, region}
	for i, other := range v.Others {
		v.Others[i].Read = func(ctx context.Context, refs []store.Ref) ([]store.State, error) {
			return spanned(ctx, "store.read", other.Region, len(refs), func(ctx context.Context) ([]store.State, error) { return other.Read(ctx, refs) })
		}
		v.Others[i].Insert = func(ctx context.Context, records []store.New) ([]store.Outcome, error) {
			return spanned(ctx, "store.insert", other.Region, len(records), func(ctx context.Context) ([]store.Outcome, error) { return other.Insert(ctx, records) })
		}
	}
}

// spanned does something inside a span, of a batch of items.
func spanned[T any](ctx context.Context, name, region string, items int, do func(context.Context) (T, error)) (T, error) {
	span := tracing.Start(ctx, name, region)
	span.SetItems(items)
	got, err := do(ctx)
	span.End(failedIf(err))
	return got, err
}

func failedIf(err error) string {
	if err != nil {
		return "failed"
	}
	return ""
}

// tracedStore puts spans around the calls that requests wait for.
type tracedStore struct {
	store.Store
	region string
}

// Read implements store.Store.
func (t tracedStore) Read(ctx context.Context, refs []store.Ref) ([]store.State, error) {
	return spanned(ctx, "store.read", t.region, len(refs), func(ctx context.Context) ([]store.State, error) { return t.Store.Read(ctx, refs) })
}

// Insert implements store.Store.
func (t tracedStore) Insert(ctx context.Context, records []store.New) ([]store.Outcome, error) {
	return spanned(ctx, "store.insert", t.region, len(records), func(ctx context.Context) ([]store.Outcome, error) { return t.Store.Insert(ctx, records) })
}

// tracedLog puts a span around the wait for an append. Until the wait begins,
// a request has other work to do.
type tracedLog struct {
	audit.Log
	region string
}

// Append implements audit.Log.
func (t tracedLog) Append(entries []audit.Entry) audit.Pending {
	return tracedPending{t.Log.Append(entries), t.region, len(entries)}
}

type tracedPending struct {
	audit.Pending
	region string
	items  int
}

// Wait implements audit.Pending.
func (p tracedPending) Wait(ctx context.Context) (audit.Receipt, error) {
	return spanned(ctx, "audit.append", p.region, p.items, p.Pending.Wait)
}

// tracedKMS puts a span around each call. One whose calls do not wait stays as
// it is: the ring treats it differently.
type tracedKMS struct {
	kms    crypto.KMS
	region string
}

func newTracedKMS(region string, k crypto.KMS) crypto.KMS {
	if _, ok := k.(crypto.Prompt); ok {
		return k
	}
	return tracedKMS{k, region}
}

func (t tracedKMS) start(ctx context.Context, name string) *tracing.Span {
	return tracing.Start(ctx, name, t.region)
}

func kmsFault(err error) string {
	if err == nil {
		return ""
	}
	return kmsOutcome(err)
}

// GenerateDataKey implements crypto.KMS.
func (t tracedKMS) GenerateDataKey(ctx context.Context, keyARN string, ec map[string]string) (secret.Key, []byte, error) {
	span := t.start(ctx, "kms.generate")
	key, ciphertext, err := t.kms.GenerateDataKey(ctx, keyARN, ec)
	span.End(kmsFault(err))
	return key, ciphertext, err
}

// Encrypt implements crypto.KMS.
func (t tracedKMS) Encrypt(ctx context.Context, keyARN string, key secret.Key, ec map[string]string) ([]byte, error) {
	span := t.start(ctx, "kms.encrypt")
	ciphertext, err := t.kms.Encrypt(ctx, keyARN, key, ec)
	span.End(kmsFault(err))
	return ciphertext, err
}

// Decrypt implements crypto.KMS.
func (t tracedKMS) Decrypt(ctx context.Context, keyARN string, ciphertext []byte, ec map[string]string) (secret.Key, error) {
	span := t.start(ctx, "kms.decrypt")
	key, err := t.kms.Decrypt(ctx, keyARN, ciphertext, ec)
	span.End(kmsFault(err))
	return key, err
}

// Check implements crypto.KMS.
func (t tracedKMS) Check(ctx context.Context, keyARN string) error { return t.kms.Check(ctx, keyARN) }

// tracedVault says how many items a request's batch has.
type tracedVault struct{ httpapi.Vault }

// Tokenize implements httpapi.Vault.
func (t tracedVault) Tokenize(ctx context.Context, c vault.Call, req vault.TokenizeRequest) ([]vault.Tokenized, error) {
	tracing.Of(ctx).SetItems(len(req.Items))
	return t.Vault.Tokenize(ctx, c, req)
}

// Detokenize implements httpapi.Vault.
func (t tracedVault) Detokenize(ctx context.Context, c vault.Call, req vault.DetokenizeRequest) (vault.DetokenizeResult, error) {
	tracing.Of(ctx).SetItems(len(req.Items))
	return t.Vault.Detokenize(ctx, c, req)
}

// Inspect implements httpapi.Vault.
func (t tracedVault) Inspect(ctx context.Context, c vault.Call, tokens []secret.Text) ([]vault.Inspected, error) {
	tracing.Of(ctx).SetItems(len(tokens))
	return t.Vault.Inspect(ctx, c, tokens)
}

// Erase implements httpapi.Vault.
func (t tracedVault) Erase(ctx context.Context, c vault.Call, req vault.EraseRequest) (vault.EraseResult, error) {
	tracing.Of(ctx).SetItems(len(req.Tokens))
	return t.Vault.Erase(ctx, c, req)
}
