package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDevReplicate: one region's audit log reaches the other, where nothing
// else could bring it.
func TestDevReplicate(t *testing.T) {
	r := newRig(t)
	key := filepath.Join(r.dir, "dev.key")
	r.must(t, "dev-init", "--key-file", key)
	ctx, cancel := context.WithCancel(t.Context())
	a := newApp()
	var stderr bytes.Buffer
	a.stderr = &stderr
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, a, []string{"dev-replicate", "--config", r.file, "--delay", "10ms"}) }()
	stop := func() int { cancel(); return <-ended }

	eu, us := r.serve(t), r.serve(t, "VAULT_REGION=us-east-1")
	credential, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	var made tokens
	if status := r.post(t, eu.at["api"]+"/v1/tokenize", strings.TrimSpace(string(credential)), `{"items":[{"type":"email","value":"ann@example.com"}]}`, &made); status != http.StatusOK {
		t.Fatalf("tokenize: %d", status)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		var found struct {
			Entries []struct{ Action, Region string }
		}
		if status := r.post(t, us.at["api"]+"/v1/audit/query", strings.TrimSpace(string(credential)), `{"action":"tokenize"}`, &found); status != http.StatusOK {
			t.Fatalf("audit query: %d", status)
		}
		if len(found.Entries) == 1 && found.Entries[0].Region == "eu-west-1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the entry did not arrive: %+v", found)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if code := stop(); code != exitOK || !strings.Contains(stderr.String(), "stopped replicating") {
		t.Errorf("exit %d: %s", code, &stderr)
	}
}

func TestDevReplicateRefuses(t *testing.T) {
	dir := t.TempDir()
	r := &rig{file: filepath.Join(dir, "vault.yaml")}
	const key = `arn:aws:kms:%s:111122223333:key/1`
	region := func(name, more string) string {
		return `{name: ` + name + `, kms: {key_arn: "` + strings.Replace(key, "%s", name, 1) + `"}` + more + `}`
	}
	const local = `, dynamodb: {endpoint: "http://127.0.0.1:1"}`
	for want, text := range map[string]string{
		"there is nothing to replicate": region("eu-west-1", local),
		"region us-east-1 is on AWS":    region("eu-west-1", local) + ", " + region("us-east-1", ""),
		"--delay and --jitter":          region("eu-west-1", local) + ", " + region("us-east-1", local),
	} {
		writeFile(t, r.file, "{env: t, region: eu-west-1, regions: ["+text+"]}")
		args := []string{"dev-replicate"}
		if strings.HasPrefix(want, "--") {
			args = append(args, "--delay", "-1s")
		}
		if code, _, stderr := r.command(t, nil, args...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", want, code, stderr)
		}
	}
}
