package compose_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"piivault/internal/crypto/kms"
	"piivault/internal/dynamo"
	"piivault/internal/sim/dynamolocal"
)

// patience is how long anything that must happen may take on a busy machine.
const patience = 60 * time.Second

// process is one that the test started and ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout *bufio.Reader
	ended  chan struct{}
}

// start runs a command until stop, or the test's end.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, cmd: cmd, stdout: bufio.NewReader(reader), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = writer, t.Output()
	err = cmd.Start()
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the exit code says all
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, or ends now
		<-p.ended
		_ = reader.Close() // of nothing more
	})
	return p
}

// line is the next that it prints.
func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return line
}

// wait gives the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.name)
		return -1
	}
}

func (p *process) stop(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop %s: %v", p.name, err)
	}
	return p.wait(t)
}

// rig runs the project's services on this machine: hosts, ports and paths of
// containers are replaced in commands, environments and files, nothing else.
type rig struct {
	project project
	image   stage
	dir     string
	address map[string]string // of each service
	running map[string]*process
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{project: readProject(t), dir: t.TempDir(), address: map[string]string{}, running: map[string]*process{}}
	_, r.image = readDockerfile(t)
	for name := range r.project.Services {
		r.address[name] = freeAddress(t)
	}
	r.startDynamoDB(t)
	text, err := os.ReadFile(r.project.Configs["vault"].File)
	if err != nil {
		t.Fatal(err)
	}
	config := r.here(t, service{}, string(text))
	if err := os.WriteFile(filepath.Join(r.dir, "vault.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// startDynamoDB: the jar is the image's business, the flags are ours. It
// depends on nothing, so it comes first.
func (r *rig) startDynamoDB(t *testing.T) {
	t.Helper()
	s := r.project.Services["dynamodb"]
	if !slices.Equal(s.Command, []string{"-jar", "DynamoDBLocal.jar", "-inMemory", "-disableTelemetry"}) || len(s.DependsOn) > 0 {
		t.Fatalf("dynamodb runs %q: internal/sim/dynamolocal does not", s.Command)
	}
	server, err := dynamolocal.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.address["dynamodb"] = strings.TrimPrefix(server.Endpoint, "http://")
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // only its number was wanted
	return l.Addr().String()
}

// here replaces what is a container's by what is this machine's.
func (r *rig) here(t *testing.T, s service, text string) string {
	t.Helper()
	pairs := []string{
		"dynamodb:8000", r.address["dynamodb"], "127.0.0.1:8000", r.address["dynamodb"],
		"kms:8203", r.address["kms"], "0.0.0.0:8203", r.address["kms"], "127.0.0.1:8203", r.address["kms"],
		r.image.Env["VAULT_CONFIG"], filepath.Join(r.dir, "vault.yaml"),
	}
	for _, v := range s.Volumes {
		volume := filepath.Join(r.dir, v.Source)
		if err := os.MkdirAll(volume, 0o700); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, v.Target, volume)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// command is one that runs in the service's container.
func (r *rig) command(t *testing.T, name string, words []string) *exec.Cmd {
	t.Helper()
	s := r.project.Services[name]
	var args []string
	for _, w := range words {
		args = append(args, r.here(t, s, w))
	}
	cmd := exec.Command(vaultBinary(t), args...)
	for _, variable := range s.environ(r.image) {
		cmd.Env = append(cmd.Env, r.here(t, s, variable))
	}
	// Containers have addresses of their own; here all have one.
	cmd.Env = append(cmd.Env, "VAULT_LISTEN="+r.address[name], "VAULT_METRICS_LISTEN=off")
	return cmd
}

// up starts the services, each when its dependencies are as it wants them.
func (r *rig) up(t *testing.T) {
	t.Helper()
	names := make([]string, 0, len(r.project.Services))
	for name := range r.project.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.start(t, name)
	}
	for _, name := range names { // what `up --wait` waits for
		if r.project.Services[name].checked() {
			r.healthy(t, name)
		}
	}
}

func (r *rig) start(t *testing.T, name string) {
	t.Helper()
	if name == "dynamodb" || r.running[name] != nil {
		return
	}
	s := r.project.Services[name]
	for dependency, d := range s.DependsOn {
		r.start(t, dependency)
		switch d.Condition {
		case "service_started":
		case "service_healthy":
			r.healthy(t, dependency)
		case "service_completed_successfully":
			if code := r.running[dependency].wait(t); code != 0 {
				t.Fatalf("%s ends with %d", dependency, code)
			}
		default:
			t.Fatalf("%s depends on %s by %s", name, dependency, d.Condition)
		}
	}
	r.running[name] = start(t, name, r.command(t, name, s.Command))
}

// healthy runs the service's health check until it succeeds.
func (r *rig) healthy(t *testing.T, name string) {
	t.Helper()
	s := r.project.Services[name]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := r.check(t, name, s)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not become healthy: %v", name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *rig) check(t *testing.T, name string, s service) error {
	t.Helper()
	words := s.Healthcheck.Test[1:]
	if words[0] == "/vault" {
		return r.command(t, name, words[1:]).Run()
	}
	if words[0] != "curl" {
		return fmt.Errorf("%q is in no image", words[0])
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.here(t, s, words[len(words)-1]), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close() // without --fail, curl is content with any answer
}

// post sends a request with the first key to a service.
func (r *rig) post(t *testing.T, name, path, key, body string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.address[name]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s%s: %d %s", name, path, res.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatal(err)
	}
}

type items struct {
	Items []struct{ Token, Value, Status string }
}

// TestUp: what `docker compose up` would run, in its order, tokenizes in one
// region, replicates, and detokenizes in the other (G1).
func TestUp(t *testing.T) {
	r := newRig(t)
	r.up(t)
	text, err := os.ReadFile(filepath.Join(r.dir, "keys", "dev.key"))
	if err != nil {
		t.Fatal(err)
	}
	key := string(bytes.TrimSpace(text))

	var made, opened items
	r.post(t, "eu-west-1-a", "/v1/tokenize", key, `{"items":[{"type":"email","value":"ann@example.com","subject_id":"C-1"}]}`, &made)
	r.replicated(t, key)
	detokenize := `{"items":[{"token":` + strconv.Quote(made.Items[0].Token) + `}],"purpose":"support"}`
	// Its own region's KMS key and table serve it: the other region's instances are gone.
	for _, name := range []string{"eu-west-1-a", "eu-west-1-b"} {
		if code := r.running[name].stop(t); code != 0 {
			t.Errorf("%s ends with %d", name, code)
		}
	}
	for _, name := range []string{"us-east-1-a", "us-east-1-b"} {
		r.post(t, name, "/v1/detokenize", key, detokenize, &opened)
		if opened.Items[0].Value != "ann@example.com" {
			t.Errorf("%s: %+v", name, opened)
		}
	}
	// Up again while it runs: nothing is made twice.
	if code := start(t, "init", r.command(t, "init", r.project.Services["init"].Command)).wait(t); code != 0 {
		t.Errorf("init once more ends with %d", code)
	}
	if again, err := os.ReadFile(filepath.Join(r.dir, "keys", "dev.key")); err != nil || !bytes.Equal(again, text) {
		t.Errorf("init replaced the key, %v", err)
	}
	for _, name := range []string{"us-east-1-a", "us-east-1-b", "replicator", "kms"} {
		if code := r.running[name].stop(t); code != 0 {
			t.Errorf("%s ends with %d", name, code)
		}
	}
}

// replicated waits until us-east-1 has eu-west-1's record and audit entry, which
// nothing but the replicator brings there.
func (r *rig) replicated(t *testing.T, key string) {
	t.Helper()
	for name, value := range r.project.Services["us-east-1-a"].Environment {
		t.Setenv(name, value)
	}
	credentials, err := kms.DefaultCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	us := dynamolocal.NewClient(t, dynamo.Config{Region: "us-east-1", Endpoint: "http://" + r.address["dynamodb"], Credentials: credentials})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		records := 0
		err := us.ScanIndex(ctx, "vault-records", "by-subject", 10, nil, func(dynamo.Item) (bool, error) { records++; return true, nil })
		if err != nil {
			t.Fatal(err)
		}
		var found struct {
			Entries []struct{ Action, Region string }
		}
		r.post(t, "us-east-1-b", "/v1/audit/query", key, `{"action":"tokenize"}`, &found)
		if records == 1 && len(found.Entries) == 1 && found.Entries[0].Region == "eu-west-1" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not replicated: %d records, %+v", records, found)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
