package bulk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"piivault/cmd/vault/internal/rows"
)

var update = flag.Bool("update", false, "write the golden files")

func goldenRun() (head, checkpoint) {
	id := sha256.Sum256([]byte("golden"))
	sum := sha256.Sum256([]byte("input"))
	h := head{Format: journalFormat, ImportID: id[:], Size: 5, SHA256: hex.EncodeToString(sum[:]), Plan: map[string]string{"command": "import", "--map": "a=b"}}
	cp := checkpoint{
		Batches: 3, Input: rows.Position{Offset: 4, Row: 2, Line: 3}, Out: 17, Reports: 9,
		Counts: Counts{Rows: 2, Items: 1, Refused: 1, Fields: []int64{2, 0}},
	}
	return h, cp
}

// TestJournalGolden: a journal that an earlier version wrote is resumed by
// this one, with the same keys.
func TestJournalGolden(t *testing.T) {
	golden := filepath.Join("testdata", "journal-1.golden")
	h, cp := goldenRun()
	path := filepath.Join(t.TempDir(), "j")
	j, _, fresh, err := openJournal(path, h)
	if err != nil || !fresh {
		t.Fatalf("fresh %v, error %v", fresh, err)
	}
	if err := j.append(cp); err != nil {
		t.Fatal(err)
	}
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	wrote, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, wrote, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(wrote, want) {
		t.Fatalf("wrote\n%s\nwant\n%s\nerror %v", wrote, want, err)
	}
	other := h
	other.ImportID = make([]byte, 32)
	j, last, fresh, err := openJournal(path, other)
	if err != nil || fresh || last.Input != cp.Input || last.Out != cp.Out || !bytes.Equal(j.head.ImportID, h.ImportID) {
		t.Errorf("read back %+v, %+v, fresh %v, error %v", j, last, fresh, err)
	}
	_ = j.file.Close()
}

// TestIdempotencyKeyGolden has keys computed with Python's hmac: another key for the same rows would be other
// tokens after an upgrade in the middle of an import.
func TestIdempotencyKeyGolden(t *testing.T) {
	h, _ := goldenRun()
	r := &run{files: &files{key: h.ImportID}}
	seen := map[string]bool{}
	for _, test := range []struct {
		ordinal int64
		live    []int
		want    string
	}{
		{0, []int{0}, "HejaQDNp6BMEV7dbwlwzPi_17HcApd0WgpaGidEI9Po"},
		{7, []int{0, 2, 5}, "UteLTcxjUY8XyninZYtjwcAmFH5JD4HIPiuR6hap6Bk"},
		{1, []int{0}, ""},
		{1, []int{0, 1}, ""},
		{0, []int{1, 0}, ""},
	} {
		got := r.idempotencyKey(test.ordinal, test.live)
		if test.want != "" && got != test.want {
			t.Errorf("key %s", got)
		}
		if seen[got] || len(got) != 43 {
			t.Errorf("key %s is there twice or short", got)
		}
		seen[got] = true
	}
}

// FuzzJournal: no bytes panic; a journal that loads is one that append wrote.
func FuzzJournal(f *testing.F) {
	h, cp := goldenRun()
	for _, name := range []string{"journal-1.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add(sealLine([]byte(`{"format":"piivault-journal/2"}`)))
	_ = cp
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, last, _, err := openJournal(path, h)
		if err != nil {
			return
		}
		defer func() { _ = j.file.Close() }()
		if err := j.append(last); err != nil {
			t.Fatal(err)
		}
		if _, err := j.file.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		if _, again, err := j.load(); err != nil || again.Input != last.Input {
			t.Errorf("%+v, then %+v, error %v", last, again, err)
		}
	})
}
