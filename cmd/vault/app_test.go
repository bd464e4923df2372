package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"piivault/client"
	"piivault/cmd/vault/internal/bulk"
	"piivault/cmd/vault/internal/fakevault"
)

// newTestApp is an app that sees only a fake vault.
func newTestApp(t *testing.T, fake *fakevault.Server) (a *app, stdout, stderr *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	environment := map[string]string{"VAULT_ADDR": server.URL, "VAULT_KEY": fakevault.Key}
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &app{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		getenv: func(name string) string { return environment[name] },
		now:    func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
		sleep:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}, stdout, stderr
}

func TestRepairWatchesUntilItIsIdle(t *testing.T) {
	a, stdout, _ := newTestApp(t, fakevault.New())
	if code := run(t.Context(), a, []string{"repair", "--watch"}); code != exitOK {
		t.Errorf("exit %d", code)
	}
	want := `running: 1,234 scanned, 9 repaired, 8 remaining, 0 failed
idle: 1,234 scanned, 17 repaired, 0 remaining, 0 failed
idle: 1,234 scanned, 17 repaired, 0 remaining, 0 failed
`
	if diff := cmp.Diff(want, stdout.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRepairThatIsInterruptedGoesOn(t *testing.T) {
	a, _, stderr := newTestApp(t, fakevault.New())
	a.sleep = func(context.Context, time.Duration) error { return context.Canceled }
	if code := run(t.Context(), a, []string{"repair", "--watch"}); code != exitFailed || !strings.Contains(stderr.String(), "the repair itself goes on") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestErasureSumsUp(t *testing.T) {
	e := erasure{complete: true}
	for _, unconfirmed := range []string{"us-east-1", "ap-south-1", "us-east-1"} {
		e.add(client.EraseResponse{Job: unconfirmed, Erased: 2, Regions: []client.RegionConfirmation{{Name: "eu-west-1", Confirmed: true}, {Name: unconfirmed}}})
	}
	e.add(client.EraseResponse{Erased: 1, Complete: true})
	want := erasure{erased: 7, jobs: []string{"us-east-1", "ap-south-1", "us-east-1"}, waiting: []string{"ap-south-1", "us-east-1"}}
	if diff := cmp.Diff(want, e, cmp.AllowUnexported(erasure{})); diff != "" {
		t.Error(diff)
	}
	a, stdout, _ := newTestApp(t, fakevault.New())
	if err := a.printErasure(erasure{erased: 2, complete: true}); err != nil || stdout.String() != "2 erased here; complete in every region\n" {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

// An interrupted command does not wait for the rest of its input.
func TestReadingStdinIsInterruptible(t *testing.T) {
	a, _, stderr := newTestApp(t, fakevault.New())
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	a.stdin = r
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(ctx, a, []string{"tokenize", "--type", "email"}); code != exitFailed || stderr.String() != "vault tokenize: interrupted\n" {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestOneLineEndingIsNotPartOfTheValue(t *testing.T) {
	for in, want := range map[string]string{"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", "x\r": "x\r", " x \n": " x ", "": ""} {
		a := &app{stdin: strings.NewReader(in)}
		got, err := a.readSecret(t.Context(), "Value")
		if err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	a := &app{stdin: io.LimitReader(zeros{}, maxStdin+1)}
	var usage *usageError
	if _, err := a.readSecret(t.Context(), "Value"); !errors.As(err, &usage) {
		t.Errorf("too much: %v", err)
	}
	a.stdin = brokenReader{}
	if _, err := a.readSecret(t.Context(), "Value"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken pipe: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestGuardAddress(t *testing.T) {
	tests := []struct {
		address, allow string
		ok             bool
	}{
		{"http://127.0.0.1:8201", "", true},
		{"http://[::1]:8201", "", true},
		{"http://[::ffff:127.0.0.1]:8201", "", true},
		{"http://localhost:8201", "", true},
		{"http://vault.localhost", "", true},
		{"https://vault.example.com", "", true},
		{"http://vault.example.com", "", false},
		{"http://vault.example.com", "true", true},
		{"http://127.0.0.1.example.com", "", false},
		{"http://localhost.example.com", "", false},
		{"http://10.0.0.1", "", false},
		{"https://user@vault.example.com", "", false},
		{"http://%zz", "", false},
	}
	for _, test := range tests {
		a := &app{getenv: func(string) string { return test.allow }}
		if err := a.guardAddress(test.address); (err == nil) != test.ok {
			t.Errorf("%s, allowed %q: %v", test.address, test.allow, err)
		}
	}
}

func TestParseMapping(t *testing.T) {
	for text, want := range map[string]mapping{
		"email=email":         {"email", "email", ""},
		"tel no=phone:land":   {"tel no", "phone", "land"},
		"a=b=text":            {"a=b", "text", ""},
		"":                    {},
		"email":               {},
		"=email":              {},
		"email=":              {},
		"email=:country":      {},
		"email=email:":        {},
		"phone=phone:a:b=c:d": {"phone=phone:a:b", "c", "d"},
	} {
		got, err := parseMapping(text)
		if got != want && err == nil || (err != nil) != (want == mapping{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	a, _, _ := newTestApp(t, fakevault.New())
	for text, want := range map[string]string{
		"":                          "0001-01-01T00:00:00Z",
		"2027-01-31T12:00:00+01:00": "2027-01-31T11:00:00Z",
		"24h":                       "2026-02-28T12:00:00Z",
		"-24h":                      "",
		"2027-01-31":                "",
	} {
		got, err := a.parseTime("from", text, -1)
		if (err != nil) != (want == "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestBlastRadius(t *testing.T) {
	bound, free := true, false
	for want, item := range map[string]client.InspectedItem{
		"this field only": {Bound: &free},
		"this field only, and not without its token (bound)":                      {Bound: &bound},
		"every field that shares its data key":                                    {DataKey: client.DataKeyInfo{Reused: true}},
		"every field that shares its data key, and not without its token (bound)": {Bound: &bound, DataKey: client.DataKeyInfo{Reused: true}},
	} {
		if got := blastRadius(item); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := version(nil, false); !strings.HasPrefix(got, "vault (unknown build) go") {
		t.Error(got)
	}
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	if got := version(info, true); !strings.HasPrefix(got, "vault v1.2.3 abc (modified) go") {
		t.Error(got)
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{exitOK: nil, exitFailed: bulk.ErrBusy, exitUsage: usagef("x"), exitRefused: &refusedError{count: 1}} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d", err, got)
		}
	}
}
