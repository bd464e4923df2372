package rows

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// csvState follows RFC 4180 quoting through a record.
type csvState uint8

const (
	fieldStart csvState = iota
	unquoted
	quoted
	closing // just behind a quote inside a quoted field
)

// advance returns the state behind p. Only a line break outside quoted ends a
// record; a stray quote does not open one, it is refused by splitCSV.
func (s csvState) advance(p []byte) csvState {
	for _, b := range p {
		switch {
		case s == quoted:
			if b == '"' {
				s = closing
			}
		case s == closing && b == '"':
			s = quoted
		case s == fieldStart && b == '"':
			s = quoted
		case b == ',' || b == '\n':
			s = fieldStart
		default:
			s = unquoted
		}
	}
	return s
}

// splitCSV splits a record without its line ending; ok is false where a quote
// stands inside a bare field or something follows a closing one.
func splitCSV(record []byte) (cells []cell, ok bool) {
	for at := 0; ; {
		c, next, ok := csvCell(record, at)
		if !ok {
			return nil, false
		}
		cells = append(cells, c)
		if next == len(record) {
			return cells, true
		}
		at = next + 1 // behind the comma
	}
}

func csvCell(record []byte, at int) (c cell, end int, ok bool) {
	if at < len(record) && record[at] == '"' {
		return quotedCell(record, at)
	}
	end = len(record)
	if i := bytes.IndexByte(record[at:], ','); i >= 0 {
		end = at + i
	}
	c = cell{start: at, end: end, text: string(record[at:end])}
	return csvKind(c), end, !strings.Contains(c.text, `"`)
}

func quotedCell(record []byte, at int) (c cell, end int, ok bool) {
	var text []byte
	for from := at + 1; ; {
		i := bytes.IndexByte(record[from:], '"')
		if i < 0 {
			return cell{}, 0, false
		}
		text = append(text, record[from:from+i]...)
		from += i + 1
		if from == len(record) || record[from] == ',' {
			c = cell{start: at, end: from, text: string(text), quoted: true}
			return csvKind(c), from, true
		}
		if record[from] != '"' {
			return cell{}, 0, false
		}
		text = append(text, '"')
		from++
	}
}

func csvKind(c cell) cell {
	if c.text != "" {
		c.kind = Text
	}
	return c
}

// parseCSV picks the wanted columns of one record.
func parseCSV(raw []byte, h *header) ([]cell, string) {
	if !utf8.Valid(raw) {
		return nil, CodeUTF8
	}
	all, ok := splitCSV(trimLineEnd(raw))
	switch {
	case !ok:
		return nil, CodeMalformed
	case len(all) != h.width:
		return nil, CodeFieldCount
	}
	cells := make([]cell, len(h.columns))
	for i, column := range h.columns {
		cells[i] = all[column]
	}
	return cells, ""
}

// header says where the wanted columns are.
type header struct {
	width   int
	columns []int // as Config.Fields
}

func parseHeader(raw []byte, fields []string) (*header, error) {
	names, ok := splitCSV(trimLineEnd(raw))
	if !ok || !utf8.Valid(raw) {
		return nil, ErrBadHeader
	}
	h := &header{width: len(names)}
	for _, f := range fields {
		at, count := 0, 0
		for i := range names {
			if names[i].text == f {
				at, count = i, count+1
			}
		}
		if count != 1 {
			return nil, &ColumnError{Name: f, Count: count}
		}
		h.columns = append(h.columns, at)
	}
	return h, nil
}

func trimLineEnd(raw []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
}

// appendCSV quotes where RFC 4180 asks for it, where readers trim blanks, and
// where the cell was quoted before.
func appendCSV(dst []byte, text string, quoted bool) []byte {
	if !quoted && !strings.ContainsAny(text, ",\"\r\n") && strings.Trim(text, " \t") == text {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(text, `"`, `""`)...)
	return append(dst, '"')
}
