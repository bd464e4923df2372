package rows

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// parseJSON finds the fields among the members of one object. Members of
// nested objects are not looked at; duplicate names at any depth, invalid
// UTF-8 and lone surrogates are refused (RFC 7493).
func parseJSON(raw []byte, fields map[string]int) ([]cell, string) {
	if !utf8.Valid(raw) {
		return nil, CodeUTF8
	}
	cells := make([]cell, len(fields))
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if dec.PeekKind() != '{' {
		return nil, CodeMalformed
	}
	if err := readMembers(dec, fields, cells); err != nil {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return nil, CodeDuplicateKey
		}
		return nil, CodeMalformed
	}
	return cells, ""
}

func readMembers(dec *jsontext.Decoder, fields map[string]int, cells []cell) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	var name []byte
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if name, err = jsontext.AppendUnquote(name[:0], quoted); err != nil {
			return err
		}
		i, wanted := fields[string(name)]
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		if cells[i], err = jsonCell(value, int(dec.InputOffset())); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value in a row")
	}
	return nil
}

func jsonCell(value jsontext.Value, end int) (cell, error) {
	c := cell{start: end - len(value), end: end}
	switch value.Kind() {
	case jsontext.KindNull:
		c.kind = Absent
	case jsontext.KindNumber:
		c.kind, c.text = Number, string(value)
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return cell{}, err
		}
		c.kind, c.text = Text, string(text)
	default:
		c.kind = Other
	}
	return c, nil
}

// appendJSON quotes minimally (RFC 8785, section 3.2.2.2). A lone surrogate
// cannot come here: text was valid UTF-8 in the answer it came from.
func appendJSON(dst []byte, text string) []byte {
	dst, _ = jsontext.AppendQuote(dst, text)
	return dst
}
