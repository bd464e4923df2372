package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log ends where its chunks stop being whole: the write that a crash
// interrupted, which nobody was told of. A damaged byte looks alike, and within
// the log's last block Pebble takes it for that end and silently drops every
// group behind it. So each group carries a mark that says how far the log was
// durable when it was written, and Open looks for marks behind the end: one
// that vouches for what is no longer readable is proof of damage.
//
// What follows reads the log as Pebble's record package writes it since
// FormatWALSyncChunks: blocks of 32 KiB, each a sequence of chunks with a
// header of 19 bytes (CRC, length, type, log number, synced offset).
const (
	logBlock    = 32 << 10
	chunkHeader = 19
	chunkFull   = 9
	chunkFirst  = 10
	chunkLast   = 12

	batchHeader = 12 // of the batch in a record: sequence number, count
	kindLogData = 3  // a batch entry that lives in the log only

	markTag  = "pvg\x01"
	markSize = len(markTag) + 8
)

// mark encodes the promise that all batches numbered below through are durable.
func mark(through uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(markTag), through)
}

// chunk is one whole chunk of a log.
type chunk struct {
	kind    byte
	end     int // offset behind it
	payload []byte
}

// starts reports that the chunk begins a record.
func (c chunk) starts() bool { return c.kind == chunkFull || c.kind == chunkFirst }

// ends reports that the chunk completes a record.
func (c chunk) ends() bool { return c.kind == chunkFull || c.kind == chunkLast }

// batch gives the numbers [first, next) of the batch whose record begins here.
func (c chunk) batch() (first, next uint64, ok bool) {
	if len(c.payload) < batchHeader {
		return 0, 0, false
	}
	first = binary.LittleEndian.Uint64(c.payload)
	return first, first + uint64(binary.LittleEndian.Uint32(c.payload[8:])), true
}

// mark gives the promise that the batch begins with, 0 where it has none.
func (c chunk) mark() uint64 {
	const head = batchHeader + 2
	if len(c.payload) < head+markSize || c.payload[batchHeader] != kindLogData ||
		int(c.payload[batchHeader+1]) != markSize || string(c.payload[head:head+len(markTag)]) != markTag {
		return 0
	}
	return binary.BigEndian.Uint64(c.payload[head+len(markTag):])
}

// logFile is a log's bytes and its number.
type logFile struct {
	b   []byte
	num uint32
	crc *crc32.Table
}

// chunkAt reads the chunk at an offset; ok is false where there is no whole one.
func (l logFile) chunkAt(at int) (c chunk, ok bool) {
	room := min(logBlock-at%logBlock, len(l.b)-at)
	if room < chunkHeader {
		return c, false
	}
	h := l.b[at:]
	c.kind = h[6]
	c.end = at + chunkHeader + int(binary.LittleEndian.Uint16(h[4:]))
	if c.kind < chunkFull || c.kind > chunkLast || binary.LittleEndian.Uint32(h[7:]) != l.num || c.end > at+room {
		return c, false
	}
	sum := crc32.Checksum(l.b[at+6:c.end], l.crc)
	if binary.LittleEndian.Uint32(h) != (sum>>15|sum<<17)+0xa282ead8 {
		return c, false
	}
	c.payload = l.b[at+chunkHeader : c.end]
	return c, true
}

// readable walks the whole chunks from the start: to which offset, and below
// which number all batches are there (0: there is none).
func (l logFile) readable() (end int, through uint64) {
	var next uint64
	for at := 0; at < len(l.b); {
		if logBlock-at%logBlock < chunkHeader {
			at += logBlock - at%logBlock // the rest of a block is padding
			continue
		}
		c, ok := l.chunkAt(at)
		if !ok {
			return at, through
		}
		if c.starts() {
			_, next, _ = c.batch()
		}
		if c.ends() {
			through = next
		}
		at = c.end
	}
	return len(l.b), through
}

// check refuses a log that has lost what a later mark vouches for.
func (l logFile) check() error {
	end, through := l.readable()
	behind := uint64(0) // number of the first batch behind the end
	for at := end + 1; at < len(l.b); at++ {
		c, ok := l.chunkAt(at)
		if !ok || !c.starts() {
			continue
		}
		first, _, ok := c.batch()
		if !ok {
			continue
		}
		if behind == 0 {
			behind = first
		}
		promised := c.mark()
		lost := promised > through
		if through == 0 {
			lost = promised >= behind // the batch before it was in this log
		}
		if lost {
			return fmt.Errorf("%w: the write-ahead log is damaged at byte %d", ErrCorrupt, end)
		}
	}
	return nil
}

// checkLog checks the newest log of a directory: older ones must be whole to
// their end, which Pebble sees to.
func checkLog(fs vfs.FS, dir string, names []string) error {
	newest, num := "", uint32(0)
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(name, "%d.log", &n); err == nil && strings.HasSuffix(name, ".log") && n >= num {
			newest, num = name, n
		}
	}
	if newest == "" {
		return nil
	}
	log, err := readLog(fs, dir, newest, num)
	if err != nil {
		return err
	}
	return log.check()
}

func readLog(fs vfs.FS, dir, name string, num uint32) (l logFile, err error) {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return l, fmt.Errorf("open the write-ahead log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(f)
	if err != nil {
		return l, fmt.Errorf("read the write-ahead log: %w", err)
	}
	return logFile{b, num, crc32.MakeTable(crc32.Castagnoli)}, nil
}
