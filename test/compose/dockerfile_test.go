package compose_test

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stage is one of the Dockerfile's, as load/ prints it.
type stage struct {
	Name, Base, Platform string
	Runs                 []string
	Copies               []struct {
		From         string
		Sources      []string
		To           string
		Chown, Chmod string
	}
	Env                  map[string]string
	User                 string
	Entrypoint, Cmd      []string
	Exposed, Healthcheck []string
	StopSignal           string
}

func (s stage) buildLine() string {
	i := slices.IndexFunc(s.Runs, func(line string) bool { return strings.Contains(line, "go build") })
	if i < 0 {
		return "false"
	}
	return s.Runs[i]
}

// image is the Dockerfile's last stage; build makes what it holds.
func readDockerfile(t *testing.T) (build, image stage) {
	t.Helper()
	var stages []stage
	load(t, &stages, "", "-dockerfile", filepath.Join(root, "Dockerfile"))
	if len(stages) != 2 {
		t.Fatalf("%d stages", len(stages))
	}
	return stages[0], stages[1]
}

func TestImage(t *testing.T) {
	build, image := readDockerfile(t)
	if image.Base != "scratch" || !slices.Equal(image.Entrypoint, []string{"/vault"}) || !slices.Equal(image.Cmd, []string{"serve"}) {
		t.Errorf("%+v", image)
	}
	if !regexp.MustCompile(`^golang:[0-9]+\.[0-9]+\.[0-9]+-[a-z]+$`).MatchString(build.Base) {
		t.Errorf("base %s: not an exact version", build.Base)
	}
	var from []string
	for _, c := range image.Copies {
		if c.From != build.Name {
			t.Errorf("%v is copied from outside of the build", c.Sources)
		}
		from = append(from, c.Sources...)
		if c.To == "/var/lib/vault" && (c.Chown != image.User || c.Chmod != "700") {
			t.Errorf("the volumes' directory belongs to %s, mode %s; the image runs as %s", c.Chown, c.Chmod, image.User)
		}
	}
	if diff := cmp.Diff([]string{"/etc/ssl/certs/ca-certificates.crt", "/out/vault", "/out/data"}, from); diff != "" {
		t.Errorf("the image holds something else (-want +got):\n%s", diff)
	}
	// Which the certificate's key belongs to on ECS.
	variables, err := os.ReadFile(filepath.Join(root, "terraform/service/variables.tf"))
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`variable "user" \{[^}]*default\s+= "([^"]+)"`).FindSubmatch(variables)
	if user == nil || string(user[1]) != image.User || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(image.User) {
		t.Errorf("the image runs as %q, terraform/service expects %q", image.User, user)
	}
	if out, err := os.ReadFile(filepath.Join(root, "terraform/service/task.tf")); err != nil || !strings.Contains(string(out), `"--config", "`+image.Env["VAULT_CONFIG"]+`"`) {
		t.Errorf("terraform/service has the configuration elsewhere than %s, %v", image.Env["VAULT_CONFIG"], err)
	}
	help(t, append(image.Entrypoint, image.Cmd...))
	help(t, image.Healthcheck[1:])
	if image.Healthcheck[0] != "CMD" || image.StopSignal != "SIGTERM" {
		t.Errorf("health check %q, stop signal %s", image.Healthcheck, image.StopSignal)
	}
}

// help wants a command line of the image, /vault first, to parse.
func help(t *testing.T, words []string) {
	t.Helper()
	if words[0] != "/vault" {
		t.Errorf("%q is not in the image", words[0])
		return
	}
	out, err := exec.CommandContext(t.Context(), vaultBinary(t), append(words[1:], "--help")...).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out[strings.Index(string(out), "Usage:")+1:]), "sage:\n  vault "+words[1]) {
		t.Errorf("%q: %v\n%s", words, err, out)
	}
}

// TestBinary: no interpreter, so it runs where there is nothing else; no path
// of the machine that built it; and it names its commit.
func TestBinary(t *testing.T) {
	file, err := elf.Open(vaultBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: %v", p.Type)
		}
	}
	info, err := buildinfo.ReadFile(vaultBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || len(settings["vcs.revision"]) < 40 {
		t.Errorf("%v", settings)
	}
}

// TestContext: the build sees all that git tracks, without which the binary
// says "modified", and nothing that git ignores.
func TestContext(t *testing.T) {
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*"}, args...)...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	ignored := func(paths string) []string {
		t.Helper()
		var found []string
		load(t, &found, paths, "-ignored", filepath.Join(root, ".dockerignore"))
		return found
	}
	if lost := ignored(git("ls-files") + ".git/HEAD\n"); len(lost) > 0 {
		t.Errorf("tracked, but not in the build's context: %q", lost)
	}
	build, _ := readDockerfile(t)
	for _, c := range build.Copies {
		for _, source := range c.Sources {
			if _, err := os.Stat(filepath.Join(root, source)); err != nil || source != "." && len(ignored(source)) > 0 {
				t.Errorf("COPY %s: %v, or it is ignored", source, err)
			}
		}
	}
	private := []string{
		".cache/bin/x", ".vault-dev/dev.key", "a/.vault-dev/dev.key", "bin/vault", "dist/x", "a/b.test", "c.prof", "d.out", "clients/node_modules/x/y",
		"test/__pycache__/x", "terraform/keys/.terraform/x", "terraform/a/terraform.tfstate", "terraform/a/terraform.tfstate.backup", "terraform/prod.tfvars",
	}
	if diff := cmp.Diff(private, ignored(strings.Join(private, "\n"))); diff != "" {
		t.Errorf("in the build's context, and not for it (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(private, strings.Fields(git(append([]string{"check-ignore", "--no-index"}, private...)...))); diff != "" {
		t.Errorf("not ignored by git (-want +got):\n%s", diff)
	}
}
