package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// filesOf is every file under dir by its hash.
func filesOf(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	files := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// newest is the file that matches and has the highest number.
func newest(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[len(found)-1]
}

// flip turns one bit of a file, at a part of its length, and returns what
// turns it back.
func flip(t *testing.T, path string, part float64) (undo func()) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := int(part * float64(len(b)-1))
	change := func() {
		b[at] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change()
	return change
}

// killedWorld is the directory of a `vault dev` that was killed, so that its
// newest writes are in its logs only, with some values.
func killedWorld(t *testing.T) (dir string, list []kept) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "world")
	p := startDev(t, dir)
	for _, region := range []string{regionA, regionB} {
		c := p.client(region)
		for i := range 20 {
			list = append(list, keep(t, c, item("text", fmt.Sprintf("note %d of %s", i, region)))...)
		}
		wantValues(t, c, list)
	}
	p.kill()
	return dir, list
}

// A flipped bit is refused in one clear line, whatever file of whatever region
// it is in, and no harm is done: with the bit back, everything is there. (In
// the last group of a log, and the last edits of a manifest, a flipped bit
// cannot be told from the write that a crash interrupted: those are not here.)
func TestDevRefusesDamage(t *testing.T) {
	world, list := killedWorld(t)
	for _, region := range []string{regionA, regionB} {
		for _, c := range []struct {
			file, says string
			parts      []float64
			recovers   bool // the damage is met only after the log was replayed
		}{
			{"kms.json", "kms.json", []float64{0, 0.5, 0.9}, false},
			{"data/*.log", "log", []float64{0.05, 0.3}, false},
			{"data/*.sst", "corrupt", []float64{0.1}, true},
			{"data/*.sst", "corrupt", []float64{0.99}, true},
			{"data/MANIFEST-*", "corrupt", []float64{0.1, 0.3}, false},
		} {
			t.Run(fmt.Sprintf("%s %s %v", region, c.file, c.parts), func(t *testing.T) {
				dir := copyOf(t, world)
				for _, part := range c.parts {
					path := newest(t, filepath.Join(dir, region, c.file))
					undo := flip(t, path, part)
					before := filesOf(t, filepath.Join(dir, region))
					wantText(t, refused(t, devCommand(t, dir)), c.says)
					after := filesOf(t, filepath.Join(dir, region))
					if after[path] != before[path] || !c.recovers && !maps.Equal(after, before) {
						t.Error("the refusal changed files")
					}
					undo()
				}
				p := startDev(t, dir)
				wantValues(t, p.client(region), list)
				p.stop()
			})
		}
	}
}

// Master keys that are gone are not made anew over data that needs them.
func TestDevRefusesDataWithoutItsKeys(t *testing.T) {
	world, list := killedWorld(t)
	for _, region := range []string{regionA, regionB} {
		dir := copyOf(t, world)
		path := filepath.Join(dir, region, "kms.json")
		away := filepath.Join(t.TempDir(), "kms.json")
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		wantText(t, refused(t, devCommand(t, dir)), "without its master keys")
		if _, err := os.Stat(path); err == nil {
			t.Error("new master keys were made")
		}
		if err := os.Rename(away, path); err != nil {
			t.Fatal(err)
		}
		p := startDev(t, dir)
		wantValues(t, p.client(region), list)
		p.stop()
	}
}

// A credential that no longer works is refused or replaced, never a reason to
// lose data.
func TestDevWithADamagedCredential(t *testing.T) {
	world, list := killedWorld(t)
	for _, part := range []float64{0.1, 0.9} {
		dir := copyOf(t, world)
		key := newest(t, filepath.Join(dir, "dev.key"))
		old, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		flip(t, key, part)
		p := startDev(t, dir)
		if p.key() == strings.TrimSpace(string(old)) {
			t.Error("the credential is the old one")
		}
		wantValues(t, p.client(regionA), list)
		p.stop()
	}
}
