package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A damaged record of the manifest looks like the torn end of one, and Pebble
// then silently goes back to an older state: the tables that later edits added
// are forgotten, and the logs that held the same writes have been deleted. The
// oldest log that the state needs tells: where it is gone and a later one is
// there, edits are missing.

// The fields that Pebble writes first in a version edit (tags of its manifest
// format); the number of the oldest log in use is among them.
const (
	tagComparator    = 1
	tagLogNumber     = 2
	tagNextFile      = 3
	tagPrevLogNumber = 9
)

// checkManifest refuses a manifest whose state needs a log that is gone.
func checkManifest(fs vfs.FS, dir string, names []string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	needed, first, err := oldestLog(fs, desc.ManifestFilename)
	if err != nil {
		return err
	}
	logs := logNumbers(names)
	if slices.ContainsFunc(logs, func(n uint64) bool { return n == needed || n > needed && n <= first }) {
		return nil
	}
	if needed != 0 && slices.ContainsFunc(logs, func(n uint64) bool { return n > needed }) {
		return fmt.Errorf("%w: the manifest is behind the write-ahead log", ErrCorrupt)
	}
	return nil
}

func logNumbers(names []string) []uint64 {
	var logs []uint64
	for _, name := range names {
		if number, ok := strings.CutSuffix(name, ".log"); ok {
			if n, err := strconv.ParseUint(number, 10, 64); err == nil {
				logs = append(logs, n)
			}
		}
	}
	return logs
}

// oldestLog is the number of the oldest log that the manifest's last readable
// edit leaves in use; 0 where none says.
//
// The edit that an open writes, the first behind the manifest's snapshot, names
// a number that no log ever has: the log is made after it, and has a number up
// to first; numbers in between are those of the manifest. 0 for other edits.
func oldestLog(fs vfs.FS, manifest string) (oldest, first uint64, err error) {
	file, err := fs.Open(manifest)
	if err != nil {
		return 0, 0, fmt.Errorf("open the manifest: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	edits := record.NewReader(file, 0)
	for i := 0; ; i++ {
		edit, err := edits.Next()
		if err != nil {
			return oldest, first, nil // where reading ends, for whatever reason, Pebble's ends too
		}
		b, err := io.ReadAll(edit)
		if err != nil {
			return oldest, first, nil
		}
		if log, next := editLog(b); log != 0 {
			oldest, first = log, 0
			if i == 1 {
				first = next + 1
			}
		}
	}
}

// editLog is the oldest log of one edit, 0 where it names none, and the next
// file number.
func editLog(b []byte) (log, next uint64) {
	for {
		tag, n := binary.Uvarint(b)
		value, m := binary.Uvarint(b[max(n, 0):])
		if n <= 0 || m <= 0 {
			return log, next
		}
		b = b[n+m:]
		switch tag {
		case tagLogNumber:
			log = value
		case tagNextFile:
			return log, value // it follows
		case tagComparator: // value is its length
			if value > uint64(len(b)) {
				return log, next
			}
			b = b[value:]
		case tagPrevLogNumber:
		default:
			return log, next
		}
	}
}
