package compose_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// project is docker-compose.yml as Compose understands it.
type project struct {
	Services map[string]service
	Volumes  map[string]any
	Configs  map[string]struct{ File string }
}

type service struct {
	Image       string
	Build       *struct{ Context, Dockerfile string }
	Command     []string
	Entrypoint  []string
	Environment map[string]string
	User        string
	Privileged  bool
	NetworkMode string   `json:"network_mode"`
	ReadOnly    bool     `json:"read_only"`
	CapDrop     []string `json:"cap_drop"`
	CapAdd      []string `json:"cap_add"`
	SecurityOpt []string `json:"security_opt"`
	StopGrace   string   `json:"stop_grace_period"`
	Ports       []struct {
		HostIP    string `json:"host_ip"`
		Published string
		Target    int
	}
	Volumes     []struct{ Type, Source, Target string }
	Configs     []struct{ Source, Target string }
	Healthcheck *struct {
		Test              []string
		Disable           bool
		Interval, Timeout string
		StartPeriod       string `json:"start_period"`
		Retries           int
	}
	DependsOn map[string]struct{ Condition string } `json:"depends_on"`
}

func (s service) checked() bool { return s.Healthcheck != nil && !s.Healthcheck.Disable }

func readProject(t *testing.T) project {
	t.Helper()
	var p project
	load(t, &p, "", "-compose", filepath.Join(root, "docker-compose.yml"))
	return p
}

// environ is what the service's processes see of the environment.
func (s service) environ(image stage) []string {
	all := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}
	for name, value := range image.Env {
		all = append(all, name+"="+value)
	}
	for name, value := range s.Environment {
		all = append(all, name+"="+value)
	}
	return all
}

func TestServices(t *testing.T) {
	p := readProject(t)
	_, image := readDockerfile(t)
	var names []string
	for name, s := range p.Services {
		names = append(names, name)
		t.Run(name, func(t *testing.T) { checkService(t, p, s, image) })
	}
	slices.Sort(names)
	want := []string{"dynamodb", "eu-west-1-a", "eu-west-1-b", "init", "kms", "replicator", "us-east-1-a", "us-east-1-b"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if len(p.Volumes) != 2 {
		t.Errorf("volumes %v", p.Volumes)
	}
}

func checkService(t *testing.T, p project, s service, image stage) {
	t.Helper()
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(s.User) || s.Privileged || len(s.CapAdd) > 0 || s.NetworkMode != "" ||
		!slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
		t.Errorf("user %q, privileged %v, capabilities -%v +%v, %v", s.User, s.Privileged, s.CapDrop, s.CapAdd, s.SecurityOpt)
	}
	for _, port := range s.Ports {
		if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
			t.Errorf("port %s is published on %q", port.Published, port.HostIP)
		}
		if !slices.Contains(image.Exposed, "8200") || port.Target != 8200 {
			t.Errorf("port %d of the container is none of the image's", port.Target)
		}
	}
	for _, v := range s.Volumes {
		if _, named := p.Volumes[v.Source]; v.Type != "volume" || !named || v.Target != "/var/lib/vault" {
			t.Errorf("%s %s at %s: a named volume belongs to whom the image's directory does", v.Type, v.Source, v.Target)
		}
	}
	for dependency, d := range s.DependsOn {
		on, ok := p.Services[dependency]
		if !ok || d.Condition == "service_healthy" && !on.checked() {
			t.Errorf("%s never becomes %s", dependency, d.Condition)
		}
	}
	for name, value := range s.Environment {
		known := map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_EC2_METADATA_DISABLED": "true"}
		if value != known[name] && !strings.HasPrefix(name, "VAULT_") {
			t.Errorf("%s is neither a key of the configuration nor AWS's example", name)
		}
	}
	if s.Build == nil {
		if !regexp.MustCompile(`^[a-z/-]+:\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$`).MatchString(s.Image) {
			t.Errorf("image %s is not pinned", s.Image)
		}
		return
	}
	checkVault(t, p, s, image)
}

// checkVault: the commands, flags, keys and health check of a service that runs
// our image mean something to the binary.
func checkVault(t *testing.T, p project, s service, image stage) {
	t.Helper()
	context, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if s.Image != "piivault:dev" || s.Build.Context != context || s.Build.Dockerfile != "Dockerfile" || s.User != image.User || !s.ReadOnly || s.Entrypoint != nil {
		t.Errorf("%+v", s)
	}
	help(t, append([]string{"/vault"}, s.Command...))
	if s.checked() {
		help(t, s.Healthcheck.Test[1:])
	}
	if s.checked() && s.Healthcheck.Test[0] != "CMD" {
		t.Errorf("health check %q: there is no shell", s.Healthcheck.Test)
	}
	if len(s.Configs) == 0 {
		return // dev-kms
	}
	if s.Configs[0].Target != image.Env["VAULT_CONFIG"] {
		t.Errorf("the configuration is at %s", s.Configs[0].Target)
	}
	check := exec.CommandContext(t.Context(), vaultBinary(t), "config", "check", "--config", p.Configs[s.Configs[0].Source].File)
	check.Env = s.environ(image)
	out, err := check.CombinedOutput()
	region := s.Environment["VAULT_REGION"]
	if region == "" {
		region = "eu-west-1"
	}
	if err != nil || strings.Contains(string(out), "is no key") || !regexp.MustCompile(`(?m)^`+region+` +yes `).Match(out) {
		t.Errorf("config check: %v\n%s", err, out)
	}
	// Stopping takes as long as draining may: 1 s and 10 s in vault.yaml.
	if grace, err := time.ParseDuration(s.StopGrace); err != nil || grace < 15*time.Second {
		t.Errorf("it is killed after %s", s.StopGrace)
	}
}

// TestKeys: vault.yaml names the keys that dev-kms makes, and Java's server is
// the version that the tests run.
func TestKeys(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose/vault.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`key_arn: (\S+)`).FindAllStringSubmatch(string(text), -1)
	kms := start(t, "kms", exec.Command(vaultBinary(t), "dev-kms", "--addr", "127.0.0.1:0", "--json"))
	line := kms.line(t)
	for _, key := range named {
		if !strings.Contains(line, `"arn":"`+key[1]+`"`) {
			t.Errorf("dev-kms makes no key %s: %s", key[1], line)
		}
	}
	if code := kms.stop(t); code != 0 || len(named) != 2 {
		t.Errorf("%d keys; dev-kms ends with %d", len(named), code)
	}
	pom, err := os.ReadFile(filepath.Join(root, "internal/sim/dynamolocal/pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`<version>(\d+\.\d+\.\d+)</version>`).FindSubmatch(pom)
	if version == nil || !strings.HasPrefix(readProject(t).Services["dynamodb"].Image, "amazon/dynamodb-local:"+string(version[1])+"@") {
		t.Errorf("the tests run DynamoDB Local %s, compose another", version)
	}
}
