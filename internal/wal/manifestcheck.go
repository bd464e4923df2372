package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A damaged record of the manifest looks like the torn end of one, and Pebble
// then silently goes back to an older state: the tables that later edits added
// are forgotten, and the logs that held the same writes have been deleted. The
// oldest log that the state needs tells: where it is gone and a later one holds
// anything, edits are missing.
//
// Between an open of Pebble and flush that is no proof: what recovery leaves in
// the manifest names a log that never was, and the log is made after it. So
// nothing is written before flush has been, and behind each flush a mark is.

// The fields that Pebble writes first in a version edit (tags of its manifest
// format); the number of the oldest log in use is among them.
const (
	tagComparator    = 1
	tagLogNumber     = 2
	tagPrevLogNumber = 9
)

// flush makes tables of all that the log holds, and begins one that is not
// empty: with that, an open can tell whether the manifest is whole.
func (e *Engine) flush() error {
	if err := e.db.Flush(); err != nil {
		return err
	}
	return e.db.LogData(mark(e.durable), pebble.Sync)
}

// checkManifest refuses a manifest whose state needs a log that is gone.
func checkManifest(fs vfs.FS, dir string, names []string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	needed, err := oldestLog(fs, desc.ManifestFilename)
	if err != nil {
		return err
	}
	written := false // something is in a later log
	for _, name := range names {
		number, ok := strings.CutSuffix(name, ".log")
		n, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || n < needed {
			continue
		}
		if n == needed {
			return nil
		}
		log, err := readLog(fs, dir, name, uint32(n))
		if err != nil {
			return err
		}
		_, whole := log.chunkAt(0)
		written = written || whole
	}
	if needed != 0 && written {
		return fmt.Errorf("%w: the manifest is behind the write-ahead log", ErrCorrupt)
	}
	return nil
}

// oldestLog is the number of the oldest log that the manifest's last readable
// edit leaves in use; 0 where none says.
func oldestLog(fs vfs.FS, manifest string) (oldest uint64, err error) {
	file, err := fs.Open(manifest)
	if err != nil {
		return 0, fmt.Errorf("open the manifest: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	edits := record.NewReader(file, 0)
	for {
		edit, err := edits.Next()
		if err != nil {
			return oldest, nil // where reading ends, for whatever reason, Pebble's ends too
		}
		b, err := io.ReadAll(edit)
		if err != nil {
			return oldest, nil
		}
		if log := editLog(b); log != 0 {
			oldest = log
		}
	}
}

// editLog is the oldest log of one edit, 0 where it names none.
func editLog(b []byte) uint64 {
	for {
		tag, n := binary.Uvarint(b)
		value, m := binary.Uvarint(b[max(n, 0):])
		if n <= 0 || m <= 0 {
			return 0
		}
		b = b[n+m:]
		switch tag {
		case tagLogNumber:
			return value
		case tagComparator: // value is its length
			if value > uint64(len(b)) {
				return 0
			}
			b = b[value:]
		case tagPrevLogNumber:
		default:
			return 0
		}
	}
}
