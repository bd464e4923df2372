// Package contract_test holds api/openapi.yaml against a linter, and a live
// `vault dev` against api/openapi.yaml by requests that nobody here thought of.
package contract_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"piivault/client"
	"piivault/internal/httpapi/apitest"
	"piivault/internal/sim/pinned"
	"piivault/test/live"
)

// No error and no warning of the linter's strict rules.
func TestLint(t *testing.T) {
	root, err := pinned.Root()
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := pinned.Lock(filepath.Join(root, ".cache", "contract-lint.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}()
	for _, command := range [][]string{
		{"npm", "ci", "--cache", filepath.Join(root, ".cache", "npm"), "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"},
		{"node", "lint.mjs", "../../api/openapi.yaml"},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
	}
}

// Schemathesis makes examples, corner cases, random requests and chains of
// requests from the contract, wrong ones too. Every answer is as the contract
// says, none is a 5xx, and each operation succeeds at least once.
func TestSchemathesis(t *testing.T) {
	vault := live.Start(t)
	reports := t.TempDir()
	bin, err := pinned.Venv(t.Context(), "schemathesis", "test/contract/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "schemathesis"), "run", "../../api/openapi.yaml", "--url", vault.Addrs[0],
		"--report", "json,ndjson", "--report-json-path", filepath.Join(reports, "run.json"), "--report-ndjson-path", filepath.Join(reports, "events.ndjson"))
	cmd.Env = append(os.Environ(), "VAULT_KEY="+vault.Key, "VAULT_TOKENS="+strings.Join(tokens(t, vault), " "),
		"PYTHONDONTWRITEBYTECODE=1", "HYPOTHESIS_STORAGE_DIRECTORY="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", links.Find(out))
	run, events := readRun(t, filepath.Join(reports, "run.json")), readEvents(t, filepath.Join(reports, "events.ndjson"))
	for _, phase := range []string{"examples", "coverage", "fuzzing", "stateful"} {
		if got := run.Phases[phase].Status; got != "success" {
			t.Errorf("phase %s: %q", phase, got)
		}
	}
	if !run.Complete || len(run.Failures) > 0 || run.Cases.Errored > 0 || run.Cases.Generated < 500 || events.checks < 1000 {
		t.Errorf("complete %v, failures %d, errors %d, cases %d, checks %d",
			run.Complete, len(run.Failures), run.Cases.Errored, run.Cases.Generated, events.checks)
	}
	if events.serverErrors > 0 || events.failedChecks > 0 {
		t.Errorf("5xx answers %d, failed checks %d", events.serverErrors, events.failedChecks)
	}
	succeeded, operations := 0, operations(t)
	for _, operation := range operations {
		if events.succeeded[operation] == 0 {
			t.Errorf("%s never succeeded", operation)
			continue
		}
		succeeded++
	}
	t.Logf("cases %d, checks %d, failures %d, 5xx %d, operations %d, with a 2xx %d, answers by status %v",
		run.Cases.Generated, events.checks, len(run.Failures), events.serverErrors, len(operations), succeeded, events.statuses)
}

// links is the line that says how many of hooks.py's links were followed.
var links = regexp.MustCompile(`API Links: .*`)

// tokens are of records for the requests that hooks.py makes.
func tokens(t *testing.T, vault live.Vault) []string {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(vault.Addrs[0], vault.Key, client.Config{HTTP: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	var request client.TokenizeRequest
	for i := range 8 {
		request.Items = append(request.Items, client.TokenizeItem{Type: "email", Value: fmt.Sprintf("ann%d@example.com", i)})
	}
	answer, err := c.Tokenize(t.Context(), "", request)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for _, item := range answer.Items {
		tokens = append(tokens, item.Token)
	}
	return tokens
}

// operations are the contract's, such as "GET /livez".
func operations(t *testing.T) []string {
	t.Helper()
	var all []string
	for path, item := range apitest.Load(t).Paths.Map() {
		for method := range maps.Keys(item.Operations()) {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}
