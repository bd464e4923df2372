package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

var errBlobs = errors.New("the database separates values into blob files, which this scanner does not decode")

// database looks at what the closed Pebble in dir holds: what a reader would
// see, and file by file what it no longer shows.
func (r *run) database(dir, name string) error {
	r.report.Databases++
	steps := []func(dir, name string) error{r.live, r.tables, r.logs, r.manifests}
	for _, step := range steps {
		if err := step(dir, name); err != nil {
			return fmt.Errorf("database %s: %w", name, err)
		}
	}
	return nil
}

// live reads every pair that the database shows, log included.
func (r *run) live(dir, name string) (err error) {
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true, Logger: quiet{}})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	it, err := db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		r.pair(name, it.Key(), it.Value())
	}
	return it.Close()
}

// tables reads every version of every pair in every table, obsolete ones too.
func (r *run) tables(dir, name string) error {
	if blobs, _ := filepath.Glob(filepath.Join(dir, "*.blob")); len(blobs) > 0 {
		return errBlobs
	}
	return each(dir, name, "*.sst", func(path, name string) error {
		r.report.Tables++
		return r.table(path, name)
	})
}

func (r *run) table(path, name string) (err error) {
	f, err := vfs.Default.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	options := new(pebble.Options)
	options.EnsureDefaults()
	table, err := sstable.NewReader(context.Background(), readable, options.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	it, err := table.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for kv := it.First(); kv != nil; kv = it.Next() {
		value, _, err := kv.Value(nil)
		if err != nil {
			return err
		}
		r.pair(name, kv.K.UserKey, value)
	}
	return it.Error()
}

// logs joins the chunks of every write-ahead log and reads its batches. What
// follows the last whole record was never committed; it is seen as bytes.
func (r *run) logs(dir, name string) error {
	logs, err := wal.Scan(wal.Dir{FS: vfs.Default, Dirname: dir})
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	for _, l := range logs {
		r.report.Logs++
		if err := r.log(l, filepath.Join(name, l.Num.String()+".log")); err != nil {
			return fmt.Errorf("log %s: %w", l.Num, err)
		}
	}
	return nil
}

func (r *run) log(l wal.LogicalLog, name string) (err error) {
	in := l.OpenForRead()
	defer func() { err = errors.Join(err, in.Close()) }()
	return r.records(name, func() (io.Reader, error) {
		next, _, err := in.NextRecord()
		return next, err
	}, func(b []byte) error {
		batch := batchrepr.Read(b)
		for {
			_, key, value, ok, err := batch.Next()
			if !ok {
				return err
			}
			r.pair(name, key, value)
		}
	})
}

// manifests joins the chunks of every manifest: it names the bounds of tables.
func (r *run) manifests(dir, name string) error {
	return each(dir, name, "MANIFEST-*", func(path, name string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in := record.NewReader(f, 0)
		return r.records(name, in.Next, func([]byte) error { return nil })
	})
}

// records looks at each record as a whole, then hands it to decode.
func (r *run) records(name string, next func() (io.Reader, error), decode func([]byte) error) error {
	for {
		in, err := next()
		if errors.Is(err, io.EOF) || record.IsInvalidRecord(err) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(in)
		if record.IsInvalidRecord(err) {
			return nil
		}
		if err != nil {
			return err
		}
		r.look(Hit{File: name, Place: InRecord}, b)
		if err := decode(b); err != nil {
			return err
		}
	}
}

func each(dir, name, pattern string, do func(path, name string) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	for _, path := range paths {
		base := filepath.Base(path)
		if err := do(path, filepath.Join(name, base)); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return nil
}

// quiet keeps Pebble's own messages, which quote keys, to itself.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) { panic("scan: the database is damaged") }
