package terraform_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"piivault/internal/sim/pinned"
)

// fewestChecks is below what passed when this was written, 503: a checkov that
// reads nothing finds nothing.
const fewestChecks = 450

// TestCheckov looks for what security scanners look for in configurations of
// AWS. Exceptions are comments beside what they except, with their reasons.
func TestCheckov(t *testing.T) {
	t.Parallel()
	bin, err := pinned.Venv(t.Context(), "checkov", "test/requirements-checkov.txt")
	if err != nil {
		t.Fatalf("install checkov: %v", err)
	}
	scan := exec.CommandContext(t.Context(), filepath.Join(bin, "python"), filepath.Join(bin, "checkov"),
		"--directory", modules, "--framework", "terraform", "--skip-download", "--compact", "--output", "json")
	scan.Stderr = t.Output()
	out, scanned := scan.Output() // 1 where anything failed: the report says what
	var report struct {
		Summary struct {
			Passed, Failed, Skipped int
			Unread                  int `json:"parsing_errors"`
		}
		Results struct {
			Failed []struct {
				Check    string `json:"check_id"`
				Name     string `json:"check_name"`
				Resource string
				File     string `json:"file_path"`
			} `json:"failed_checks"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("checkov: %v, %v\n%s", scanned, err, out)
	}
	for _, f := range report.Results.Failed {
		t.Errorf("%s: %s: %s (%s)", f.File, f.Resource, f.Name, f.Check)
	}
	if s := report.Summary; scanned != nil || s.Failed > 0 || s.Unread > 0 || s.Passed < fewestChecks {
		t.Errorf("checkov: %v, %+v", scanned, s)
	}
	t.Logf("checkov: %d checks passed, %d excepted", report.Summary.Passed, report.Summary.Skipped)
}
