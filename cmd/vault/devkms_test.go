package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"piivault/internal/sim/kmsserver"
)

// printed is what `vault dev-kms --json` prints.
type printed struct {
	Endpoint string `json:"endpoint"`
	Regions  []struct {
		Name string `json:"name"`
		Keys []struct {
			ARN         string `json:"arn"`
			State       string `json:"state"`
			MultiRegion bool   `json:"multi_region"`
		} `json:"keys"`
	} `json:"regions"`
}

// startDevKMS runs the command until stop, which returns its exit code.
func startDevKMS(t *testing.T, args ...string) (out printed, stop func() int) {
	t.Helper()
	reader, writer := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, &app{stdin: strings.NewReader(""), stdout: writer, stderr: t.Output()}, append([]string{"dev-kms", "--addr", "127.0.0.1:0", "--json"}, args...))
		_ = writer.Close() // never fails
	}()
	line, err := bufio.NewReader(reader).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &out); err != nil {
		t.Fatal(err)
	}
	return out, func() int { cancel(); return <-code }
}

func (p printed) arns() (all []string) {
	for _, r := range p.Regions {
		for _, k := range r.Keys {
			all = append(all, k.ARN)
		}
	}
	return all
}

func TestDevKMS(t *testing.T) {
	dir := t.TempDir()
	first, stop := startDevKMS(t, "--data", dir)
	if len(first.Regions) != 2 || len(first.arns()) != 2 || first.Regions[0].Name != "eu-west-1" {
		t.Errorf("%+v", first)
	}
	for path, want := range map[string]int{"/_health": http.StatusNoContent, "/_keys": http.StatusOK, "/other": http.StatusNotFound} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, first.Endpoint+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != want {
			t.Errorf("%s: %d, %v", path, response.StatusCode, err)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}

	// The keys are kept, and a multi-Region key joins them once.
	want := first.arns()
	for range 2 {
		again, stop := startDevKMS(t, "--data", dir, "--mrk")
		stop()
		if got := again.arns(); len(got) != 4 || !strings.Contains(strings.Join(got, " "), want[0]) {
			t.Errorf("keys %v, before %v", got, want)
		}
	}
	// ARNs are the same on every machine.
	elsewhere, stop := startDevKMS(t)
	stop()
	if got := elsewhere.arns(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("keys %v, elsewhere %v", want, got)
	}
}

func TestDevKMSReplicas(t *testing.T) {
	out, stop := startDevKMS(t, "--mrk", "--regions", "eu-west-1,us-east-1,ap-south-1")
	stop()
	ids := make(map[string]int)
	for _, arn := range out.arns() {
		ids[arn[strings.LastIndexByte(arn, '/')+1:]]++
	}
	if len(out.Regions) != 3 || len(ids) != 1 {
		t.Errorf("%+v", out)
	}
}

// Nobody but this machine reaches it, unless that is asked for.
func TestDevKMSListensOnLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		var stderr bytes.Buffer
		code := run(t.Context(), &app{stdout: io.Discard, stderr: &stderr}, []string{"dev-kms", "--addr", addr})
		if code != exitUsage || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %s", addr, code, &stderr)
		}
	}
	// Asked for, it is tried; the address is one that no machine has.
	if code := run(t.Context(), &app{stdout: io.Discard, stderr: io.Discard}, []string{"dev-kms", "--addr", "192.0.2.1:0", "--listen-any"}); code != exitFailed {
		t.Errorf("--listen-any: exit code %d", code)
	}
	if code := run(t.Context(), &app{stdout: io.Discard, stderr: io.Discard}, []string{"dev-kms", "--addr", "127.0.0.1:0", "--regions", ""}); code != exitFailed {
		t.Errorf("no region: exit code %d", code)
	}
}

func TestDevKMSScreen(t *testing.T) {
	regions := []kmsserver.Region{{Name: "eu-west-1", Keys: []kmsserver.Key{{ARN: "arn:aws:kms:eu-west-1:000000000000:key/x"}}}}
	for data, want := range map[string]string{"": "the keys are lost", "dir": "the keys are kept"} {
		var screen bytes.Buffer
		if err := printDevKMS(&screen, devKMSConfig{data: data}, "http://127.0.0.1:1", regions); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{want, "http://127.0.0.1:1\n", "eu-west-1     arn:aws:kms:eu-west-1:000000000000:key/x\n"} {
			if !strings.Contains(screen.String(), part) {
				t.Errorf("%q is not in %s", part, &screen)
			}
		}
	}
}
