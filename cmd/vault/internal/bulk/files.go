package bulk

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// files are what a run writes: the output, the report of refused rows, and
// the journal that ties them together. The writer goroutine owns them.
type files struct {
	key     []byte // the import id
	journal *journal
	out     *os.File // nil: Stdout
	buf     *bufio.Writer
	at      int64 // bytes of the output, buffered ones included
	reports reports
	last    checkpoint // the last one that is durable
}

// journalPath is where the journal of an output is.
func journalPath(output string) string { return output + ".journal" }

// openFiles makes the files of a new run or finds those of an earlier one; the
// checkpoint is zero where nothing is durable yet.
func openFiles(c Config, in *input) (*files, checkpoint, error) {
	if err := c.guardFiles(in); err != nil {
		return nil, checkpoint{}, err
	}
	id := make([]byte, 32)
	if _, err := io.ReadFull(c.Random, id); err != nil {
		return nil, checkpoint{}, fmt.Errorf("make an import id: %w", err)
	}
	f := &files{key: id, reports: reports{path: c.Refused, to: c.RefusedTo}}
	var from checkpoint
	var err error
	switch {
	case c.Output == "":
		f.buf = bufio.NewWriter(c.Stdout)
	case !in.regular():
		err = f.create(c.Output)
	default:
		from, err = f.openResumable(c, in)
	}
	if err != nil {
		f.close()
		return nil, checkpoint{}, err
	}
	return f, from, nil
}

// guardFiles refuses to write over a file, but for the files of the run that
// is to be resumed; with Force it removes them.
func (c Config) guardFiles(in *input) error {
	paths := []string{c.Output, c.Refused}
	for _, path := range paths {
		if path != "" && in.is(path) {
			return fmt.Errorf("%s is the input: %w", path, ErrExists)
		}
	}
	if c.Force {
		return c.removeFiles(paths)
	}
	if _, err := os.Lstat(journalPath(c.Output)); c.Output != "" && err == nil {
		return nil // a resumption, if the journal agrees
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); path != "" && err == nil {
			return fmt.Errorf("%s: %w", path, ErrExists)
		}
	}
	return nil
}

func (in *input) is(path string) bool {
	if in.file == nil {
		return false
	}
	a, aerr := in.file.Stat()
	b, berr := os.Stat(path)
	return aerr == nil && berr == nil && os.SameFile(a, b)
}

func (c Config) removeFiles(paths []string) error {
	if c.Output != "" {
		paths = append(paths, journalPath(c.Output))
		j, err := os.OpenFile(journalPath(c.Output), os.O_RDWR, 0)
		if err == nil {
			defer func() { _ = j.Close() }()
			if err := lock(j); err != nil {
				return err
			}
		}
	}
	for _, path := range paths {
		if err := os.Remove(path); path != "" && err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (f *files) openResumable(c Config, in *input) (checkpoint, error) {
	want := head{Format: journalFormat, ImportID: f.key, Size: in.size, SHA256: in.sha256, Plan: c.Plan}
	j, from, fresh, err := openJournal(journalPath(c.Output), want)
	if err != nil {
		return from, err
	}
	f.journal, f.key, f.last = j, j.head.ImportID, from
	if fresh {
		return from, f.createNew(c)
	}
	if err := errors.Join(tooShort(c.Output, from.Out), tooShort(c.Refused, from.Reports)); err != nil {
		return from, err // before anything is changed
	}
	if f.out, err = reopen(c.Output, from.Out); err != nil {
		return from, err
	}
	f.buf, f.at = bufio.NewWriterSize(f.out, 256<<10), from.Out
	return from, f.reports.resume(from.Reports)
}

// createNew makes the output of a fresh journal; where that fails the journal
// goes too, for nothing was sent under it.
func (f *files) createNew(c Config) error {
	if err := f.create(c.Output); err != nil {
		return errors.Join(err, f.journal.discard())
	}
	return syncDir(c.Output)
}

func (f *files) create(path string) (err error) {
	f.out, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err == nil {
		f.buf = bufio.NewWriterSize(f.out, 256<<10)
	}
	return err
}

// tooShort refuses a file that lacks what the journal says is durable.
func tooShort(path string, durable int64) error {
	if path == "" || durable == 0 {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is gone: %w", path, ErrDamaged)
	case err != nil:
		return err
	case info.Size() < durable:
		return fmt.Errorf("%s is too short: %w", path, ErrDamaged)
	}
	return nil
}

// reopen cuts a file of an earlier run back to what is durable.
func reopen(path string, to int64) (*os.File, error) {
	flags := os.O_WRONLY
	if to == 0 {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(to); err == nil {
		_, err = f.Seek(to, io.SeekStart)
	}
	if err != nil {
		_ = f.Close() // the error that is returned matters more
		return nil, err
	}
	return f, nil
}

func (f *files) write(b []byte) error {
	f.at += int64(len(b))
	_, err := f.buf.Write(b)
	return err
}

// sync makes what is written durable, then says so in the journal.
func (f *files) sync(state checkpoint) error {
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if f.journal == nil || state.Batches == f.last.Batches {
		return nil
	}
	if err := errors.Join(f.out.Sync(), f.reports.sync()); err != nil {
		return err
	}
	state.Out, state.Reports = f.at, f.reports.at
	f.last = state
	return f.journal.append(state)
}

// finish ends a run that is complete; without a journal it is also the first
// to make the output durable.
func (f *files) finish() error {
	if f.out == nil {
		return nil
	}
	if err := errors.Join(f.out.Sync(), f.reports.sync()); err != nil {
		return err
	}
	if f.journal == nil {
		return nil
	}
	return f.journal.discard()
}

// close leaves everything for a resumption.
func (f *files) close() {
	if f.out != nil {
		_ = f.out.Close() // synced where it matters
	}
	f.reports.close()
	if f.journal != nil {
		_ = f.journal.file.Close() // synced at every line
	}
}

// reports is the file of refused rows. It is made when the first row is
// refused. It names rows by number and fields by name and code: the row itself
// holds what the import is to take out of the world.
type reports struct {
	path string
	to   io.Writer // where path is ""
	file *os.File
	at   int64
}

// report is one line of it.
type report struct {
	Row    int64        `json:"row"`
	Line   int64        `json:"line"`
	Code   string       `json:"code,omitempty"` // of the row as a whole
	Fields []FieldError `json:"fields,omitempty"`
}

func (r *reports) add(rep report) error {
	line, err := json.Marshal(rep)
	if err != nil {
		return fmt.Errorf("encode a refused row: %w", err)
	}
	line = append(line, '\n')
	if r.path != "" && r.file == nil {
		if r.file, err = os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
		if err := syncDir(r.path); err != nil {
			return err
		}
		r.to = r.file
	}
	r.at += int64(len(line))
	_, err = r.to.Write(line)
	return err
}

func (r *reports) resume(at int64) (err error) {
	r.at = at
	switch {
	case r.path == "":
		return nil
	case at > 0:
		r.file, err = reopen(r.path, at)
		r.to = r.file
		return err
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *reports) sync() error {
	if r.file == nil {
		return nil
	}
	return r.file.Sync()
}

func (r *reports) close() {
	if r.file != nil {
		_ = r.file.Close() // synced where it matters
	}
}
