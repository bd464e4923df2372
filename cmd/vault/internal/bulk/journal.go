package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"

	"piivault/cmd/vault/internal/rows"
)

const journalFormat = "piivault-journal/1"

// maxJournalLine bounds what is read as one line.
const maxJournalLine = 1 << 20

// journal is an append-only file of lines "crc32c-in-hex SP JSON LF": a head,
// then checkpoints. A line that is not whole counts only as the last one: it
// was being written at a kill, and nothing was built on it. Mode 0600: who
// has the import id and a value can ask the vault for its token again.
type journal struct {
	file *os.File
	head head
}

// head is the first line, durable before anything is sent.
type head struct {
	Format   string            `json:"format"`
	ImportID []byte            `json:"import_id"` // 32 random bytes
	Size     int64             `json:"input_size"`
	SHA256   string            `json:"input_sha256"`
	Plan     map[string]string `json:"plan"`
}

// checkpoint says what is durable. Everything behind it is done again.
type checkpoint struct {
	Batches int64         `json:"batches"`
	Input   rows.Position `json:"input"`
	Out     int64         `json:"out"`     // bytes of the output
	Reports int64         `json:"reports"` // bytes of the refused file
	Counts
}

// openJournal opens the journal at path, or makes it. fresh says that nothing
// was sent under it.
func openJournal(path string, want head) (j *journal, last checkpoint, fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, last, false, err
	}
	j = &journal{file: f}
	defer func() {
		if err != nil {
			_ = f.Close() // the error that is returned matters more
		}
	}()
	if err = lock(f); err != nil {
		return nil, last, false, err
	}
	whole, last, err := j.load()
	if err != nil {
		return nil, last, false, fmt.Errorf("%s: %w", path, err)
	}
	if err := j.rewind(whole); err != nil {
		return nil, last, false, err
	}
	if whole > 0 {
		return j, last, false, j.head.sameRun(want)
	}
	j.head = want
	if err := j.append(want); err != nil {
		return nil, last, false, err
	}
	return j, last, true, syncDir(path)
}

// load reads the head and the last checkpoint; whole is the length of the
// lines that count.
func (j *journal) load() (whole int64, last checkpoint, err error) {
	in := bufio.NewReaderSize(j.file, maxJournalLine)
	for {
		line, rerr := in.ReadSlice('\n')
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return 0, last, ErrDamaged
		}
		body, ok := openLine(line)
		if !ok {
			if _, more := in.Peek(1); more == nil {
				return 0, last, ErrDamaged
			}
			return whole, last, nil
		}
		if whole == 0 {
			err = json.Unmarshal(body, &j.head)
		} else {
			last = checkpoint{}
			err = json.Unmarshal(body, &last)
		}
		if err != nil || j.head.Format != journalFormat {
			return 0, last, ErrDamaged
		}
		whole += int64(len(line))
	}
}

func (j *journal) rewind(to int64) error {
	if err := j.file.Truncate(to); err != nil {
		return err
	}
	_, err := j.file.Seek(to, io.SeekStart)
	return err
}

// append writes one line and makes it durable.
func (j *journal) append(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the journal: %w", err)
	}
	if _, err := j.file.Write(sealLine(body)); err != nil {
		return err
	}
	return j.file.Sync()
}

func sealLine(body []byte) []byte {
	line := fmt.Appendf(nil, "%08x ", checksum(body))
	return append(append(line, body...), '\n')
}

func openLine(line []byte) (body []byte, ok bool) {
	sum, body, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || !bytes.HasSuffix(line, []byte("\n")) {
		return nil, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	return body, err == nil && checksum(body) == uint32(want)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// sameRun names the first difference.
func (h head) sameRun(want head) error {
	if h.Size != want.Size || h.SHA256 != want.SHA256 {
		return fmt.Errorf("%w: the input is not the same", ErrOtherRun)
	}
	for _, name := range slices.Sorted(maps.Keys(want.Plan)) {
		if h.Plan[name] != want.Plan[name] {
			return fmt.Errorf("%w: %s is not the same", ErrOtherRun, name)
		}
	}
	if len(h.Plan) != len(want.Plan) {
		return ErrOtherRun
	}
	return nil
}

// discard removes the journal of a run that is over.
func (j *journal) discard() error {
	path := j.file.Name()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(path)
}
