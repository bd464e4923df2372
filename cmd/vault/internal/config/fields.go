package config

import (
	"crypto/tls"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"piivault/internal/authz"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
	"piivault/internal/pii"
)

// loader decodes into c and remembers what only checks need.
type loader struct {
	*decoder
	c              *Config
	allowLocalKMS  bool
	allowPlaintext bool
	prefix         string
}

type fieldSetter = func(string, *value) error

func (l *loader) fields() []field {
	c := l.c
	return append([]field{
		{"env", false, into(&c.Env, textOf)},
		{"region", false, into(&c.Region, textOf)},
		{"instance", false, into(&c.Instance, textOf)},
		{"listen", false, into(&c.Listen, addressOf)},
		{"tls", true, l.nested([]field{
			{"cert", false, into(&c.TLS.Cert, textOf)},
			{"key", false, into(&c.TLS.Key, textOf)},
			{"min_version", false, into(&c.TLS.MinVersion, tlsVersionOf)},
			{"client_ca", false, into(&c.TLS.ClientCA, textOf)},
			{"client_auth", false, into(&c.TLS.ClientAuth, clientAuthOf)},
		})},
		{"allow_plaintext", false, into(&l.allowPlaintext, boolOf)},
		{"metrics", true, l.nested([]field{{"listen", false, into(&c.Metrics, addressOrOff)}})},
		{"pprof", true, l.nested([]field{{"listen", false, into(&c.Pprof, addressOrOff)}})},
		{"log", true, l.nested([]field{{"level", false, into(&c.LogLevel, oneOf("debug", "info", "warn", "error"))}})},
		{"tracing", true, l.nested([]field{
			{"endpoint", false, into(&c.Tracing.Endpoint, endpointOf)},
			{"sample", false, into(&c.Tracing.Sample, shareOf)},
		})},
		{"store", false, into(&c.Store, oneOf(DynamoDB, Embedded))},
		{"data", false, into(&c.Data, textOf)},
		{"tables", true, l.tables},
		{"regions", true, func(path string, v *value) error { return l.list(path, v, field{nested: true, set: l.region}) }},
		{"ring", true, l.nested([]field{
			{"mode", false, into(&c.Ring.Mode, oneOf(crypto.Copies, crypto.MultiRegion))},
			{"min_copies", false, into(&c.Ring.MinCopies, between(1, crypto.MaxCopies))},
			{"epoch", false, into(&c.Ring.Epoch, between[uint64](1, math.MaxInt64))},
			{"accept_loss", false, into(&c.Ring.AcceptLoss, boolOf)},
		})},
		{"tenant_keys", true, l.tenantKeys},
		{"prefetch", true, l.nested([]field{
			{"max_keys", false, into(&c.Prefetch.MaxKeys, between(0, 1<<20))},
			{"max_age", false, into(&c.Prefetch.MaxAge, durationOf(time.Second, 10*time.Minute))},
		})},
		{"budgets", true, l.nested([]field{
			{"principal", true, l.nested(append(l.budgets(&c.Budgets.Principal.Limits), l.budget("subjects", &c.Budgets.Principal.Subjects)))},
			{"tenant", true, l.nested(l.budgets(&c.Budgets.Tenant))},
		})},
		{"repair", true, l.nested([]field{{"rate", false, into(&c.Repair.Rate, between(1, 100_000))}})},
		{"allow_local_kms", false, into(&l.allowLocalKMS, boolOf)},
		{"policies", false, into(&c.Policies, textOf)},
		{"types", true, l.types},
		{"limits", true, l.nested(l.limits())},
		{"drain", true, l.nested([]field{
			{"wait", false, into(&c.Drain.Wait, durationOf(0, 10*time.Minute))},
			{"timeout", false, into(&c.Drain.Timeout, durationOf(time.Second, time.Hour))},
		})},
		{"erasure_quiet", false, into(&c.ErasureQuiet, durationOf(time.Second, 24*time.Hour))},
		{"durability", false, into(&c.TwoRegions, durabilityOf)},
	}, l.signIn()...)
}

func (l *loader) budgets(b *authz.Limits) []field {
	return []field{
		l.budget(string(authz.BudgetPlain), &b.Plain), l.budget(string(authz.BudgetMasked), &b.Masked),
		l.budget(string(authz.BudgetMisses), &b.Misses), l.budget(string(authz.BudgetGuesses), &b.Guesses),
	}
}

// budget is one limit; both of its members must be given, or neither.
func (l *loader) budget(name string, limit *authz.Limit) field {
	return field{name, true, func(path string, v *value) error {
		own := authz.Limit{Hour: -1, Day: -1}
		err := l.mapping(path, v, []field{
			{"hour", false, into(&own.Hour, between[int64](0, authz.MaxLimit))},
			{"day", false, into(&own.Day, between[int64](0, authz.MaxLimit))},
		})
		switch {
		case err != nil || own == authz.Limit{Hour: -1, Day: -1}:
			return err
		case own.Hour < 0 || own.Day < own.Hour:
			return l.mistake(path, "a budget has an hour and a day, which is not less")
		}
		*limit = own
		return nil
	}}
}

