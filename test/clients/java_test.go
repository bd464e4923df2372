package clients_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// java has Maven fetch into a repository of its own while every plugin skips
// its work, checks each jar there against the committed list (Maven 3.8 has no
// lock file), and only then lets them generate and compile, without network.
func java(t *testing.T, c client) []string {
	t.Helper()
	repository := filepath.Join(c.cache, "maven")
	list, err := os.ReadFile(filepath.Join(c.dir, "jars.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	maven := []string{"mvn", "-B", "-q", "-Dstyle.color=never", "-Dmaven.repo.local=" + repository}
	if errors.Is(checkJars(repository, string(list)), fs.ErrNotExist) {
		c.run(t, append(maven, "--strict-checksums", "-Dcodegen.skip", "-Dmaven.resources.skip", "-Dmaven.main.skip", "-Dexec.skip", "compile", "exec:java")...)
	}
	if err := checkJars(repository, string(list)); err != nil {
		t.Fatal(err)
	}
	c.run(t, append(maven, "--offline", "compile")...)
	return append(maven, "--offline", "exec:java")
}

// checkJars wants the jars below dir to be those of the list, which is as
// sha256sum prints it. fs.ErrNotExist: one is missing, the others are right.
func checkJars(dir, list string) error {
	want := map[string]string{}
	for line := range strings.Lines(list) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return errors.New("jars.sha256 has a line that is none of sha256sum's")
		}
		want[name] = sum
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".jar" {
			return err
		}
		jar, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(jar); hex.EncodeToString(sum[:]) != want[name] {
			return fmt.Errorf("%s is not a jar of jars.sha256", name)
		}
		delete(want, name)
		return nil
	})
	if err == nil && len(want) > 0 {
		return fmt.Errorf("%d jars: %w", len(want), fs.ErrNotExist)
	}
	return err
}

func TestCheckJars(t *testing.T) {
	const list = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  org/a.jar\n"
	for _, c := range []struct {
		name, file, content string
		missing, wrong      bool
	}{
		{"there", "org/a.jar", "abc", false, false},
		{"nothing", "", "", true, true},
		{"another's content", "org/a.jar", "abd", false, true},
		{"another's name", "org/b.jar", "abc", false, true},
		{"no jar", "org/a.pom", "abc", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.file != "" {
				write(t, filepath.Join(dir, c.file), c.content)
			}
			if err := checkJars(dir, list); (err != nil) != c.wrong || errors.Is(err, fs.ErrNotExist) != c.missing {
				t.Errorf("%v", err)
			}
		})
	}
	if checkJars(t.TempDir(), "no sum\n") == nil {
		t.Error("took a list that is none")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
