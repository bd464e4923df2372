package rows

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

const byteOrderMark = "\xef\xbb\xbf"

// Config of a Reader.
type Config struct {
	Format Format
	// Fields are the names of the wanted members or columns, each once. All of
	// them must be columns of a CSV file; a JSON object may lack any.
	Fields []string
}

// Reader reads rows one after another. It belongs to one goroutine.
type Reader struct {
	src      io.Reader
	buf      *bufio.Reader
	format   Format
	fields   map[string]int // of JSONL
	header   *header        // of CSV
	preamble []byte
	at       Position
}

// NewReader reads what stands before the first row.
func NewReader(src io.Reader, c Config) (*Reader, error) {
	r := &Reader{src: src, buf: bufio.NewReaderSize(src, 256<<10), format: c.Format}
	if mark, _ := r.buf.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
		_, _ = r.buf.Discard(len(mark)) // of bytes that are buffered
		r.preamble = []byte(byteOrderMark)
		r.at.Offset = int64(len(mark))
	}
	if c.Format == CSV {
		return r, r.readHeader(c.Fields)
	}
	r.fields = make(map[string]int, len(c.Fields))
	for i, f := range c.Fields {
		r.fields[f] = i
	}
	return r, nil
}

func (r *Reader) readHeader(fields []string) error {
	raw, fits, err := r.read()
	switch {
	case errors.Is(err, io.EOF):
		return ErrNoHeader
	case err != nil:
		return fmt.Errorf("read the header: %w", err)
	case !fits:
		return ErrBadHeader
	}
	r.preamble = append(r.preamble, raw...)
	r.header, err = parseHeader(raw, fields)
	return err
}

// Preamble is what stands before the first row: a byte order mark and, of a
// CSV file, the header.
func (r *Reader) Preamble() []byte { return r.preamble }

// Resume goes on at a Position that an earlier Reader of the same bytes gave;
// src must be an io.Seeker.
func (r *Reader) Resume(at Position) error {
	s, ok := r.src.(io.Seeker)
	if !ok {
		return errors.New("the input cannot be read from the middle")
	}
	if _, err := s.Seek(at.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("seek in the input: %w", err)
	}
	r.buf.Reset(r.src)
	r.at = at
	return nil
}

// Position is the place behind the last row, or behind the preamble.
func (r *Reader) Position() Position { return r.at }

// Next returns the next row or blank line; io.EOF behind the last one. A row
// that cannot be read comes with a Code and reading goes on; any other error
// is final.
func (r *Reader) Next() (*Row, error) {
	start := r.at
	raw, fits, err := r.read()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = fmt.Errorf("line %d: %w", start.Line+1, err)
		}
		return nil, err
	}
	row := &Row{Number: start.Row + 1, Line: start.Line + 1, format: r.format, raw: raw}
	switch {
	case !fits:
		row.Code = CodeTooLarge
	case r.blank(raw):
		row.Blank, row.Number = true, 0
	case r.format == CSV:
		row.cells, row.Code = parseCSV(raw, r.header)
	default:
		row.cells, row.Code = parseJSON(raw, r.fields)
	}
	if !row.Blank {
		r.at.Row++
	}
	row.End = r.at
	return row, nil
}

func (r *Reader) blank(raw []byte) bool {
	if r.format == CSV {
		return len(trimLineEnd(raw)) == 0 // a line of spaces is a cell
	}
	return len(bytes.TrimSpace(raw)) == 0
}

// read returns the bytes of the next line or CSV record in fresh memory and
// moves on; fits is false, and the bytes are gone, when it is over MaxRow.
func (r *Reader) read() (raw []byte, fits bool, err error) {
	fits = true
	state := fieldStart
	for {
		part, err := r.buf.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		r.at.Offset += int64(len(part))
		if fits = fits && len(raw)+len(part) <= MaxRow; fits {
			raw = append(raw, part...)
		} else {
			raw = nil
		}
		if r.format == CSV {
			state = state.advance(part)
		}
		full, end := errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF)
		if !full && (!end || len(part) > 0) {
			r.at.Line++
		}
		switch {
		case state == quoted && (end || !fits):
			return nil, false, ErrUnclosedQuote
		case end && len(raw) == 0 && fits:
			return nil, false, io.EOF
		case end, !full && state != quoted:
			return raw, fits, nil
		}
	}
}
