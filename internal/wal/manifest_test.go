package wal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// G1: damage to a manifest whose logs are gone already is refused, wherever it
// is: Pebble alone takes it for a torn end and forgets what the edits behind
// it added.
func TestADamagedManifestIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, memOptions(fs))
	do(t, e, put("first", "1"))
	fs = imageOf(t, fs).fs(t, "", nil) // killed; recovery makes a table of the log
	e = open(t, memOptions(fs))
	do(t, e, put("second", "2"))
	im := imageOf(t, fs) // killed again
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
				t.Fatalf("%s byte %d of %d: opened without what was acknowledged", name, at, len(b))
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was refused")
	}
}

// G1: a process that is killed after any number of clean ends and kills opens
// again: the log that an open names in the manifest is one that never was.
func TestAnOpenAfterCleanEndsAndKillsIsNotRefused(t *testing.T) {
	fs := vfs.NewMem()
	for i, end := range []string{"clean", "clean", "kill", "kill", "clean", "kill"} {
		e := open(t, memOptions(fs))
		if i > 1 { // some write nothing
			do(t, e, put("k", end))
		}
		if end == "clean" {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		fs = imageOf(t, fs).fs(t, "", nil)
	}
	if items, err := content(t, imageOf(t, fs).fs(t, "", nil)); err != nil || items["k"] != "kill" {
		t.Errorf("%v, %v", items, err)
	}
}
