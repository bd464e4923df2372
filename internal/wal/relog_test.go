package wal_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// slowLogs gives whatever removes logs the time to do so before a new one is
// made, and keeps what a kill at that moment would leave.
type slowLogs struct {
	vfs.FS
	t       *testing.T
	removed chan struct{} // room for all
	left    image
}

func (s *slowLogs) Remove(name string) error {
	err := s.FS.Remove(name)
	if strings.HasSuffix(name, ".log") {
		s.removed <- struct{}{}
	}
	return err
}

func (s *slowLogs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".log") && s.left == nil {
		select {
		case <-s.removed:
		case <-time.After(100 * time.Millisecond):
		}
		s.left = imageOf(s.t, s.FS)
	}
	return s.FS.Create(name, c)
}

// G1: a recovery that is killed can be recovered from: the logs that it has
// replayed stay until there is a new one.
func TestARecoveryCutShort(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, memOptions(fs))
	do(t, e, put("kept", "1"))
	killed := imageOf(t, fs)

	slow := &slowLogs{FS: killed.fs(t, "", nil), t: t, removed: make(chan struct{}, 8)}
	open(t, memOptions(slow))
	items, err := content(t, slow.left.fs(t, "", nil))
	if err != nil || items["kept"] != "1" {
		t.Errorf("killed before the new log: %v, %d items", err, len(items))
	}
	names, err := slow.List(dataDir)
	for _, log := range killed.logs() {
		if err != nil || slices.Contains(names, log) {
			t.Errorf("a replayed log stays: %v, %v", names, err)
		}
	}
}

func (im image) logs() (names []string) {
	for name := range im {
		if strings.HasSuffix(name, ".log") {
			names = append(names, name)
		}
	}
	return names
}
