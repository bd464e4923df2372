// Package terraform_test checks terraform/ without Terraform: form, references
// and arguments by the command in check/, tables against internal/dynamo.
package terraform_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
)

const modules = "../../terraform"

// checker builds check/, a module of its own.
func checker(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "check")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "check"
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build check: %v\n%s", err, out)
	}
	return program
}

func TestModules(t *testing.T) {
	check := checker(t)
	t.Run("as they are", func(t *testing.T) {
		if out, err := exec.CommandContext(t.Context(), check, modules).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	for _, c := range []struct{ name, file, old, broken, want string }{
		{"format", "keys/main.tf", "  for_each = local.per_key", "  for_each   = local.per_key", "not formatted"},
		{"syntax", "keys/main.tf", "data \"aws_partition\" \"current\" {}", "data \"aws_partition\" {", "keys/main.tf"},
		{"undeclared variable", "tables/main.tf", "var.deletion_protection", "var.protection", "var.protection is not declared"},
		{"undeclared local", "dns/main.tf", "for_each = local.alarms", "for_each = local.bells", "local.bells is not declared"},
		{"undeclared resource", "service/task.tf", "aws_iam_role.execution.arn", "aws_iam_role.fargate.arn", "aws_iam_role.fargate is not declared"},
		{"unknown attribute", "service/outputs.tf", "aws_lb.this.zone_id", "aws_lb.this.zone", "aws_lb.this has no attribute zone"},
		{"unknown argument", "tables/main.tf", "propagate_tags ", "replicate_tags ", "takes no argument replicate_tags"},
		{"missing argument", "keys/main.tf", "  target_key_id = local.ring[each.key]\n", "", "needs the argument target_key_id"},
		{"unknown block", "audit/main.tf", "default_retention {", "retention {", "takes no block retention"},
		{"missing block", "audit/main.tf", "versioning_configuration {", "dynamic \"versioning\" {", "has 0 blocks versioning_configuration"},
		{"unknown resource", "audit/main.tf", "\"aws_s3_bucket_policy\" \"this\"", "\"aws_s3_bucket_polity\" \"this\"", "the schema does not hold it"},
		{"unknown module variable", "examples/two-regions/main.tf", "  two_regions ", "  three_regions ", "has no variable three_regions"},
		{"missing module variable", "examples/two-regions/main.tf", "  prefix  ", "  # prefix ", "module tables needs prefix"},
		{"unknown output", "examples/two-regions/main.tf", "module.audit.arn", "module.audit.arm", "module.audit has no output arm"},
		{"unused variable", "audit/main.tf", "days = var.retention_in_days", "days = 1", "variable retention_in_days is not used"},
		{"no description", "dns/outputs.tf", "  description = \"Region to the name that leads to it alone.\"\n", "", "output names has no description"},
		{"no type", "dns/variables.tf", "  type        = bool\n", "", "variable public has no type"},
		{"no version", "dns/versions.tf", "required_version = ", "# ", "is not pinned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			breakCopy(t, dir, c.file, c.old, c.broken)
			out, err := exec.CommandContext(t.Context(), check, dir).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("want a finding with %q; got %v\n%s", c.want, err, out)
			}
		})
	}
}

// breakCopy copies the modules, with the first old in file replaced.
func breakCopy(t *testing.T, dir, file, old, broken string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(modules)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q: change this test with it", file, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, broken, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

type table struct {
	Name    string            `json:"name"`
	Global  bool              `json:"global"`
	Keys    []string          `json:"keys"`
	Types   map[string]string `json:"types"`
	Indexes map[string]index  `json:"indexes"`
	TTL     string            `json:"ttl"`
	Stream  string            `json:"stream"`
	Safe    bool              `json:"safe"`
}

type index struct {
	Keys       []string `json:"keys"`
	Projection string   `json:"projection"`
}

// TestTables compares module tables with what `vault tables create` asks for.
func TestTables(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), checker(t), "-tables", filepath.Join(modules, "tables")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []table
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	byName := func(a, b table) int { return strings.Compare(a.Name, b.Name) }
	want := asked(t)
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("terraform/tables/definitions.tf is not internal/dynamo/tables.go (-want +got):\n%s", diff)
	}
}

// TestConfig looks the keys of the example's vault.yaml up in the configuration
// that `vault config example` prints, which has every key.
func TestConfig(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), checker(t), "-config", filepath.Join(modules, "examples/two-regions")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := json.Unmarshal(out, &keys); err != nil {
		t.Fatal(err)
	}
	for _, need := range []string{"env", "region", "regions", "ring", "ring.mode", "tables"} {
		if !slices.Contains(keys, need) {
			t.Errorf("vault.yaml lacks %s", need)
		}
	}
	text, err := os.ReadFile("../../cmd/vault/internal/config/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example map[string]any
	if err := yaml.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		var value any = example
		for name := range strings.SplitSeq(key, ".") {
			object, _ := value.(map[string]any)
			if value = object[name]; value == nil {
				t.Errorf("vault.yaml has the key %s, which vault serve does not know", key)
			}
		}
	}
}

// request is what CreateTable and UpdateTimeToLive say, as far as it is compared.
type request struct {
	TableName            string
	KeySchema            []keyElement
	AttributeDefinitions []struct{ AttributeName, AttributeType string }
	StreamSpecification  struct {
		StreamEnabled  bool
		StreamViewType string
	}
	GlobalSecondaryIndexes []struct {
		IndexName  string
		KeySchema  []keyElement
		Projection struct{ ProjectionType string }
	}
	TimeToLiveSpecification struct {
		AttributeName string
		Enabled       bool
	}
}

type keyElement struct{ AttributeName, KeyType string }

// asked records what CreateTables sends to a server that has everything at once.
func asked(t *testing.T) []table {
	t.Helper()
	var tables []table
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var q request
		if err == nil {
			err = json.Unmarshal(body, &q)
		}
		if err != nil {
			t.Error(err)
		}
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		switch operation {
		case "CreateTable":
			tables = append(tables, q.table())
		case "UpdateTimeToLive":
			tables[len(tables)-1].TTL = q.TimeToLiveSpecification.AttributeName
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		fmt.Fprint(w, `{"Table":{"TableStatus":"ACTIVE"}}`)
	}))
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	credentials, err := kms.DefaultCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := dynamo.New(dynamo.Config{Region: "eu-west-1", Endpoint: server.URL, Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := dynamo.CreateTables(t.Context(), c, dynamo.NamesWith("")); err != nil {
		t.Fatal(err)
	}
	return tables
}

func (q request) table() table {
	out := table{
		Name: q.TableName, Keys: names(q.KeySchema), Types: map[string]string{}, Indexes: map[string]index{},
		Global: q.StreamSpecification.StreamEnabled, Stream: q.StreamSpecification.StreamViewType, Safe: true,
	}
	for _, a := range q.AttributeDefinitions {
		out.Types[a.AttributeName] = a.AttributeType
	}
	for _, x := range q.GlobalSecondaryIndexes {
		out.Indexes[x.IndexName] = index{names(x.KeySchema), x.Projection.ProjectionType}
	}
	return out
}

func names(keys []keyElement) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.AttributeName)
	}
	return out
}
