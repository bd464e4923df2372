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
