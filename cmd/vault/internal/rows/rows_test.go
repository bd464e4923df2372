package rows_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"piivault/cmd/vault/internal/rows"
)

// readAll returns every row of text.
func readAll(text string, c rows.Config) (list []*rows.Row, err error) {
	r, err := rows.NewReader(strings.NewReader(text), c)
	for err == nil {
		var row *rows.Row
		if row, err = r.Next(); err == nil {
			list = append(list, row)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
}

func TestJSONRows(t *testing.T) {
	tests := []struct {
		name, row, text string
		kind            rows.Kind
		code            string
	}{
		{name: "text", row: `{"a":"x"}`, text: "x", kind: rows.Text},
		{name: "escapes", row: `{ "\u0061" : "\u00e9\ud83d\ude00\n" }`, text: "é😀\n", kind: rows.Text},
		{name: "empty text", row: `{"a":""}`, kind: rows.Text},
		{name: "number", row: `{"a":17.0e1}`, text: "17.0e1", kind: rows.Number},
		{name: "null", row: `{"a":null}`},
		{name: "absent", row: `{"b":{"a":"nested"}}`},
		{name: "object", row: `{"a":{"x":[1]}}`, kind: rows.Other},
		{name: "boolean", row: `{"a":true}`, kind: rows.Other},
		{name: "duplicate", row: `{"a":"x","a":"y"}`, code: rows.CodeDuplicateKey},
		{name: "duplicate by escape", row: `{"a":"x","\u0061":"y"}`, code: rows.CodeDuplicateKey},
		{name: "nested duplicate", row: `{"b":{"c":1,"c":2}}`, code: rows.CodeDuplicateKey},
		{name: "invalid UTF-8", row: "{\"b\":\"\xff\"}", code: rows.CodeUTF8},
		{name: "lone surrogate", row: `{"b":"\ud800"}`, code: rows.CodeMalformed},
		{name: "array", row: `["a"]`, code: rows.CodeMalformed},
		{name: "cut short", row: `{"a":"x"`, code: rows.CodeMalformed},
		{name: "two values", row: `{"a":"x"} {}`, code: rows.CodeMalformed},
		{name: "trailing comma", row: `{"a":"x",}`, code: rows.CodeMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			list, err := readAll(test.row+"\n", rows.Config{Format: rows.JSONL, Fields: []string{"a"}})
			if err != nil || len(list) != 1 {
				t.Fatalf("%d rows, error %v", len(list), err)
			}
			text, kind := list[0].Field(0)
			if list[0].Code != test.code || text != test.text || kind != test.kind {
				t.Errorf("code %q, text %q, kind %d", list[0].Code, text, kind)
			}
		})
	}
}

func TestCSVRows(t *testing.T) {
	const head = "\xef\xbb\xbfid,\"a\",b\r\n"
	tests := []struct{ name, row, text, code string }{
		{name: "bare", row: "1,x,y\r\n", text: "x"},
		{name: "quoted", row: "1,\"x,\"\"y\"\"\nz\",y\n", text: "x,\"y\"\nz"},
		{name: "no line end", row: "1,x,y", text: "x"},
		{name: "empty", row: "1,,y\n"},
		{name: "empty in quotes", row: "1,\"\",y\n"},
		{name: "too few", row: "1,x\n", code: rows.CodeFieldCount},
		{name: "too many", row: "1,x,y,\n", code: rows.CodeFieldCount},
		{name: "bare quote", row: "1,x\"y,z\n", code: rows.CodeMalformed},
		{name: "behind a closing quote", row: "1,\"x\"y,z\n", code: rows.CodeMalformed},
		{name: "invalid UTF-8", row: "1,x,\xff\n", code: rows.CodeUTF8},
		{name: "spaces only", row: "  \n", code: rows.CodeFieldCount},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			list, err := readAll(head+test.row, rows.Config{Format: rows.CSV, Fields: []string{"a"}})
			if err != nil || len(list) != 1 {
				t.Fatalf("%d rows, error %v", len(list), err)
			}
			if text, _ := list[0].Field(0); list[0].Code != test.code || text != test.text {
				t.Errorf("code %q, text %q", list[0].Code, text)
			}
		})
	}
}

