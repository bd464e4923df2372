package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
	"piivault/internal/pii"
	"piivault/internal/secret"
)

func newFindings() (*findings, *bytes.Buffer) {
	out := new(bytes.Buffer)
	return &findings{a: &app{stdout: out}}, out
}

func twoRegions() *config.Config {
	return &config.Config{
		Regions: []config.Region{{Name: "eu-west-1"}, {Name: "us-east-1"}}, Tables: dynamo.NamesWith("p-"),
		Ring: config.Ring{Mode: crypto.Copies}, Types: pii.BuiltIn(), Store: config.DynamoDB,
	}
}

func TestDoctorOnTables(t *testing.T) {
	good := dynamo.Inspection{Active: true, TTL: true, Recovery: "ENABLED", Protected: true, Replicas: []string{"us-east-1"}}
	records := dynamo.Table{Name: "p-records", Global: true}
	for name, c := range map[string]struct {
		change        func(*dynamo.Inspection)
		bad, warnings int
		says          string
	}{
		"good":        {func(*dynamo.Inspection) {}, 0, 0, ""},
		"creating":    {func(i *dynamo.Inspection) { i.Active = false }, 1, 0, "is not active"},
		"wrong":       {func(i *dynamo.Inspection) { i.Wrong = []string{"index x", "key y"} }, 2, 0, "index x"},
		"no TTL":      {func(i *dynamo.Inspection) { i.TTL = false }, 0, 1, "no TTL on ttl"},
		"no recovery": {func(i *dynamo.Inspection) { i.Recovery = "DISABLED" }, 0, 1, "point-in-time recovery"},
		"unprotected": {func(i *dynamo.Inspection) { i.Protected = false }, 0, 1, "deletion protection"},
		"a local one": {func(i *dynamo.Inspection) { i.Recovery, i.Protected = "", false }, 0, 0, ""},
		"alone":       {func(i *dynamo.Inspection) { i.Replicas = nil }, 0, 1, "no replica in us-east-1"},
	} {
		f, out := newFindings()
		found := good
		c.change(&found)
		f.table("eu-west-1: table p-records", records, found, twoRegions(), "eu-west-1")
		if f.bad != c.bad || f.warnings != c.warnings || !strings.Contains(out.String(), c.says) || c.says == "" && out.Len() > 0 {
			t.Errorf("%s: %d bad, %d warnings: %s", name, f.bad, f.warnings, out)
		}
	}
}

func TestDoctorOnClocks(t *testing.T) {
	for skew, want := range map[time.Duration]string{
		0: "ok ", -2 * time.Second: "ok ", -4 * time.Second: "warn", time.Minute: "warn", -3 * time.Minute: "BAD", time.Hour: "BAD",
	} {
		f, out := newFindings()
		f.clock("eu-west-1", dynamo.Inspection{Skew: skew, SkewKnown: true})
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %s", skew, out)
		}
	}
	f, out := newFindings()
	if f.clock("eu-west-1", dynamo.Inspection{}); f.warnings != 1 {
		t.Errorf("no time: %s", out)
	}
}

// failingKMS fails one operation.
type failingKMS struct {
	op  string
	err error
}

func (k failingKMS) at(op string) error {
	if op == k.op {
		return k.err
	}
	return nil
}

func (k failingKMS) GenerateDataKey(context.Context, string, map[string]string) (secret.Key, []byte, error) {
	return secret.Key{}, nil, k.at("GenerateDataKey")
}

func (k failingKMS) Encrypt(context.Context, string, secret.Key, map[string]string) ([]byte, error) {
	return nil, k.at("Encrypt")
}

func (k failingKMS) Decrypt(context.Context, string, []byte, map[string]string) (secret.Key, error) {
	return secret.Key{}, k.at("Decrypt")
}

func (k failingKMS) Check(context.Context, string) error { return k.at("DescribeKey") }

func TestDoctorOnKeys(t *testing.T) {
	for _, op := range []string{"DescribeKey", "GenerateDataKey", "Decrypt", "Encrypt"} {
		for err, want := range map[error]string{
			crypto.ErrDenied:      "BAD   eu-west-1: key: " + op + " is denied\n      → allow kms:" + op,
			crypto.ErrDisabled:    "BAD   eu-west-1: key: " + op + ": the key is disabled",
			crypto.ErrThrottled:   "warn  eu-west-1: key: " + op + " is throttled",
			crypto.ErrUnreachable: "BAD   eu-west-1: key: " + op + ": KMS does not answer",
		} {
			f, out := newFindings()
			f.key(t.Context(), crypto.Region{Name: "eu-west-1", KMS: failingKMS{op, err}}, "")
			if !strings.HasPrefix(out.String(), want) || f.bad+f.warnings != 1 {
				t.Errorf("%s, %v: %s", op, err, out)
			}
		}
	}
	f, out := newFindings()
	if f.key(t.Context(), crypto.Region{Name: "eu-west-1", KMS: failingKMS{}}, ""); f.bad != 0 || !strings.HasPrefix(out.String(), "ok    eu-west-1") {
		t.Error(out)
	}
}

func TestDoctorOnCertificates(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir) // for 90 days
	files := config.TLS{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	for after, want := range map[time.Duration]string{0: "ok ", 80 * 24 * time.Hour: "warn", 91 * 24 * time.Hour: "BAD"} {
		f, out := newFindings()
		if f.certificate(files, time.Now().Add(after)); !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %s", after, out)
		}
	}
	f, out := newFindings()
	if f.certificate(config.TLS{Cert: files.Key, Key: files.Cert}, time.Now()); f.bad != 1 {
		t.Error(out)
	}
}

// TestCost: KMS is what most of it is, and reuse and multi-Region keys are what helps.
func TestCost(t *testing.T) {
	cfg := twoRegions()
	single := &pii.Type{Token: pii.Random}
	reuse := &pii.Type{Token: pii.Random, DataKey: pii.DataKeyPolicy{Reuse: true, MaxMessages: 100}}
	if got := tokenizeCost(single, cfg); got != (cost{kms: 2, writes: 2*2 + 5}) || dollars(got.perMillion()) != "11.62" {
		t.Errorf("%+v: %s", got, dollars(got.perMillion()))
	}
	if got := tokenizeCost(reuse, cfg); got.kms != 0.02 {
		t.Errorf("%+v", got)
	}
	if got := tokenizeCost(&pii.Type{Token: pii.Deterministic}, cfg); got.writes != 11 || got.reads != 2 {
		t.Errorf("%+v", got)
	}
	if got := detokenizeCost(cfg); got != (cost{kms: 1, writes: 5, reads: 2}) {
		t.Errorf("%+v", got)
	}
	cfg.Ring.Mode = crypto.MultiRegion
	if got := tokenizeCost(single, cfg); got.kms != 1 || got.writes != 2+5 {
		t.Errorf("%+v", got)
	}
	cfg.Store = config.Embedded
	var out bytes.Buffer
	if err := printCost(&out, cfg); err != nil || !strings.Contains(out.String(), "3.00") || !strings.Contains(out.String(), "email") {
		t.Errorf("%v: %s", err, &out)
	}
}
