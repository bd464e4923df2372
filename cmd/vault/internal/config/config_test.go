package config_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"piivault/cmd/vault/internal/config"
	"piivault/internal/crypto"
	"piivault/internal/dynamo"
)

const (
	arnEU = "arn:aws:kms:eu-west-1:111122223333:key/11111111-1111-1111-1111-111111111111"
	arnUS = "arn:aws:kms:us-east-1:111122223333:key/22222222-2222-2222-2222-222222222222"
)

// good is a small configuration; tests replace parts of it.
const good = `env: prod
region: eu-west-1
listen: 127.0.0.1:8200
regions:
  - name: eu-west-1
    kms: {key_arn: "` + arnEU + `"}
  - name: us-east-1
    kms: {key_arn: "` + arnUS + `"}
ring: {min_copies: 2}
types:
  - {name: email, kind: email}
`

func load(text string, environ ...string) (*config.Config, []string, error) {
	return config.Load("vault.yaml", []byte(text), environ)
}

func TestDefaults(t *testing.T) {
	c, unknown, err := load(good)
	if err != nil || unknown != nil {
		t.Fatal(err, unknown)
	}
	if c.Store != config.DynamoDB || c.Ring != (config.Ring{Mode: crypto.Copies, MinCopies: 2, Epoch: 1}) || c.LogLevel != "info" ||
		c.Metrics != "127.0.0.1:9090" || c.Pprof != "" || c.TLS.MinVersion != tls.VersionTLS12 || c.ErasureQuiet != 30*time.Second ||
		c.Tables != dynamo.NamesWith("vault-") || c.Local().KMS.KeyARN != arnEU || len(c.Types) != 1 || c.TwoRegions {
		t.Errorf("%+v", c)
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	c, _, err := load(string(config.Example()))
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS.Cert == "" || !c.Regions[1].KMS.FIPS || len(c.Regions[0].KMS.Former) != 1 || !c.Types[1].DataKey.Reuse || c.Limits.InFlight != 1024 {
		t.Errorf("%+v", c)
	}
	// A refused unknown key lists those that there are: all are in the example.
	for _, at := range []string{"", "tls", "tables", "ring", "limits", "drain", "metrics", "pprof", "log", "tracing"} {
		text := "nothing: 1\n"
		if at != "" {
			text = at + ": {nothing: 1}\n"
		}
		_, _, err := load(text)
		mistake, ok := errors.AsType[*config.MistakeError](err)
		if !ok {
			t.Fatalf("%q: %v", text, err)
		}
		_, keys, _ := strings.Cut(mistake.What, "there are ")
		for key := range strings.SplitSeq(keys, ", ") {
			if !strings.Contains(string(config.Example()), key+":") {
				t.Errorf("the example lacks %s of %q", key, at)
			}
		}
	}
}

// mistakes are edits of good, and what is said of each.
func mistakes() map[string][3]string {
	return map[string][3]string{
		// name: what is replaced, by what, the error
		"unknown key":          {"env: prod", "env: prod\nenvironment: x", "vault.yaml: line 2, column 1: unknown key environment: there are env, "},
		"unknown nested":       {"min_copies: 2", "copies: 2", "vault.yaml: line 9, column 8: unknown key copies: there are mode, min_copies, epoch, accept_loss"},
		"unknown in a list":    {"name: us-east-1", "name: us-east-1\n    kmz: 1", "vault.yaml: line 8, column 5: unknown key kmz: "},
		"a value for a key":    {"env: prod", "env: prod\n? P@ssw0rd\n: 1", "vault.yaml: line 2, column 1: unknown key: there are"},
		"twice":                {"env: prod", "env: prod\nenv: prod", "vault.yaml: line 2, column 1: env is given twice"},
		"not YAML":             {"env: prod", "env: [", "this is not YAML"},
		"two documents":        {"env: prod", "env: prod\n---\nregion: x", "this must be one YAML document"},
		"not a mapping":        {"ring: {min_copies: 2}", "ring: two", "vault.yaml: line 9, column 7: this must be a mapping of keys"},
		"not a list":           {"types:\n  - {name: email, kind: email}", "types: email", "vault.yaml: line 10, column 8: types is a list"},
		"not one value":        {"env: prod", "env: [prod]", "vault.yaml: line 1, column 6: this must be one value"},
		"env missing":          {"env: prod\n", "", "vault.yaml: line 1, column 1: env is missing"},
		"env too long":         {"env: prod", "env: production", "vault.yaml: line 1, column 6: this must be 1 to 8 of a-z 0-9"},
		"region not one":       {"region: eu-west-1", "region: eu-west-2", "vault.yaml: line 2, column 9: this must be the name of one of regions"},
		"instance":             {"env: prod", "env: prod\ninstance: a/b", "vault.yaml: line 2, column 11: this must be 1 to 63"},
		"address":              {"listen: 127.0.0.1:8200", "listen: 8200", "vault.yaml: line 3, column 9: this must be a host:port address"},
		"no TLS":               {"listen: 127.0.0.1:8200", "listen: :8200", "vault.yaml: line 3, column 9: other machines can reach this address"},
		"half TLS":             {"env: prod", "env: prod\ntls: {cert: a.crt}", "vault.yaml: line 2, column 7: tls needs both cert and key"},
		"old TLS":              {"env: prod", "env: prod\ntls: {min_version: 1.1}", `vault.yaml: line 2, column 20: this must be "1.2" or "1.3"`},
		"pprof for all":        {"env: prod", "env: prod\npprof: {listen: 0.0.0.0:6060}", "vault.yaml: line 2, column 17: pprof shows memory"},
		"log level":            {"env: prod", "env: prod\nlog: {level: loud}", "vault.yaml: line 2, column 14: this must be debug or info or warn or error"},
		"region twice":         {"name: us-east-1", "name: eu-west-1", "vault.yaml: line 7, column 11: two regions have this name"},
		"region without name":  {"  - name: us-east-1\n    kms", "  - kms", "vault.yaml: line 7, column 5: name is missing"},
		"region without key":   {`kms: {key_arn: "` + arnUS + `"}`, "kms: {timeout: 1s}", "vault.yaml: line 8, column 11: kms.key_arn is missing"},
		"an alias for a key":   {arnUS, "arn:aws:kms:us-east-1:111122223333:alias/x", "vault.yaml: line 8, column 20: this must be the ARN of a KMS key (not of an alias)"},
		"a key elsewhere":      {arnUS, arnEU, "vault.yaml: line 8, column 20: this key is of another region"},
		"endpoint":             {"name: us-east-1", "name: us-east-1\n    dynamodb: {endpoint: dynamodb:8000}", "vault.yaml: line 8, column 26: this must be the URL of a server"},
		"endpoint with a user": {"name: us-east-1", "name: us-east-1\n    dynamodb: {endpoint: 'http://u:secret@h'}", "this must be the URL of a server"},
		"local KMS":            {`kms: {key_arn: "` + arnUS + `"}`, "kms: {local: kms.json}", "vault.yaml: line 8, column 18: a local KMS protects nothing"},
		"min_copies":           {"min_copies: 2", "min_copies: 3", "vault.yaml: line 9, column 20: this is more than there are regions"},
		"epoch":                {"min_copies: 2", "epoch: 0", "vault.yaml: line 9, column 15: this must be an integer from 1"},
		"mode":                 {"min_copies: 2", "mode: multi_region", "line 5, column 3: ring: "},
		"type":                 {"kind: email", "kind: fax", "vault.yaml: line 11, column 6: (email) there is no such kind"},
		"type key":             {"kind: email", "sort: email", "vault.yaml: line 11, column 19: unknown key sort"},
		"type twice":           {"  - {name: email, kind: email}", "  - {name: email, kind: email}\n  - {name: email, kind: email}", "line 11, column 3: number 2 (email): the name is taken"},
		"limit":                {"env: prod", "env: prod\nlimits: {tokenize_items: 501}", "vault.yaml: line 2, column 26: this must be an integer from 1 to 500"},
		"duration":             {"env: prod", "env: prod\nerasure_quiet: 5", "vault.yaml: line 2, column 16: this must be a duration from 1s"},
		"durability":           {"env: prod", "env: prod\ndurability: three_regions", "vault.yaml: line 2, column 13: this must be region or two_regions"},
		"durability of one":    {"  - name: us-east-1\n    kms: {key_arn: \"" + arnUS + "\"}\nring: {min_copies: 2}", "durability: two_regions", "vault.yaml: line 7, column 13: two_regions needs a second region"},
		"share":                {"env: prod", "env: prod\ntracing: {sample: NaN}", "vault.yaml: line 2, column 19: this must be a share from 0 to 1"},
		"collector":            {"env: prod", "env: prod\ntracing: {endpoint: 'localhost:4318'}", "vault.yaml: line 2, column 21: this must be the URL of a server"},
		"tables":               {"env: prod", "env: prod\ntables: {audit: vault-records}", "vault.yaml: line 2, column 17: two tables have this name"},
		"table":                {"env: prod", "env: prod\ntables: {prefix: a/b}", "vault.yaml: line 2, column 18: this must be 1 to 200"},
		"data without store":   {"env: prod", "env: prod\ndata: d", "vault.yaml: line 2, column 7: data is the embedded store's directory"},
		"embedded, no data":    {"env: prod", "env: prod\nstore: embedded", "vault.yaml: line 2, column 8: the embedded store needs data"},
		"embedded, 2 regions":  {"env: prod", "env: prod\nstore: embedded\ndata: d", "vault.yaml: line 7, column 3: the embedded store has one region"},
	}
}

func TestMistakes(t *testing.T) {
	for name, m := range mistakes() {
		if !strings.Contains(good, m[0]) {
			t.Fatalf("%s: good has no %q", name, m[0])
		}
		_, _, err := load(strings.Replace(good, m[0], m[1], 1))
		mistake, ok := errors.AsType[*config.MistakeError](err)
		if !ok || !strings.Contains(err.Error(), m[2]) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if mistake.Line == 0 || mistake.Column == 0 {
			t.Errorf("%s: no place: %v", name, err)
		}
		for _, value := range []string{"P@ssw0rd", "u:secret", "111122223333"} {
			if strings.Contains(err.Error(), value) {
				t.Errorf("%s: the error repeats a value: %v", name, err)
			}
		}
	}
}

// TestEnvironment: a variable stands for each key, and wins.
func TestEnvironment(t *testing.T) {
	c, unknown, err := load(good,
		"VAULT_REGION=us-east-1", "VAULT_RING_EPOCH=7", "VAULT_RING={mode: copies}", "VAULT_TLS_MIN_VERSION=1.3", "VAULT_PPROF_LISTEN=localhost:0",
		"VAULT_REGIONS_0_KMS_TIMEOUT=3s", "VAULT_REGIONS_1_DYNAMODB_ENDPOINT=http://127.0.0.1:8000", "VAULT_REGIONS_0_KMS_FORMER_0="+strings.Replace(arnEU, "1111-", "4444-", 1),
		"VAULT_REGIONS_2_NAME=ap-south-1", "VAULT_REGIONS_2_KMS_KEY_ARN=arn:aws:kms:ap-south-1:111122223333:key/3", "VAULT_METRICS_LISTEN=off",
		"VAULT_TYPES=[{name: iban, kind: iban}]", "VAULT_TABLES_PREFIX=p-", "VAULT_TABLES_AUDIT=log", "VAULT_ENV=e2e", "VAULT_LIMITS_IN_FLIGHT=5", "VAULT_DURABILITY=two_regions",
		"VAULT_ADDR=x", "VAULT_KEY=pvk_secret", "VAULT_RING_EPOCHS=1", "VAULT_SERVICE_PORT=1", "HOME=/")
	if err != nil {
		t.Fatal(err)
	}
	tables := dynamo.NamesWith("p-")
	tables.Audit = "log"
	if c.Region != "us-east-1" || c.Env != "e2e" || c.Ring.Epoch != 7 || c.Ring.MinCopies != 1 || c.TLS.MinVersion != tls.VersionTLS13 ||
		c.Pprof != "localhost:0" || c.Metrics != "" || c.Tables != tables || c.Types[0].Name != "iban" || c.Limits.InFlight != 5 || !c.TwoRegions {
		t.Errorf("%+v", c)
	}
	if len(c.Regions) != 3 || c.Regions[0].KMS.Timeout != 3*time.Second || len(c.Regions[0].KMS.Former) != 1 ||
		c.Regions[1].DynamoDB.URL != "http://127.0.0.1:8000" || c.Regions[2].Name != "ap-south-1" {
		t.Errorf("%+v", c.Regions)
	}
	if diff := cmp.Diff([]string{"VAULT_RING_EPOCHS", "VAULT_SERVICE_PORT"}, unknown); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentAlone(t *testing.T) {
	c, _, err := load("", "VAULT_ENV=a", "VAULT_REGION=eu-west-1", "VAULT_REGIONS_0_NAME=eu-west-1", "VAULT_REGIONS_0_KMS_LOCAL=k.json",
		"VAULT_ALLOW_LOCAL_KMS=true", "VAULT_STORE=embedded", "VAULT_DATA=d", "VAULT_LISTEN=0.0.0.0:80", "VAULT_ALLOW_PLAINTEXT=true")
	if err != nil || c.Local().KMS.Local != "k.json" || c.Data != "d" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestMistakesOfTheEnvironment(t *testing.T) {
	for variable, want := range map[string]string{
		"VAULT_RING_EPOCH=secret":          "VAULT_RING_EPOCH: this must be an integer",
		"VAULT_REGIONS_1_KMS_KEY_ARN=x":    "VAULT_REGIONS_1_KMS_KEY_ARN: this must be the ARN",
		"VAULT_TYPES=[{name: a, kind: b}]": "VAULT_TYPES: line 1, column 3: (a) there is no such kind",
		"VAULT_TYPES=[":                    "VAULT_TYPES: ",
		"VAULT_RING={mood: copies}":        "VAULT_RING: line 1, column 2: unknown key mood",
		"VAULT_TLS_CERT=a.crt":             "tls needs both cert and key",
		"VAULT_REGION=":                    "VAULT_REGION: this must be a text",
	} {
		_, _, err := load(good, variable)
		if _, ok := errors.AsType[*config.MistakeError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

// FuzzLoad: whatever the file holds, it is a configuration or a *MistakeError.
func FuzzLoad(f *testing.F) {
	f.Add(good)
	f.Add(string(config.Example()))
	for _, m := range mistakes() {
		f.Add(strings.Replace(good, m[0], m[1], 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := load(text)
		if _, ok := errors.AsType[*config.MistakeError](err); err != nil && !ok {
			t.Errorf("%T", err)
		}
		if err == nil && !slices.ContainsFunc(c.Regions, func(r config.Region) bool { return r.Name == c.Region }) {
			t.Error("an instance without a region")
		}
	})
}

// OpenTelemetry's own variable names a collector where the configuration does not.
func TestTracing(t *testing.T) {
	const standard = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
	for _, c := range []struct {
		text string
		env  []string
		want config.Tracing
	}{
		{good, nil, config.Tracing{Sample: 0.01}},
		{good, []string{standard}, config.Tracing{Endpoint: "http://collector:4318", Sample: 0.01}},
		{good + "tracing: {endpoint: 'http://own:1', sample: 1}\n", []string{standard}, config.Tracing{Endpoint: "http://own:1", Sample: 1}},
		{good, []string{"VAULT_TRACING_ENDPOINT=http://own:1", "VAULT_TRACING_SAMPLE=0"}, config.Tracing{Endpoint: "http://own:1"}},
	} {
		if got, _, err := load(c.text, c.env...); err != nil || got.Tracing != c.want {
			t.Errorf("%v: %+v, %v", c.env, got, err)
		}
	}
	_, _, err := load(good, "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:secret@collector")
	if err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_ENDPOINT: this must be the URL") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a URL with a password: %v", err)
	}
}