func TestReplacementsMayComeInAnyOrder(t *testing.T) {
	list, err := readAll(`{"c":"3", "b":"2","a":"1"}`, rows.Config{Format: rows.JSONL, Fields: []string{"a", "b", "c"}})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d rows, error %v", len(list), err)
	}
	got := list[0].Append([]byte("> "), []rows.Replacement{{Field: 0, Text: "one"}, {Field: 2, Text: "three"}, {Field: 1, Text: `"two"`}})
	if want := `> {"c":"three", "b":"\"two\"","a":"one"}`; string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestPositionsAndLines(t *testing.T) {
	text := "a,b\n1,\"x\ny\"\n\n2,z\n3,bad\"\n4,w"
	list, err := readAll(text, rows.Config{Format: rows.CSV, Fields: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, fmt.Sprintf("%d@%d->%d,%d,%d blank=%v %s", r.Number, r.Line, r.End.Offset, r.End.Row, r.End.Line, r.Blank, r.Code))
	}
	want := []string{
		"1@2->12,1,3 blank=false ",
		"0@4->13,1,4 blank=true ",
		"2@5->17,2,5 blank=false ",
		"3@6->24,3,6 blank=false malformed_row",
		"4@7->27,4,7 blank=false ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestResumeGoesOnAtAnyRow(t *testing.T) {
	text := "a,b\n1,\"x\ny\"\n\n2,z\n3,v\n"
	c := rows.Config{Format: rows.CSV, Fields: []string{"b"}}
	list, err := readAll(text, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list[:len(list)-1] {
		r, err := rows.NewReader(strings.NewReader(text), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Resume(list[i].End); err != nil {
			t.Fatal(err)
		}
		next, err := r.Next()
		if err != nil || next.Line != list[i+1].Line || !bytes.Equal(next.Append(nil, nil), list[i+1].Append(nil, nil)) {
			t.Errorf("behind row %d: line %d, error %v", i, next.Line, err)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	csvConfig := rows.Config{Format: rows.CSV, Fields: []string{"b"}}
	for _, test := range []struct {
		name, text string
		want       error
	}{
		{"empty CSV", "", rows.ErrNoHeader},
		{"malformed header", "a,b\"\n", rows.ErrBadHeader},
		{"unclosed header", "a,\"b\n1,2\n", rows.ErrUnclosedQuote},
		{"unclosed quote", "a,b\n1,\"x\n2,y\n", rows.ErrUnclosedQuote},
	} {
		if _, err := readAll(test.text, csvConfig); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for text, count := range map[string]int{"a,c\n": 0, "a,b,b\n": 2} {
		var column *rows.ColumnError
		if _, err := readAll(text, csvConfig); !errors.As(err, &column) || column.Count != count {
			t.Errorf("%q: %v", text, err)
		}
	}
	broken := iotest.ErrReader(os.ErrPermission)
	if _, err := rows.NewReader(broken, csvConfig); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a header that cannot be read: %v", err)
	}
	r, _ := rows.NewReader(broken, rows.Config{Format: rows.JSONL})
	if _, err := r.Next(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a row that cannot be read: %v", err)
	}
	if err := r.Resume(rows.Position{}); err == nil {
		t.Error("resumed in what cannot seek")
	}
}

func TestARowThatIsTooLargeIsSkipped(t *testing.T) {
	big := strings.Repeat("x", rows.MaxRow)
	list, err := readAll(big+"y\n"+`{"a":"x"}`+"\n", rows.Config{Format: rows.JSONL, Fields: []string{"a"}})
	if err != nil || len(list) != 2 || list[0].Code != rows.CodeTooLarge || list[1].Code != "" {
		t.Fatalf("%d rows, error %v", len(list), err)
	}
	if got := list[1].Line; got != 2 {
		t.Errorf("the next row is at line %d", got)
	}
	if _, err := readAll("a\n\""+big+big+"\"\n", rows.Config{Format: rows.CSV}); !errors.Is(err, rows.ErrUnclosedQuote) {
		t.Errorf("a CSV row of over 16 MiB inside quotes: %v", err)
	}
}

// text draws strings that are hard on both formats.
func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z ,"'\\/\t\r\n{}:é😀\x{2028}\x{7f}]{0,12}`))
}

// TestUntouchedMembersStayByteIdentical builds rows of raw pieces, so that it
// knows without parsing what each member's bytes are.
func TestUntouchedMembersStayByteIdentical(t *testing.T) {
	blanks := rapid.StringMatching(`[ \t]{0,3}`)
	values := rapid.OneOf(
		rapid.Map(text(), quote),
		rapid.SampledFrom([]string{`0`, `-1.50E+07`, `true`, `null`, `[ 1 ,{"a": "\u00e9\/"}]`, `{"email" :"x" }`, `"\ud83d\ude00"`, `1.0000000000000000001`}),
	)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé"\\]{1,6}`), 1, 6, rapid.ID).Draw(t, "names")
		wanted := rapid.SampledFrom(names).Draw(t, "wanted")
		replacement := text().Draw(t, "replacement")
		end := rapid.SampledFrom([]string{"\n", "\r\n", ""}).Draw(t, "end")
		before, after := blanks.Draw(t, "lead")+"{", blanks.Draw(t, "lead")+"{"
		touched := false
		for i, name := range names {
			value := values.Draw(t, "value")
			member := blanks.Draw(t, "b1") + quote(name) + blanks.Draw(t, "b2") + ":" + blanks.Draw(t, "b3")
			tail := blanks.Draw(t, "b4")
			if i < len(names)-1 {
				tail += ","
			}
			before += member + value + tail
			if name == wanted && value != "null" {
				touched, value = true, "\x00"
			}
			after += member + value + tail
		}
		after = strings.TrimLeft(after, " \t")
		before = strings.TrimLeft(before, " \t")
		before, after = before+"}"+end, after+"}"+end

		list, err := readAll(before, rows.Config{Format: rows.JSONL, Fields: []string{wanted}})
		if err != nil || len(list) != 1 || list[0].Code != "" {
			t.Fatalf("%q: %d rows, error %v", before, len(list), err)
		}
		var with []rows.Replacement
		if touched {
			with = []rows.Replacement{{Field: 0, Text: replacement}}
		}
		got := string(list[0].Append(nil, with))
		prefix, suffix, _ := strings.Cut(after, "\x00")
		if !strings.HasPrefix(got, prefix) || !strings.HasSuffix(got, suffix) {
			t.Fatalf("%q became %q", before, got)
		}
		var back map[string]any
		if err := json.Unmarshal([]byte(got), &back); err != nil || touched && back[wanted] != replacement {
			t.Fatalf("%q reads back as %v, error %v", got, back[wanted], err)
		}
	})
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestCSVAgreesWithEncodingCSV takes the standard library as the oracle of
// reading, before and after a replacement.
func TestCSVAgreesWithEncodingCSV(t *testing.T) {
	cell := rapid.StringMatching(`[a-z ,";'\n\té]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		records := [][]string{{"a", "b", "c"}}
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			records = append(records, []string{"x" + cell.Draw(t, "a"), cell.Draw(t, "b"), cell.Draw(t, "c")})
		}
		replacement := rapid.StringMatching(`[a-z ,"\n\t]{1,6}`).Draw(t, "replacement")
		var in bytes.Buffer
		w := csv.NewWriter(&in)
		w.UseCRLF = rapid.Bool().Draw(t, "crlf")
		if err := w.WriteAll(records); err != nil {
			t.Fatal(err)
		}
		want := make([][]string, len(records))
		r, err := rows.NewReader(bytes.NewReader(in.Bytes()), rows.Config{Format: rows.CSV, Fields: []string{"b", "a"}})
		if err != nil {
			t.Fatal(err)
		}
		plain, replaced := bytes.Clone(r.Preamble()), bytes.Clone(r.Preamble())
		want[0] = records[0]
		normalized, err := csv.NewReader(bytes.NewReader(in.Bytes())).ReadAll() // it drops CR before LF, also in quotes
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(records); i++ {
			row, err := r.Next()
			if err != nil || row.Code != "" {
				t.Fatalf("%q: row %d: %v %s", in.String(), i, err, row.Code)
			}
			got, _ := row.Field(0)
			if strings.ReplaceAll(got, "\r\n", "\n") != normalized[i][1] {
				t.Fatalf("cell %q, want %q", got, normalized[i][1])
			}
			with := []rows.Replacement{{Field: 1, Text: replacement}}
			want[i] = []string{replacement, normalized[i][1], normalized[i][2]}
			plain = row.Append(plain, nil)
			replaced = row.Append(replaced, with)
		}
		if !bytes.Equal(plain, in.Bytes()) {
			t.Fatalf("%q became %q", in.String(), plain)
		}
		back, err := csv.NewReader(bytes.NewReader(replaced)).ReadAll()
		if err != nil || fmt.Sprint(back) != fmt.Sprint(want) {
			t.Fatalf("%q reads back as %q, want %q, error %v", replaced, back, want, err)
		}
	})
}

// FuzzRows: no input panics, and what is not replaced comes out as it went in.
func FuzzRows(f *testing.F) {
	f.Add([]byte("{\"a\":\"x\"}\n\n{\"a\":1,\"a\":2}\n"), false)
	f.Add([]byte("\xef\xbb\xbfa,b\r\n1,\"x\ny\"\r\n,\n\"\"\"\",z"), true)
	f.Fuzz(func(t *testing.T, in []byte, isCSV bool) {
		format := rows.JSONL
		if isCSV {
			format = rows.CSV
		}
		r, err := rows.NewReader(bytes.NewReader(in), rows.Config{Format: format, Fields: []string{"a"}})
		if err != nil {
			return
		}
		out := bytes.Clone(r.Preamble())
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			out = row.Append(out, nil)
			if text, kind := row.Field(0); kind == rows.Text && row.Code == "" {
				again, err := readAll(string(r.Preamble())+string(row.Append(nil, []rows.Replacement{{Field: 0, Text: text}})), rows.Config{Format: format, Fields: []string{"a"}})
				if err != nil || len(again) != 1 {
					t.Fatalf("a rewritten row: %d rows, error %v", len(again), err)
				}
				if back, _ := again[0].Field(0); back != text {
					t.Fatalf("%q reads back as %q", text, back)
				}
			}
		}
		if !bytes.Equal(out, in) {
			t.Fatalf("%q became %q", in, out)
		}
		if r.Position().Offset != int64(len(in)) {
			t.Fatalf("the end is at %d of %d", r.Position().Offset, len(in))
		}
	})
}
