// Package rows reads JSONL (RFC 8259, one object a line) and CSV (RFC 4180,
// with a header) a row at a time and rewrites chosen fields in place: every
// other byte of a row comes out as it went in. Memory is bounded by MaxRow.
package rows

import (
	"errors"
	"fmt"
	"slices"
)

// MaxRow is the largest row in bytes; a larger one is refused.
const MaxRow = 16 << 20

// Format is how a file is laid out.
type Format string

// The formats.
const (
	JSONL Format = "jsonl"
	CSV   Format = "csv"
)

// Codes say why a row is refused. They are stable: scripts read them.
const (
	CodeMalformed    = "malformed_row"
	CodeUTF8         = "invalid_utf8"
	CodeDuplicateKey = "duplicate_key"
	CodeTooLarge     = "row_too_large"
	CodeFieldCount   = "wrong_field_count"
)

// Errors that concern the file, not one row.
var (
	ErrNoHeader      = errors.New("the file has no header")
	ErrBadHeader     = errors.New("the header is malformed")
	ErrUnclosedQuote = errors.New("a quoted field is never closed")
)

// ColumnError reports a field that the CSV header does not name exactly once.
type ColumnError struct {
	Name  string
	Count int
}

func (e *ColumnError) Error() string {
	if e.Count == 0 {
		return fmt.Sprintf("the header has no column %q", e.Name)
	}
	return fmt.Sprintf("the header has %d columns %q", e.Count, e.Name)
}

// Position is a place between rows. The zero Position is the start.
type Position struct {
	Offset int64 `json:"offset"` // bytes before it
	Row    int64 `json:"row"`    // rows before it, blank lines and the header not counted
	Line   int64 `json:"line"`   // lines before it
}

// Kind is what a row holds in a field.
type Kind uint8

// The kinds. An empty CSV cell and a JSON null are Absent.
const (
	Absent Kind = iota
	Text        // a string
	Number      // a JSON number; its text is the literal
	Other       // a JSON boolean, object or array; it has no text
)

type cell struct {
	start, end int // in raw
	kind       Kind
	text       string
	quoted     bool // CSV: was written in quotes
}

// Row is one row; it keeps nothing of the Reader's memory.
type Row struct {
	Number, Line int64    // both from 1
	End          Position // just behind the row
	Blank        bool     // an empty line: has no fields, is not a row
	Code         string   // why the row cannot be read, or ""

	format Format
	raw    []byte // with its line ending
	cells  []cell // as Config.Fields
}

// Field returns what the row holds in the i-th of the Reader's fields.
func (r *Row) Field(i int) (string, Kind) {
	if i >= len(r.cells) {
		return "", Absent
	}
	return r.cells[i].text, r.cells[i].kind
}

// Size is the row's length in bytes, line ending included.
func (r *Row) Size() int { return len(r.raw) }

// Replacement is a new text for the i-th field, which must not be Absent.
type Replacement struct {
	Field int
	Text  string
}

// Append appends the row to dst with some fields replaced; all other bytes are
// those that were read. It sorts its argument.
func (r *Row) Append(dst []byte, with []Replacement) []byte {
	slices.SortFunc(with, func(a, b Replacement) int {
		return r.cells[a.Field].start - r.cells[b.Field].start
	})
	at := 0
	for _, w := range with {
		c := &r.cells[w.Field]
		dst = append(dst, r.raw[at:c.start]...)
		dst = r.appendText(dst, w.Text, c.quoted)
		at = c.end
	}
	return append(dst, r.raw[at:]...)
}

func (r *Row) appendText(dst []byte, text string, quoted bool) []byte {
	if r.format == CSV {
		return appendCSV(dst, text, quoted)
	}
	return appendJSON(dst, text)
}
