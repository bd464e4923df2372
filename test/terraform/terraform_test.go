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
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
	"piivault/internal/vault"
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
		{"format of tests", "examples/two-regions/two_regions.tftest.hcl", "  command = apply", "   command = apply", "not formatted"},
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

// TestConfig gives `vault config check` what vault.yaml the example makes, in
// the environment of the service's container.
func TestConfig(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), checker(t), "-config", filepath.Join(modules, "examples/two-regions")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var made map[string]map[string]string // name of the variant, region
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	vault := filepath.Join(t.TempDir(), "vault")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", vault, "piivault/cmd/vault")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as test/compose does
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cmd/vault: %v\n%s", err, out)
	}
	for variant, want := range map[string]string{
		"defaults": "ring copies, epoch 1", "two_regions": "vault-prod-records", "multi_region": "ring multi_region, epoch 1", "settings": "; 1 types;",
	} {
		for _, region := range []string{"eu-west-1", "us-east-1"} {
			file := filepath.Join(t.TempDir(), "vault.yaml")
			if err := os.WriteFile(file, []byte(made[variant][region]), 0o600); err != nil {
				t.Fatal(err)
			}
			check := exec.CommandContext(t.Context(), vault, "config", "check", "--config", file)
			check.Env = environment(t)
			out, err := check.CombinedOutput()
			good := strings.Contains(string(out), want) && strings.Contains(string(out), "the configuration is good") && !strings.Contains(string(out), "is no key")
			if err != nil || !good || !regexp.MustCompile("(?m)^"+region+" +yes ").Match(out) {
				t.Errorf("%s, %s: %v\n%s\n%s", variant, region, err, out, made[variant][region])
			}
			if durability := regexp.MustCompile(`(?m)^"durability": "(.*)"$`).FindStringSubmatch(made[variant][region]); durability == nil || (durability[1] == "two_regions") != (variant == "two_regions") {
				t.Errorf("%s: durability %q", variant, durability)
			}
		}
	}
}

// environment is what module service gives the vault's container.
func environment(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(modules, "service/task.tf"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`\{ name = "(VAULT_[A-Z_]+)", value = "([^"]+)" \}`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1]+"="+strings.ReplaceAll(m[2], "${local.port}", "8443"))
	}
	if len(all) != 4 {
		t.Errorf("the container's environment is %q: change this test with it", all)
	}
	return all
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

// What each kind of instance is started with is a duty list of vault serve,
// and the balancer sends the tokenizing ones what is theirs: tokenize is
// nobody else's, and the others have every other duty.
func TestKindsCoverTheDuties(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(modules, "service", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	var all []vault.Duty
	for _, line := range regexp.MustCompile(`(?m)^    (?:de)?tokenize\s+= "([a-z,]+)"$`).FindAllStringSubmatch(string(text), -1) {
		for duty := range strings.SplitSeq(line[1], ",") {
			all = append(all, vault.Duty(duty))
		}
	}
	want := vault.Duties()
	slices.Sort(want)
	slices.Sort(all)
	if !slices.Equal(all, want) {
		t.Errorf("the kinds have the duties %q, not each once: %q", all, want)
	}
	task, err := os.ReadFile(filepath.Join(modules, "service", "task.tf"))
	if err != nil || !strings.Contains(string(task), `"--can", local.duties[each.key]]`) {
		t.Errorf("the task definitions do not pass --can: %v", err)
	}
}
