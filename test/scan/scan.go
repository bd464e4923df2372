// Package scan looks for values and tokens in everything that a data directory
// holds (G4): each file's name and bytes as they lie, and, because Pebble
// compresses its blocks, cuts its logs into chunks and keeps superseded
// versions, every key and value that its tables, logs and the open database
// give up. A clean report means that none of the needles is there raw, in
// another case, as hex or as base64.
package scan

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Place is what part of a file or database held a hit.
type Place string

// The places.
const (
	InName   Place = "file name"
	InBytes  Place = "bytes"
	InKey    Place = "key"
	InValue  Place = "value"
	InRecord Place = "record" // of a log or manifest, chunks joined
)

// hidden stands for a name or key that itself holds a needle.
const hidden = "(holds a needle)"

// Hit is one needle found in one place. It does not quote what was found.
type Hit struct {
	File     string // path inside the directory; for the open database its own directory
	Place    Place
	Key      string // of the key or value
	Needle   string // the needle's name
	Encoding Encoding
}

// Report says what was looked at and what was found, sorted and without repeats.
type Report struct {
	Files, Databases, Tables, Logs int
	Keys                           int   // key and value pairs, superseded ones too
	Bytes                          int64 // of files, as they lie
	Hits                           []Hit
}

// Dir scans everything under dir for the needles. Databases in it must be
// closed; they are opened for reading only. Anything that cannot be decoded
// is an error: a scan that did not see everything proves nothing.
func Dir(dir string, needles []Needle) (Report, error) {
	s, err := New(needles)
	if err != nil {
		return Report{}, err
	}
	return s.Dir(dir)
}

// Scanner holds prepared needles; it serves any number of scans, one at a time.
type Scanner struct {
	needles       []Needle
	exact, folded *matcher
	buffer        []byte // the folded copy of what is being looked at
}

// New prepares the needles. Each must be at least MinNeedle bytes long.
func New(needles []Needle) (*Scanner, error) {
	s := &Scanner{needles: needles, exact: newMatcher(), folded: newMatcher()}
	for i, n := range needles {
		if err := n.patterns(int32(i), s.exact, s.folded); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Dir is the function Dir with this scanner's needles.
func (s *Scanner) Dir(dir string) (Report, error) {
	r := run{Scanner: s, seen: make(map[Hit]bool)}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if r.look(Hit{File: hidden, Place: InName}, []byte(name)) {
			name = hidden
		}
		if entry.IsDir() {
			return r.directory(path, name)
		}
		return r.file(path, name)
	})
	if err != nil {
		return Report{}, fmt.Errorf("scan: %w", err)
	}
	return r.finish(), nil
}

// Reader scans a stream, such as a log or a response, under a name of the caller's.
func (s *Scanner) Reader(name string, in io.Reader) (Report, error) {
	r := run{Scanner: s, seen: make(map[Hit]bool)}
	if err := r.stream(Hit{File: name, Place: InBytes}, in); err != nil {
		return Report{}, fmt.Errorf("scan: %s: %w", name, err)
	}
	return r.finish(), nil
}

// run is one scan under way.
type run struct {
	*Scanner
	report Report
	seen   map[Hit]bool
}

func (r *run) directory(path, name string) error {
	manifests, err := filepath.Glob(filepath.Join(path, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		return err
	}
	return r.database(path, name)
}

func (r *run) file(path, name string) error {
	r.report.Files++
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return r.stream(Hit{File: name, Place: InBytes}, f)
}

const chunk = 1 << 20

// stream looks at overlapping chunks, so that nothing is cut in two. A folded
// letter may be shorter than the one in the file, hence twice the length.
func (r *run) stream(at Hit, in io.Reader) error {
	overlap := 2 * max(r.exact.longest, r.folded.longest)
	buf := make([]byte, 0, chunk+overlap)
	for {
		n, err := io.ReadFull(in, buf[len(buf):len(buf)+chunk])
		buf = buf[:len(buf)+n]
		r.report.Bytes += int64(n)
		r.look(at, buf)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		keep := min(overlap, len(buf))
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// pair looks at one key and its value.
func (r *run) pair(file string, key, value []byte) {
	r.report.Keys++
	at := Hit{File: file, Place: InKey, Key: hidden}
	if !r.look(at, key) {
		at.Key = fmt.Sprintf("%.120q", key)
	}
	at.Place = InValue
	r.look(at, value)
}

// look records every needle that b holds and says whether there was one.
func (r *run) look(at Hit, b []byte) (hit bool) {
	found := func(p pattern) {
		hit = true
		at.Needle, at.Encoding = r.needles[p.needle].Name, p.encoding
		r.seen[at] = true
	}
	r.exact.find(b, found)
	r.buffer = fold(r.buffer[:0], b)
	r.folded.find(r.buffer, found)
	return hit
}

// finish drops the folded form of what was found raw in the same place.
func (r *run) finish() Report {
	for hit := range r.seen {
		raw := hit
		raw.Encoding = Raw
		if hit.Encoding == CaseFolded && r.seen[raw] {
			continue
		}
		r.report.Hits = append(r.report.Hits, hit)
	}
	slices.SortFunc(r.report.Hits, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Needle, b.Needle), cmp.Compare(a.Encoding, b.Encoding))
	})
	return r.report
}