func (l *loader) limits() []field {
	m := &l.c.Limits
	return []field{
		{"tokenize_items", false, into(&m.TokenizeItems, between(1, 500))},
		{"detokenize_items", false, into(&m.DetokenizeItems, between(1, 100))},
		{"tokenize_bytes", false, into(&m.TokenizeBytes, between[int64](1<<10, 8<<20))},
		{"body_bytes", false, into(&m.BodyBytes, between[int64](1<<10, 256<<10))},
		{"in_flight", false, into(&m.InFlight, between(1, 1<<20))},
		{"in_flight_bytes", false, into(&m.InFlightBytes, between[int64](1<<20, 1<<40))},
		{"timeout", false, into(&m.Timeout, durationOf(100*time.Millisecond, time.Hour))},
	}
}

func (l *loader) nested(fields []field) fieldSetter {
	return func(path string, v *value) error { return l.mapping(path, v, fields) }
}

// tables: a prefix names all of them, and each may have a name of its own.
func (l *loader) tables(path string, v *value) error {
	var own dynamo.Names
	err := l.mapping(path, v, []field{
		{"prefix", false, into(&l.prefix, tableOf)},
		{"records", false, into(&own.Records, tableOf)},
		{"audit", false, into(&own.Audit, tableOf)},
		{"audit_index", false, into(&own.AuditIndex, tableOf)},
		{"control", false, into(&own.Control, tableOf)},
		{"counters", false, into(&own.Counters, tableOf)},
	})
	if l.prefix != "" {
		l.c.Tables = dynamo.NamesWith(l.prefix)
	}
	n := &l.c.Tables
	for _, t := range []struct{ name, own *string }{
		{&n.Records, &own.Records},
		{&n.Audit, &own.Audit},
		{&n.AuditIndex, &own.AuditIndex},
		{&n.Control, &own.Control},
		{&n.Counters, &own.Counters},
	} {
		if *t.own != "" {
			*t.name = *t.own
		}
	}
	return err
}

func (l *loader) region(path string, v *value) error {
	var r Region
	err := l.mapping(path, v, []field{
		{"name", false, into(&r.Name, textOf)},
		{"dynamodb", true, l.nested([]field{{"endpoint", false, into(&r.DynamoDB.URL, endpointOf)}})},
		{"kms", true, l.nested([]field{
			{"key_arn", false, into(&r.KMS.KeyARN, textOf)},
			l.former(&r.KMS.Former),
			{"endpoint", false, into(&r.KMS.Endpoint, endpointOf)},
			{"fips", false, into(&r.KMS.FIPS, boolOf)},
			{"timeout", false, into(&r.KMS.Timeout, durationOf(10*time.Millisecond, time.Minute))},
			{"local", false, into(&r.KMS.Local, textOf)},
		})},
	})
	l.c.Regions = append(l.c.Regions, r)
	return err
}

// types is pii's to read; what it says has the place already, in this document's lines.
func (l *loader) types(_ string, v *value) (err error) {
	if v == nil || v.node == nil {
		return nil
	}
	if l.c.Types, err = pii.DecodeTypes(v.node); err != nil {
		return typesMistake(v, err)
	}
	return nil
}

// tlsVersionOf: older versions than 1.2 have no good cipher (RFC 8996).
func tlsVersionOf(text string) (uint16, error) {
	switch text {
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, errors.New(`this must be "1.2" or "1.3"`)
}

// durabilityOf: whether a second region's table must have it, too.
func durabilityOf(text string) (bool, error) {
	text, err := oneOf("region", "two_regions")(text)
	return text == "two_regions", err
}

// tracing takes OpenTelemetry's own variable where the configuration names no collector.
func (l *loader) tracing(environ []string) (err error) {
	const standard = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, pair := range environ {
		if name, v, ok := strings.Cut(pair, "="); ok && name == standard && v != "" && l.c.Tracing.Endpoint == "" {
			if l.c.Tracing.Endpoint, err = endpointOf(v); err != nil {
				return &MistakeError{Source: standard, What: err.Error()}
			}
		}
	}
	return nil
}

func shareOf(text string) (float64, error) {
	share, err := strconv.ParseFloat(text, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, errors.New("this must be a share from 0 to 1, such as 0.01")
	}
	return share, nil
}

func addressOrOff(text string) (string, error) {
	if text == "off" {
		return "", nil
	}
	return addressOf(text)
}

// tableOf: what DynamoDB allows in a table's name, and in a prefix of it.
func tableOf(text string) (string, error) {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	if text == "" || len(text) > 200 || strings.Trim(text, allowed) != "" {
		return "", errors.New("this must be 1 to 200 of a-z A-Z 0-9 _ . -")
	}
	return text, nil
}
