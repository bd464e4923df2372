package wal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/wal"
)

// G1: damage to a manifest whose logs are gone already is refused, wherever it
// is: Pebble alone takes it for a torn end and forgets what the edits behind
// it added.
func TestADamagedManifestIsRefused(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, memOptions(fs))
	do(t, e, put("first", "1"))
	fs = imageOf(t, fs).fs(t, "", nil) // killed; recovery makes a table of the log
	e = open(t, memOptions(fs))
	do(t, e, put("second", "2"))
	damageManifest(t, "killed", imageOf(t, fs))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	damageManifest(t, "closed", imageOf(t, fs))
	e = open(t, memOptions(fs))
	damageManifest(t, "opened", imageOf(t, fs))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	damageManifest(t, "opened and closed", imageOf(t, fs))
}

func damageManifest(t *testing.T, state string, im image) {
	t.Helper()
	refused := 0
	for name, b := range im {
		if !strings.HasPrefix(name, "MANIFEST") {
			continue
		}
		for at := range b {
			flipped := bytes.Clone(b)
			flipped[at] ^= 0x40
			items, err := content(t, im.fs(t, name, flipped))
			switch {
			case err != nil:
				refused++
			case items["first"] != "1" || items["second"] != "2":
				t.Fatalf("%s: %s byte %d of %d: opened without what was acknowledged", state, name, at, len(b))
			}
		}
	}
	if refused == 0 {
		t.Errorf("%s: no damage was refused", state)
	}
}

// G1: a process that is killed after any number of clean ends and kills opens
// again, whatever compactions run meanwhile: recovery leaves a manifest that
// names a log that never was.
func TestAnOpenAfterCleanEndsAndKillsIsNotRefused(t *testing.T) {
	const rounds = 40
	rng := rand.New(rand.NewPCG(1, 0))
	fs := vfs.NewCrashableMem()
	want := ""
	for i := range rounds {
		e, err := wal.OpenSmall(memOptions(fs))
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if rng.IntN(3) > 0 { // some write nothing
			want = fmt.Sprint(i)
			do(t, e, put("k", want))
		}
		if rng.IntN(2) > 0 {
			fs = imageOf(t, fs).fs(t, "", nil)
			t.Cleanup(func() { _ = e.Close() }) // of a directory that nobody looks at
		} else if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if items, err := content(t, fs); err != nil || items["k"] != want {
		t.Errorf("%v, %v, want %s", items, err, want)
	}
}

// G1: a log that a crash cut off in its first group does not stand in the way
// of the open after the next: strict reading refuses it once it is not the last.
func TestATornFirstGroupIsLeftBehind(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, memOptions(fs))
	do(t, e, put("kept", "1"))
	fs = imageOf(t, fs).fs(t, "", nil)
	open(t, memOptions(fs))
	im := imageOf(t, fs)
	log := im.log()
	for end := range len(im[log]) {
		fs := im.fs(t, log, im[log][:end])
		e := open(t, memOptions(fs))
		do(t, e, put("next", "1"))
		items, err := content(t, imageOf(t, fs).fs(t, "", nil))
		if err != nil || items["kept"] != "1" || items["next"] != "1" {
			t.Fatalf("cut at %d: %v, %v", end, err, items)
		}
	}
}
