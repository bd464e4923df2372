// Package clients_test generates, compiles and runs the examples of clients/
// as their READMEs say, against a live `vault dev`: in through one region, out
// through the other.
package clients_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"piivault/internal/sim/pinned"
	"piivault/test/live"
)

// masked is what each example prints: the built-in types' masks.
const masked = "email: a***@e***.com\nphone: ***78\nname: A*** E***\n"

// builders fetch, generate and compile, and return the command that then runs
// the example.
var builders = map[string]func(*testing.T, client) []string{"typescript": typescript, "python": python, "java": java}

func TestClients(t *testing.T) {
	root, err := pinned.Root()
	if err != nil {
		t.Fatal(err)
	}
	vault := live.Start(t)
	for language, build := range builders {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			c := client{dir: filepath.Join(root, "clients", language), cache: filepath.Join(root, ".cache")}
			unlock, err := pinned.Lock(filepath.Join(c.cache, "clients-"+language+".lock"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unlock(); err != nil {
					t.Error(err)
				}
			})
			example := build(t, c)
			c.env = append(os.Environ(), "VAULT_ADDR="+vault.Addrs[0], "VAULT_ADDR2="+vault.Addrs[1], "VAULT_KEY="+vault.Key)
			if got := c.run(t, example...); got != masked {
				t.Errorf("it printed\n%swant\n%s", got, masked)
			}
			c.env = append(c.env, "VAULT_KEY="+wrongKey) // the last one counts
			checkRefused(t, c, example)
		})
	}
}

// wrongKey has the form of a key and is none.
const wrongKey = "pvk_aaaaaaaaaaaaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// checkRefused wants the example to fail, to say why, and not to say the key.
func checkRefused(t *testing.T, c client, example []string) {
	t.Helper()
	_, output, err := c.try(t, example...)
	if err == nil || !strings.Contains(output, "unauthenticated") {
		t.Errorf("with a wrong key: %v\n%s", err, output)
	}
	if strings.Contains(output, wrongKey) {
		t.Error("it printed its key")
	}
}

func typescript(t *testing.T, c client) []string {
	t.Helper()
	c.run(t, "npm", "ci", "--cache", filepath.Join(c.cache, "npm"), "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
	c.run(t, "npm", "run", "generate")
	c.run(t, "npm", "run", "build")
	return []string{"node", "dist/signup.js"}
}

func python(t *testing.T, c client) []string {
	t.Helper()
	bin, err := pinned.Venv(t.Context(), "clients-python", "clients/python/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	c.run(t, filepath.Join(bin, "openapi-python-client"), "generate", "--path", "../../api/openapi.yaml",
		"--config", "generator.yaml", "--meta", "none", "--output-path", "vault_client", "--overwrite", "--fail-on-warning")
	return []string{filepath.Join(bin, "python"), "-B", "-W", "error", "signup.py"}
}

// client is the folder of a language's example.
type client struct {
	dir, cache string
	env        []string // nil: this process's
}

// run returns what a command in the folder writes to standard output.
func (c client) run(t *testing.T, command ...string) string {
	t.Helper()
	stdout, output, err := c.try(t, command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output)
	}
	return stdout
}

func (c client) try(t *testing.T, command ...string) (stdout, output string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	stdout = strings.ReplaceAll(out.String(), "\x1b[0m", "") // of Maven, which takes any output for a terminal
	return stdout, stdout + errs.String(), err
}
