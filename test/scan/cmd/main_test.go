package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitStatus(t *testing.T) {
	dir, list := t.TempDir(), filepath.Join(t.TempDir(), "needles")
	put := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(list, "somebody@example.com\n\nsecond needle\r\n")
	put(filepath.Join(dir, "a"), "harmless")

	out := new(strings.Builder)
	if code := run([]string{"--dir", dir, "--needles", list}, out, out); code != 0 || !strings.Contains(out.String(), "0 hits in 1 files") {
		t.Errorf("clean: %d %s", code, out)
	}
	put(filepath.Join(dir, "b"), "x second needle x")
	out.Reset()
	if code := run([]string{"--dir", dir, "--needles", list}, out, out); code != 1 || !strings.Contains(out.String(), "line 3 as raw") {
		t.Errorf("planted: %d %s", code, out)
	}
	if code := run([]string{"--dir", dir, "--needles", filepath.Join(dir, "none")}, out, out); code != 2 {
		t.Errorf("no needles: %d", code)
	}
}
