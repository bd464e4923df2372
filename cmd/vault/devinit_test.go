package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestDevInit: from nothing to a key that works in both regions, once for all.
func TestDevInit(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(r.dir, "dev.key")
	if code, _, _ := r.command(t, nil, "dev-init"); code != exitUsage {
		t.Errorf("without --key-file: exit %d", code)
	}
	key := func() string {
		t.Helper()
		r.must(t, "dev-init", "--key-file", file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key file has mode %v, %v", info.Mode(), err)
		}
		return string(text[:len(text)-1])
	}
	first := key()
	if again := key(); again != first {
		t.Error("a key that works was replaced")
	}
	writeFile(t, file, "pvk_of_other_tables\n")
	second := key()
	if second == first {
		t.Error("a key that does not work was kept")
	}
	for _, region := range devRegions() {
		s := r.serve(t, "VAULT_REGION="+region, "VAULT_INSTANCE="+region)
		for _, k := range []string{first, second} {
			var types struct{ Types []struct{ Name string } }
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.at["api"]+"/v1/types", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+k)
			if status := r.do(t, req, &types); status != http.StatusOK || len(types.Types) == 0 {
				t.Errorf("%s: a key of dev-init: %d", region, status)
			}
		}
	}
}
