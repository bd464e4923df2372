package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is committed is what the contract gives: otherwise run make generate.
func TestGeneratedCodeIsUpToDate(t *testing.T) {
	for config, committed := range map[string]string{
		"server.cfg.yaml": "api.gen.go",
		"client.cfg.yaml": "../client/client.gen.go",
	} {
		fresh := filepath.Join(t.TempDir(), "fresh.go")
		elsewhere := filepath.Join(t.TempDir(), config)
		redirected := strings.Replace(read(t, config), "output: "+committed, "output: "+fresh, 1)
		if err := os.WriteFile(elsewhere, []byte(redirected), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../tools.mod", "oapi-codegen", "-config", elsewhere, "openapi.yaml")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", config, err, out)
		}
		if diff := cmp.Diff(read(t, fresh), read(t, committed)); diff != "" {
			t.Errorf("%s is not what openapi.yaml gives: run make generate\n%.2000s", committed, diff)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
