package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"piivault/internal/wal"
)

const dataDir = "/data"

// image is a directory's files and their bytes.
type image map[string][]byte

// imageOf is the directory as a kill at this moment leaves it.
func imageOf(tb testing.TB, fs vfs.FS) image {
	tb.Helper()
	all := vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))}
	mem, ok := fs.(*vfs.MemFS)
	if !ok {
		tb.Fatalf("%T has no image", fs)
	}
	clone := mem.CrashClone(all)
	names, err := clone.List(dataDir)
	if err != nil {
		tb.Fatal(err)
	}
	im := image{}
	for _, name := range names {
		f, err := clone.Open(dataDir + "/" + name)
		if err != nil {
			tb.Fatal(err)
		}
		im[name], err = io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			tb.Fatal(err)
		}
	}
	return im
}

// fs makes a file system of the image, with one file replaced (nil: removed).
func (im image) fs(t *testing.T, name string, content []byte) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll(dataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for n, b := range im {
		if n == name {
			b = content
		}
		if b == nil {
			continue
		}
		f, err := fs.Create(dataDir+"/"+n, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(bytes.Clone(b))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// log is the name of the newest write-ahead log.
func (im image) log() (name string) {
	for n := range im {
		if strings.HasSuffix(n, ".log") && n > name {
			name = n
		}
	}
	return name
}

func memOptions(fs vfs.FS) wal.Options {
	o := options(dataDir)
	o.FS = fs
	return o
}

// content opens a file system's directory and reads all of it.
func content(t *testing.T, fs vfs.FS) (map[string]string, error) {
	t.Helper()
	e, err := wal.OpenSmall(memOptions(fs))
	if err != nil {
		return nil, err
	}
	items := map[string]string{}
	err = e.Scan(table, nil, nil, func(k, v []byte) (bool, error) { items[string(k)] = string(v); return true, nil })
	return items, errors.Join(err, e.ScanIndex(table, nil, nil, func([]byte) (bool, error) { return true, nil }), e.Close())
}

// G1: a log cut anywhere in its last group loses that group as a whole, and
// nothing before it.
func TestATornTailLosesOnlyTheLastGroup(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, memOptions(fs))
	do(t, e, put("kept", "1"))
	before := imageOf(t, fs)
	e.Submit(put("last-a", "2"))
	do(t, e, put("last-b", "3"))
	after := imageOf(t, fs)
	log := after.log()
	if before.log() != log || len(before[log]) >= len(after[log]) {
		t.Fatal("the last group is not at the end of the newest log")
	}
	whole := 0
	for end := len(before[log]); end <= len(after[log]); end++ {
		items, err := content(t, after.fs(t, log, after[log][:end]))
		if err != nil {
			t.Fatalf("cut at %d: %v", end, err)
		}
		if items["kept"] != "1" {
			t.Fatalf("cut at %d: an acknowledged item is lost", end)
		}
		if (items["last-a"] == "") != (items["last-b"] == "") {
			t.Fatalf("cut at %d: half a group came back", end)
		}
		if items["last-a"] != "" {
			whole++
		}
	}
	if whole == 0 {
		t.Error("the whole log lost its last group")
	}
}

// lastGroup is more than the bytes of history's last group and its padding.
const lastGroup = 300

// history makes a directory with tables, a manifest and a log with several
// groups, and returns it as a crash would leave it, with its items.
func history(t *testing.T) (image, map[string]string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	e, err := wal.OpenSmall(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		do(t, e, put(fmt.Sprintf("k%02d", i), fmt.Sprintf("%d%s", i, padding)))
	}
	for i := range 4 {
		do(t, e, put(fmt.Sprintf("small%d", i), "s"))
	}
	im := imageOf(t, fs)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	items, err := content(t, im.fs(t, "", nil))
	if err != nil || len(items) != 16 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	return im, items
}

// G7, G1: a changed byte is met by an error at open or at the read, or it
// changes nothing. Only in the log's last group, which nothing follows, it
// cannot be told from a torn tail: that group, and no other, may be missing.
func TestAFlippedByteIsFound(t *testing.T) {
	im, want := history(t)
	tables := 0 // flips found in tables; one that a flush was writing holds nothing yet
	for name, b := range im {
		found := 0
		for at := 0; at < len(b); at += max(1, len(b)/150) {
			flipped := bytes.Clone(b)
			flipped[at] ^= 0x40
			items, err := content(t, im.fs(t, name, flipped))
			if err != nil {
				found++
				continue
			}
			if name == im.log() && at > len(b)-lastGroup {
				items["small3"] = want["small3"]
			}
			if len(items) != len(want) {
				t.Errorf("%s byte %d of %d: %d items instead of %d", name, at, len(b), len(items), len(want))
			}
			for k, v := range items {
				if want[k] != v {
					t.Errorf("%s byte %d of %d: %s is another", name, at, len(b), k)
				}
			}
		}
		t.Logf("%s: %d bytes, %d flips refused", name, len(b), found)
		if strings.HasSuffix(name, ".sst") {
			tables += found
		}
	}
	if tables == 0 {
		t.Error("no flip in a table was found")
	}
}

func TestAMissingFileIsRefused(t *testing.T) {
	im, _ := history(t)
	for _, kind := range []string{".sst", ".log", "MANIFEST-", "marker."} {
		left := image{}
		for name, b := range im {
			if !strings.Contains(name, kind) {
				left[name] = b
			}
		}
		if _, err := content(t, left.fs(t, "", nil)); err == nil || len(left) == len(im) {
			t.Errorf("opened without %s", kind)
		}
	}
}

// Whatever breaks inside Pebble, nobody hangs and the directory can be opened
// again. A process of its own, for it leaves Pebble's goroutines behind.
func TestABrokenPebbleIsLeftBehind(t *testing.T) {
	if os.Getenv(alone) != "" {
		breakPebble(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), alone+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func breakPebble(t *testing.T) {
	t.Helper()
	o := options(t.TempDir())
	e := open(t, o)
	do(t, e, put("a", "1"))
	p := e.Submit(func(tx *wal.Tx) error { tx.Put(table, []byte("b"), []byte("2")); e.Break(); return nil })
	var queued []*wal.Pending // too large for one commit
	for i := range 8 {
		queued = append(queued, e.SubmitSized(512<<10, put(fmt.Sprint(i), "2")))
	}
	if err := p.Wait(t.Context()); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("the op: %v", err)
	}
	for _, q := range queued {
		if err := q.Wait(t.Context()); !errors.Is(err, wal.ErrPoisoned) {
			t.Errorf("a queued op: %v", err)
		}
	}
	if err := e.Submit(put("c", "3")).Wait(t.Context()); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("a later op: %v", err)
	}
	if err := e.Close(); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("close: %v", err)
	}
	if items, _ := dump(t, open(t, o)); items["a"] != "1" || len(items) != 1 {
		t.Errorf("after reopening: %v", items)
	}
}
