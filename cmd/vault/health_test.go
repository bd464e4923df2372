package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"piivault/cmd/vault/internal/config"
)

func TestReadyURL(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:8200":   "http://127.0.0.1:8200/readyz",
		":8200":          "http://127.0.0.1:8200/readyz",
		"[::]:8200":      "http://[::1]:8200/readyz",
		"localhost:8200": "http://localhost:8200/readyz",
		"10.0.0.5:8200":  "http://10.0.0.5:8200/readyz",
		"127.0.0.1:0":    "",
	} {
		if got, err := readyURL(listen, false); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", listen, got, err)
		}
	}
	if got, err := readyURL("0.0.0.0:8443", true); err != nil || got != "https://127.0.0.1:8443/readyz" {
		t.Errorf("with TLS: %s, %v", got, err)
	}
}

// TestHealth asks instances with and without TLS, ready, not ready and gone.
func TestHealth(t *testing.T) {
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s, or a credential", r.URL.Path)
		}
		w.WriteHeader(status)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	dir := t.TempDir()
	r := &rig{file: filepath.Join(dir, "vault.yaml")}
	writeFile(t, r.file, strings.Replace(string(config.Example()), "listen: 0.0.0.0:8443", "listen: "+secure.Listener.Addr().String(), 1))
	withoutTLS := filepath.Join(dir, "plain.yaml")
	writeFile(t, withoutTLS, `{env: t, region: eu-west-1, store: embedded, data: /d, allow_local_kms: true, listen: "`+plain.Listener.Addr().String()+
		`", regions: [{name: eu-west-1, kms: {local: k}}]}`)
	for _, answer := range []int{http.StatusOK, http.StatusServiceUnavailable, http.StatusFound, http.StatusOK} {
		status = answer
		want := map[bool]int{true: exitOK, false: exitFailed}[answer == http.StatusOK]
		for _, file := range []string{r.file, withoutTLS} {
			r.file = file
			if code, _, stderr := r.command(t, nil, "health"); code != want {
				t.Errorf("%s answers %d: exit %d: %s", filepath.Base(file), answer, code, stderr)
			}
		}
		if code := runHealth(t, "--url", plain.URL+"/readyz"); code != want {
			t.Errorf("--url, %d: exit %d", answer, code)
		}
		// Elsewhere a certificate counts.
		if code := runHealth(t, "--url", secure.URL+"/readyz"); code != exitFailed {
			t.Errorf("an unknown certificate: exit %d", code)
		}
	}
	secure.Close()
	plain.Close()
	if code := runHealth(t, "--url", plain.URL+"/readyz"); code != exitFailed {
		t.Errorf("nobody there: exit %d", code)
	}
	for _, args := range [][]string{{}, {"--url", "http://x", "--config", "y"}, {"--url", ":"}} {
		if code := runHealth(t, args...); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func runHealth(t *testing.T, args ...string) int {
	t.Helper()
	a := newApp()
	a.stdout, a.stderr = t.Output(), t.Output()
	a.getenv = func(string) string { return "" }
	return run(t.Context(), a, append([]string{"health"}, args...))
}
